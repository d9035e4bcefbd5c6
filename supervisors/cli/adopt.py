"""`banyan adopt`: have a node serve the shards of another one of its machine that is down and does not come back.

banyan adopt room-2 -n room-1           room-1 serves them, out of room-2's own data directory
banyan adopt room-2 -n room-1 --undo    it lets go of that: room-2 can be started
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe.protocol import Adopt

from .failure import Exit
from .show import add_output, show
from .target import connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("node", metavar="NODE", help="who is down; banyan nodes lists them")
    parser.add_argument("--undo", action="store_true", help="give it back")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Adopt it; returns 0 when its shards are served."""
    with connect(args) as client:
        said = client.request(Adopt(node=args.node, undo=args.undo), timeout=args.timeout + 1)
    show(args, said, _given_back if args.undo else _adopted)
    return Exit.OK


def _adopted(said: Any) -> Iterator[str]:
    yield f"{said['by']} serves {said['shards']} shards out of {said['data']}, in the place of {said['node']}"


def _given_back(said: Any) -> Iterator[str]:
    has = f"{said['node']} can be started, and then has its {said['shards']} shards"
    yield f"{said['by']} has let go of {said['data']}: {has}"
