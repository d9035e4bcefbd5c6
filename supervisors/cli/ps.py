"""`banyan ps`: the processes of a running node, those with the longest mailboxes first."""

from __future__ import annotations

import argparse
import json

from runtime.observe.processes import table_lines
from runtime.observe.protocol import Ps

from .target import add_target, ask


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many at most (default 100)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    said = ask(args, Ps(limit=args.limit))
    if args.json:
        print(json.dumps(said))
    else:
        for line in table_lines(said["processes"], said["total"]):
            print(line)
    return 0
