"""`banyan interrupt`: break what holds the loop of a running node, as `banyan stack` shows it.

The process that computes without ever waiting ends with a crash, and its supervisor starts it again. It is
asked at the node's back door, which answers also while nothing else does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe.processes import printable
from runtime.observe.protocol import Break

from .show import add_output, show
from .target import connect_back


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Have it interrupted; exit 4 if nothing held the loop."""
    with connect_back(args) as client:
        show(args, client.request(Break(), timeout=args.timeout + 5.0), _told)
    return 0


def _told(said: Any) -> Iterator[str]:
    yield printable(f"interrupted {said['interrupted']}")
