"""`banyan timers`: the timers that are set, the next first."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Timers

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help="only those for this process")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many (default 100)")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the timers."""
    return present(args, Timers(of=args.of, limit=args.limit), text.timers)
