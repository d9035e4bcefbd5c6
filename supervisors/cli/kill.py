"""`banyan kill`: send an exit signal to a process of a running node, and let its supervisor do the rest."""

from __future__ import annotations

import argparse
import json

from runtime.observe.processes import printable
from runtime.observe.protocol import Kill

from .target import add_target, ask


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="PROCESS", help='a registered name, or a pid like "<1.88>"')
    parser.add_argument(
        "--reason", default="kill", help="kill (cannot be trapped, the default), shutdown, or any other text"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Send the signal; that the process has ended is not waited for."""
    said = ask(args, Kill(target=args.target, reason=args.reason))
    if args.json:
        print(json.dumps(said))
    else:
        print(printable(f"sent {said['reason']} to {said['name']} {said['pid']}"))
    return 0
