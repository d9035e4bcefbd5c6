"""`banyan log`: the last journal entries of a durable process, with the events in them."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Log

from .show import add_output, clock, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", metavar="PROCESS", help="a durable process, or the key of one that is not alive")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="how many entries (default 10)")
    parser.add_argument("--before", type=int, metavar="POSITION", help="only those before this position")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the entries."""
    return present(args, Log(of=args.of, limit=args.limit, before=args.before), lambda said: text.log(said, clock))
