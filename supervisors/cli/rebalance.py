"""`banyan rebalance`: even out the load among the nodes now; `--plan` says which moves that would be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe import text
from runtime.observe.protocol import Plan, Rebalance

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--plan", action="store_true", help="say which shards would move, and change nothing")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, or say what would be done."""
    if args.plan:
        return present(args, Plan(), text.plan, patience=1.0)
    return present(args, Rebalance(), _asked, patience=1.0)


def _asked(said: Any) -> Iterator[str]:
    yield f"asked {', '.join(said['asked']) or 'nobody'}: banyan moves --watch shows what moves"
    if said["silent"]:
        yield f"no word from {', '.join(said['silent'])}"
