"""`banyan resume`: let a suspended process of a running node go on, with all that waits for it in order."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe.processes import printable
from runtime.observe.protocol import Resume

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="PROCESS", help='a name, a key, or a pid like "<1.88>" or 1.88')
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Let it go on; returns when it does."""
    request = Resume(target=args.target, timeout=args.timeout)
    return present(args, request, _told, patience=1.0)


def _told(said: Any) -> Iterator[str]:
    yield printable(f"{said['name']} {said['pid']} is {said['state']}")
