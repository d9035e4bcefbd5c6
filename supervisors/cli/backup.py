"""`banyan backup`: a checked copy of a data directory as it is at one moment, whether its node runs or not."""

from __future__ import annotations

import argparse
import dataclasses
import json

from ..node.boot import back_up_store
from .failure import Exit
from .progress import ProgressLine


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", metavar="DATA", help="the node's data directory")
    parser.add_argument("destination", metavar="DEST", help="a new or an empty directory")
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long copying may take, because the node's file grows meanwhile (default 600)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Make the backup."""
    progress = ProgressLine()
    try:
        kept = back_up_store(args.data, args.destination, limit=args.timeout, progress=progress)
    finally:
        progress.end()
    if args.json:
        print(json.dumps({"path": args.destination, **dataclasses.asdict(kept)}))
    else:
        print(
            f"backup {args.destination}: {kept.keys} processes, {kept.entries} entries up to position "
            f"{kept.position}, {kept.bytes >> 10} KiB, checked"
        )
    return Exit.OK
