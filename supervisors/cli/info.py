"""`banyan info`: about a running node, or one process: what it runs, with whom it is bound, where it is."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Info

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help='a name, a key, or a pid like "<1.88>"; else the node')
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print what is known."""
    return present(args, Info(of=args.of), text.info)
