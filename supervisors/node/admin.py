"""A node's admin server, and who keeps it alive.

It stands under the node's System supervisor, in a supervisor of its own. If that one cannot keep it up (the
socket's directory is gone for good), it gives up in order, and because it is transient nobody starts it
again: the node then lives on without its door, and its log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import trio

import runtime
from runtime.observe.admin import AdminServer
from runtime.observe.connection import Door
from runtime.observe.facts import Facts

from ..specs import child
from ..supervisor import (
    Supervisor,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from .node import Node

SERVER = "admin.server"


@final
class Admin(Supervisor):
    """Keeps the admin server alive."""

    strategy, intensity, period = "one_for_one", 5, 10.0

    def init(self, door: Door) -> Any:
        return [child("server", AdminServer, door, name=SERVER)]


async def open_door(
    node: Node,
    path: Path,
    facts: Facts,
    *,
    allow_eval: bool = False,
    stop: Callable[[], None] | None = None,
    names: Mapping[str, object] | None = None,
) -> None:
    """Start a node's admin server at a unix socket; returns when it listens.

    Args:
        path: of the socket, in a directory that only its owner may enter (`runtime.observe.places.claim`).
        facts: what it tells of the node.
        allow_eval: whether it runs typed lines. Whoever may connect can then do all that the node can.
        stop: asks the host to drain the node; None if nobody may from there.
        names: what a typed line finds beside the helpers, `node`, and the packages.

    Raises:
        ChildRefused: start_failed, with the reason as its `detail`: it cannot listen there.
    """
    found = {
        "node": node,
        "runtime": runtime,
        "trio": trio,
        **{verb.__name__: verb for verb in (which_children, restart_child, terminate_child, start_child, child)},
        **(names or {}),
    }
    door = Door(f"unix:{path}", node.root, facts, allow_eval, found, stop)
    (system,) = [one.pid for one in await which_children(node.root) if one.id == "system"]
    assert system is not None  # the root could not live without it
    await start_child(system, child("admin", Admin, door, restart="transient"))
