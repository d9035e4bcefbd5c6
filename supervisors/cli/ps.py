"""`banyan ps`: the processes of a running node, those with the longest mailboxes first, or in another order."""

from __future__ import annotations

import argparse
from typing import get_args

from runtime.observe import text
from runtime.observe.protocol import Ps
from runtime.observe.requests import SortBy

from .show import add_output, present, seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many at most (default 100)")
    parser.add_argument("--sort", choices=get_args(SortBy), default="mailbox", help="what the first ones have most of")
    parser.add_argument(
        "--window",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="how much that has changed in so many seconds from now",
    )
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    return present(args, Ps(limit=args.limit, sort=args.sort, window=args.window), text.ps, patience=args.window)
