"""`banyan crashes`: the last crashes of a running node, each with state, last messages and where it was raised."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe import text
from runtime.observe.protocol import Crashes, Record, Stalls

from .show import add_output, clock, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help="only those of this pid, name or kind")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many (default 20)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--stalls", action="store_true", help="the last times that a process held the loop instead")
    what.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="from now on keep the last N messages of every process for its crash (0: of none)",
    )
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the crashes."""
    if args.keep is not None:
        return present(args, Record(messages=args.keep), _kept)
    if args.stalls:
        return present(args, Stalls(limit=args.limit), lambda said: text.stalls(said, clock))
    return present(args, Crashes(of=args.of, limit=args.limit), lambda said: text.crashes(said, clock))


def _kept(said: Any) -> Iterator[str]:
    yield f"{said['told']} processes were told to keep their last {said['recording']} messages"
