"""What a node tells about itself: its name, its data, how long it has been up, where its gateways listen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from ..kernel.table import ProcessTable
from .requests import Level

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
        config: what it was started with, by key.
        settings: those of its application.
    """

    pid: int
    started: float
    version: str = "0"
    data: str | None = None
    application: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


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


# A setting of such a name is not shown.
_SECRET = re.compile("key|pass|secret|token|credential|auth", re.IGNORECASE)


def config_json(table: ProcessTable, facts: Facts, level: Level) -> dict[str, Any]:
    """What the node was started with, as the admin protocol sends it; what may be a secret is not in it."""
    settings = {key: "<redacted>" if _SECRET.search(key) else value for key, value in facts.settings.items()}
    return {
        "name": table.node,
        "data": facts.data,
        "application": facts.application,
        "level": level.describe(),
        "check_messages": table.check_messages,
        **facts.config,
        "settings": settings,
    }


def addresses(gateway: object) -> list[str]:
    """The addresses that a gateway's service names."""
    found = getattr(gateway, "addresses", gateway)
    if found is None:
        return []
    if isinstance(found, str) or not isinstance(found, Iterable):
        return [str(found)]
    return [str(one) for one in found]
