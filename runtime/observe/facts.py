"""What a node tells about itself: its name, its data, how long it has been up, where its gateways listen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from ..kernel.table import ProcessTable
from .protocol import Level

# Under this name an application may put, into `table.services`, the addresses at which clients reach it: a
# string, several, or an object with `addresses`.
GATEWAY = "gateway"


@final
@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node when its admin server starts.

    Attributes:
        pid: of the operating system.
        data: its data directory, or None.
        application: the name it was loaded by, or "".
        started: when the node came up, by its World's monotonic clock.
    """

    pid: int
    started: float
    version: str = "0"
    data: str | None = None
    application: str = ""


def node_json(table: ProcessTable, facts: Facts, level: Level) -> dict[str, Any]:
    """The node as the admin protocol sends it."""
    return {
        "name": table.node,
        "pid": facts.pid,
        "version": facts.version,
        "data": facts.data,
        "application": facts.application,
        "uptime": max(0.0, table.world.now() - facts.started),
        "processes": len(table.processes),
        "gateway": addresses(table.services.get(GATEWAY)),
        "level": level.describe(),
    }


def addresses(gateway: object) -> list[str]:
    """The addresses that a gateway's service names."""
    found = getattr(gateway, "addresses", gateway)
    if found is None:
        return []
    if isinstance(found, str) or not isinstance(found, Iterable):
        return [str(found)]
    return [str(one) for one in found]
