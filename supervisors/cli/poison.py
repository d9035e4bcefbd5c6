"""`banyan poison`: the commands that crashed their process again and again: list, show, replay, drop.

banyan poison                 those that wait
banyan poison show 12         one of them, with the state that it met
banyan poison replay 12       have the mended process handle it, once
banyan poison drop 12         give it up: its sender is refused
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe import text
from runtime.observe.protocol import Drop, Poison, Poisoned, Replay

from .failure import Exit, Failure
from .show import add_output, clock, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    what = ("list", "show", "replay", "drop")
    parser.add_argument("what", nargs="?", choices=what, default="list", help="list (default), show, replay or drop")
    parser.add_argument("position", nargs="?", type=int, metavar="AT", help="which one, as the list says it")
    parser.add_argument("--relaxed", action="store_true", help="of the relaxed store, not of the durable one")
    parser.add_argument("--closed", action="store_true", help="list also what was replayed or dropped")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many at most (default 100)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print them, or do what is asked with one."""
    if (args.position is None) != (args.what == "list"):
        wanted = "which one?" if args.position is None else "the list takes no number"
        raise Failure(f"wrong usage of `banyan poison {args.what}`", wanted, "banyan poison lists them", Exit.USAGE)
    match args.what:
        case "show":
            request = Poisoned(position=args.position, relaxed=args.relaxed)
            return present(args, request, lambda said: text.poisoned(said, clock))
        case "replay":
            return present(
                args,
                Replay(position=args.position, relaxed=args.relaxed, timeout=args.timeout),
                _replayed,
                patience=1.0,
            )
        case "drop":
            return present(args, Drop(position=args.position, relaxed=args.relaxed), _dropped)
    return present(args, Poison(closed=args.closed, limit=args.limit), lambda said: text.poison(said, clock))


def _replayed(said: Any) -> Iterator[str]:
    yield f"{said['key']} has handled command {said['position']}: {said['reply']}"


def _dropped(said: Any) -> Iterator[str]:
    yield f"command {said['position']} was dropped: its sender is refused from now on"
