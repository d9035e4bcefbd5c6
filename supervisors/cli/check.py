"""`banyan check`: every page and every record of a data directory, while no node has it open."""

from __future__ import annotations

import argparse
import json

from runtime.durable.journal import StoreInUse

from ..node.boot import check_store
from .failure import Exit, Failure
from .progress import ProgressLine

# Problems named in the error; `--json` has a hundred.
_NAMED = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", metavar="DATA", help="the node's data directory")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.epilog = "Changes nothing. A node that runs is not disturbed: `banyan backup` checks the copy that it makes."


def run(args: argparse.Namespace) -> int:
    """Check it; 0 if it is clean, 5 if it is damaged."""
    progress = ProgressLine()
    try:
        report = check_store(args.data, progress)
    except StoreInUse as error:
        owner = f"process {error.pid}" if error.pid else "another process"
        raise Failure(
            f"cannot check {args.data}",
            f"{owner} has it open, and what changes meanwhile cannot be checked",
            "stop that node first, or make a backup: banyan backup checks the copy that it makes",
            Exit.REFUSED,
        ) from error
    finally:
        progress.end()
    if args.json:
        print(json.dumps(report.to_json()))
    if report.found:
        named = "\n".join(map(str, report.problems[:_NAMED]))
        more = report.found - min(len(report.problems), _NAMED)
        raise Failure(
            f"{args.data} is damaged",
            named + (f"\nand {more} more" if more else ""),
            "restore it from a backup into another directory: banyan restore BACKUP DATA; what is not named is whole",
            Exit.REFUSED,
        )
    if not args.json:
        print(
            f"clean: {report.keys} processes, {report.entries} entries, {report.snapshots} snapshots, "
            f"position {report.position}, epoch {report.epoch}, {report.bytes >> 10} KiB"
        )
    return Exit.OK
