"""`banyan moves`: the moves of shards that are under way, and the last ones; `--abort` gives one up."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe import text
from runtime.observe.protocol import Abort, Moves

from .failure import Exit, Failure
from .show import add_output, clock, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--of", metavar="NODE", help="only those from or to this node")
    parser.add_argument("--abort", metavar="ID", help="give up this one, as long as its shard is not sealed")
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the list, or give one up."""
    if args.abort is None:
        return present(args, Moves(of=args.of), lambda said: text.moves(said, clock), patience=1.0)
    if args.of is not None or args.watch is not None:
        why = "--abort takes nothing else"
        raise Failure("wrong usage of `banyan moves`", why, "banyan moves --abort ID", Exit.USAGE)
    return present(args, Abort(move=args.abort), _given_up, patience=2.0)


def _given_up(said: Any) -> Iterator[str]:
    yield f"the move of shard {said['shard']} to {said['target']} is given up; {said['source']} serves it as before"
