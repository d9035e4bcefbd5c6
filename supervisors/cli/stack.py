"""`banyan stack`: where a process of a running node waits; without one, where each thread of its program is.

The second is answered by the node's back door, also while a process holds the loop and nothing else is.
"""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Stack, Stacks

from .show import add_output, present, show
from .target import connect_back


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help="a name, a key or a pid; else all threads")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the calls, outermost first."""
    if args.of is not None:
        return present(args, Stack(of=args.of), text.stack)
    with connect_back(args) as client:
        show(args, client.request(Stacks()), text.stacks)
    return 0
