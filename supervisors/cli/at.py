"""`banyan at`: the state of a durable process at any position of its journal, and what changed there."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import At

from .show import add_output, clock, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", metavar="PROCESS", help="a durable process")
    parser.add_argument(
        "position",
        type=int,
        nargs="?",
        help="0 is before the first entry, -1 the one before the last; the last if left out",
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state and its change."""
    return present(args, At(of=args.of, position=args.position), lambda said: text.at(said, clock))
