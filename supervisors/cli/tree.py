"""`banyan tree`: the supervision tree of a running node, as text or as JSON."""

from __future__ import annotations

import argparse
import json

from runtime.observe.processes import printable, tree_from_json
from runtime.observe.protocol import Tree

from .target import add_target, ask


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help="only the part below this pid or name")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tree."""
    said = ask(args, Tree(of=args.of))
    if args.json:
        print(json.dumps(said))
    else:
        for line in tree_from_json(said).lines():
            print(printable(line))
    return 0
