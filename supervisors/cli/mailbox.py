"""`banyan mailbox`: the messages that wait for a process, and the one in its hand; none is taken out."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Mailbox

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", metavar="PROCESS", help='a name, a key, or a pid like "<1.88>" or 1.88')
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many messages (default 20)")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the messages."""
    return present(args, Mailbox(of=args.of, limit=args.limit), text.mailbox)
