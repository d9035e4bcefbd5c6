"""`banyan drain`: have a node give all its shards to others, and wait until it has none.

banyan drain room-2            room-2 keeps running; then it can be stopped, and nobody has to wait for it
banyan drain room-2 --undo     it takes part again
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe.client import nodes
from runtime.observe.protocol import Drain

from .failure import Exit
from .following import add_wait, follow_drain
from .show import add_output, show
from .target import connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("node", nargs="?", metavar="NODE", help="who is to have no shards; by default who is asked")
    parser.add_argument("--undo", action="store_true", help="let it take part again")
    add_wait(parser, 300.0)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Drain it; returns 0 when it has no shards."""
    if args.node is not None and args.name is None and args.data is None:
        # Whom it is about can be asked as well as anybody, if it runs here.
        args.name = next((one.name for one in nodes() if one.name == args.node), None)
    with connect(args) as client:
        said = client.request(Drain(node=args.node, undo=args.undo), timeout=args.timeout + 1)
        if not args.undo:
            said = follow_drain(client, said, args.wait)
    show(args, said, _undone if args.undo else _drained)
    return Exit.OK


def _drained(said: Any) -> Iterator[str]:
    yield f"{said['node']} has no shards: {said['moved']} went to others in {said['seconds']:.1f} s"


def _undone(said: Any) -> Iterator[str]:
    yield f"{said['node']} takes part again; it has {said['owned']} shards"
