"""`banyan state`: the state of a process, as it allows it to be shown."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import State

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", metavar="PROCESS", help='a name, a key, or a pid like "<1.88>" or 1.88')
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the state."""
    return present(args, State(of=args.of), text.state)
