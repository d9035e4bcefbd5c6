"""`banyan shards`: the shards of a cluster, who owns them, and what a running node knows of them."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Shards

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--of", metavar="NODE", help="only those that this node owns")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    return present(args, Shards(of=args.of), text.shards)
