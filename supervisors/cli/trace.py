"""`banyan trace`: what comes to and leaves some processes of a running node, until enough has passed.

It stops by itself, after so many messages or seconds, whichever comes first; what passed is printed then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from runtime.observe import export
from runtime.observe.protocol import Trace

from .show import add_output, present, seconds

_WHY = {"messages": "enough have passed", "seconds": "time is up", "ended": "all that were watched have ended"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="+", metavar="PROCESS", help="names, keys or pids; NAME* is all that begin so")
    parser.add_argument("--messages", type=int, default=100, metavar="N", help="how many at most (default 100)")
    parser.add_argument("--seconds", type=seconds, default=10.0, metavar="N", help="how long at most (default 10)")
    parser.add_argument("--mermaid", action="store_true", help="as a Mermaid sequence diagram")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Wait for the messages, and print them."""

    def lines(said: Any) -> Iterator[str]:
        if args.mermaid:
            yield from export.sequence(said["events"])
            return
        yield from export.lines(said["events"])
        told = f"{len(said['events'])} messages in {said['seconds']:.1f} s: {_WHY[said['stopped']]}"
        print(told, file=sys.stderr)

    request = Trace(of=args.of, messages=args.messages, seconds=args.seconds)
    return present(args, request, lines, patience=args.seconds)
