"""`banyan move`: give a shard to another node while it is used, and see it through.

banyan move 17 room-2             moves it; how far it is goes to stderr
banyan move 17 room-2 --dry-run   what would move, and for how long it would be frozen
"""

from __future__ import annotations

import argparse
from typing import Any

from runtime.observe import text
from runtime.observe.protocol import Move, Plan

from .failure import Exit, Failure
from .following import add_wait, follow_move
from .show import add_output, show
from .target import connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shard", type=_shard, metavar="SHARD", help="its number; banyan shards lists them")
    parser.add_argument("to", metavar="NODE", help="who is to have it; banyan nodes lists them")
    parser.add_argument("--dry-run", action="store_true", help="say what would move, and change nothing")
    add_wait(parser, 120.0)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Move it; returns 0 when it is the other node's."""
    with connect(args) as client:
        if args.dry_run:
            show(args, client.request(Plan(shard=args.shard, node=args.to), timeout=args.timeout + 1), text.forecast)
            return Exit.OK
        begun = client.request(Move(shard=args.shard, node=args.to), timeout=args.timeout + 1)
        fact = follow_move(client, begun, args.wait)
    if fact["phase"] == "void":
        show(args, fact, lambda _said: ())
        raise _void(fact)
    show(args, fact, text.moved)
    return Exit.OK


def _void(fact: Any) -> Failure:
    # Nothing had gone over yet: the other node would not have it.
    code = Exit.FAILED if fact["bytes"] else Exit.REFUSED
    what = f"shard {fact['shard']} was not moved to {fact['target']}"
    advice = f"{fact['source']} serves it as before; banyan moves tells more"
    return Failure(what, fact["why"] or "the move was given up", advice, code)


def _shard(text: str) -> int:
    if not text.isdecimal() or int(text) > 2**31:
        raise argparse.ArgumentTypeError(f"wanted a shard's number, from 0 up, got {text!r}")
    return int(text)
