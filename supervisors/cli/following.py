"""Looking at moves until they are over: what `banyan move` and `banyan drain` wait for."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from runtime.observe.client import AdminClient
from runtime.observe.protocol import Moves

from .failure import Exit, Failure
from .progress import ProgressLine
from .show import pause

# Seconds between two looks; and for which nobody may know of a move before it is taken for lost.
LOOK: Final = 0.1
LOST: Final = 5.0

Said = Mapping[str, Any]


def add_wait(parser: argparse.ArgumentParser, default: float) -> None:
    """Declare --wait."""
    parser.add_argument(
        "--wait",
        type=_wait,
        default=default,
        metavar="SECONDS",
        help=f"see it through for so long (default {default:g})",
    )


def _wait(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"wanted a number of seconds, from 0 up, got {text!r}")
    return value


def follow_move(client: AdminClient, begun: Said, wait: float) -> Said:
    """Wait until a move is over, at most so many seconds; as it is then. Its progress goes to stderr.

    Raises:
        Failure: code 6: it goes on; code 1: the nodes that knew of it do not any more.
        Refusal: the node that is asked does not answer.
    """
    line, began = ProgressLine(), monotonic()
    seen: Said | None = None
    last = began
    try:
        while True:
            said = client.request(Moves(), timeout=client.timeout + 1)
            now = monotonic()
            found: Said | None = next((one for one in said["moves"] if one["id"] == begun["move"]), None)
            if found is not None:
                seen, last = found, now
                line(f"shard {found['shard']} {found['phase']}", found["bytes"], found["total"], size=True)
                if found["ended"]:
                    return found
            if now - last >= LOST and not said["silent"]:
                why = f"{begun['source']} and {begun['target']} know nothing of it: they were started anew"
                raise Failure(_what(begun), why, "banyan shards tells who owns it now")
            if now - began >= wait:
                phase = seen["phase"] if seen is not None else "out of sight"
                why = f"after {wait:g} s it is {phase}; it goes on"
                raise Failure(_what(begun), why, "banyan moves --watch shows how", Exit.TIMEOUT)
            pause(client, LOOK)
    finally:
        line.end()


def follow_drain(client: AdminClient, standing: Said, wait: float) -> Said:
    """Wait until a node that drains has no shards, at most so many seconds; how it stands then, and what it cost.

    Raises: as `follow_move`; Failure with code 1 also if its drain was undone meanwhile, or it was started again.
    """
    line, began = ProgressLine(), monotonic()
    node, total, life = standing["node"], standing["owned"], standing.get("creation")
    what = f"node {node} was not drained"
    ended: dict[str, Said] = {}
    why = ""
    try:
        while True:
            said = client.request(Moves(of=node), timeout=client.timeout + 1)
            found = [one for one in said["nodes"] if one["node"] == node]
            for one in said["moves"]:
                if one["source"] == node and one["ended"] and one["id"] not in ended:
                    ended[one["id"]] = one
            if found:
                (standing,) = found
                line("shards", max(total - standing["owned"], 0), total)
                if standing["why"] != why:
                    why = standing["why"]
                    if why:
                        line.end()
                        print(f"{node}: {why}", file=sys.stderr)
                if standing.get("creation") != life:
                    why = f"{node} was started again meanwhile, and takes part again"
                    raise Failure(what, why, f"banyan drain {node}")
                if not standing["owned"]:
                    return {**standing, "moved": total, "seconds": round(monotonic() - began, 3)}
                if not standing["draining"]:
                    raise Failure(what, "its drain was undone", f"banyan drain {node}")
            if monotonic() - began >= wait:
                left = f"after {wait:g} s it has {standing['owned']} of {total} shards; it goes on"
                left += f" ({why})" if why else ""
                raise Failure(
                    f"node {node} is not drained yet", left, f"banyan moves --of {node} --watch", Exit.TIMEOUT
                )
            pause(client, LOOK)
    finally:
        line.end()


def _what(begun: Said) -> str:
    return f"the move of shard {begun['shard']} to {begun['target']} was not seen through"
