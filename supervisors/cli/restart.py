"""`banyan restart`: end a process of a running node in order, and wait until its supervisor has started it again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe.processes import printable
from runtime.observe.protocol import Restart

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="PROCESS", help='a name, a key, or a pid like "<1.88>" or 1.88')
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Restart it; it counts among its supervisor's restarts."""
    request = Restart(target=args.target, timeout=args.timeout)
    return present(args, request, _told, patience=1.0)


def _told(said: Any) -> Iterator[str]:
    yield printable(f"{said['name']} was {said['before']}, and is {said['pid']} now")
