"""`banyan restore`: a data directory made from a backup, as it was at its end or at a point before."""

from __future__ import annotations

import argparse
import dataclasses
import json
from datetime import UTC, datetime

from ..node.boot import restore_store
from .failure import Exit
from .progress import ProgressLine


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("backup", metavar="BACKUP", help="what `banyan backup` has made")
    parser.add_argument("data", metavar="DATA", help="a new or an empty directory")
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--to", type=int, metavar="POSITION", help="keep the entries up to this one, counted over all processes"
    )
    point.add_argument(
        "--at",
        type=_time,
        metavar="TIME",
        help="keep what comes before the first entry that was accepted after this time: "
        "2026-01-31T18:00:00+01:00 (UTC if it names no zone), or seconds since 1970",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-01-31T18:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def run(args: argparse.Namespace) -> int:
    """Make the data directory."""
    progress = ProgressLine()
    try:
        kept, made = restore_store(args.backup, args.data, position=args.to, until=args.at, progress=progress)
    finally:
        progress.end()
    if args.json:
        print(json.dumps({"path": args.data, "backup": dataclasses.asdict(kept), **dataclasses.asdict(made)}))
    else:
        left_out = f", {made.dropped} entries after it left out" if made.dropped else ""
        print(f"restored {args.data}: up to position {made.position} of {kept.position}{left_out}, epoch {made.epoch}")
    return Exit.OK
