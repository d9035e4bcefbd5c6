"""`banyan store`: what the journal of a running node holds."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Store

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only keys that begin so")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many keys (default 20)")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the counts, and some keys."""
    return present(args, Store(prefix=args.prefix, limit=args.limit), text.store)
