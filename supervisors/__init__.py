"""Banyan's supervisors: who keeps whom alive. A supervision tree, and the node that is its root."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .application import Application, check_settings
    from .dynamic import DynamicSupervisor
    from .node.boot import open_store
    from .node.node import Node, NodeStopped
    from .specs import BadCombination, BadSpec, ChildSpec, DuplicateChild, child
    from .strategy import ChildInfo, Counts, FailedToStart
    from .supervisor import (
        ChildRefused,
        Supervisor,
        count_children,
        delete_child,
        get_childspec,
        restart_child,
        start_child,
        terminate_child,
        which_children,
    )

__all__ = [
    "Application",
    "BadCombination",
    "BadSpec",
    "ChildInfo",
    "ChildRefused",
    "ChildSpec",
    "Counts",
    "DuplicateChild",
    "DynamicSupervisor",
    "FailedToStart",
    "Node",
    "NodeStopped",
    "Supervisor",
    "check_settings",
    "child",
    "count_children",
    "delete_child",
    "get_childspec",
    "open_store",
    "restart_child",
    "start_child",
    "terminate_child",
    "which_children",
]

# Where each name lives. They are imported on use (PEP 562): the command `banyan` lies in this package, and
# its --help must not wait for Trio.
_HOMES = {
    "Application": "application",
    "BadCombination": "specs",
    "BadSpec": "specs",
    "ChildInfo": "strategy",
    "ChildRefused": "supervisor",
    "ChildSpec": "specs",
    "Counts": "strategy",
    "DuplicateChild": "specs",
    "DynamicSupervisor": "dynamic",
    "FailedToStart": "strategy",
    "Node": "node.node",
    "NodeStopped": "node.node",
    "Supervisor": "supervisor",
    "check_settings": "application",
    "child": "specs",
    "count_children": "supervisor",
    "delete_child": "supervisor",
    "get_childspec": "supervisor",
    "open_store": "node.boot",
    "restart_child": "supervisor",
    "start_child": "supervisor",
    "terminate_child": "supervisor",
    "which_children": "supervisor",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{_HOMES[name]}", __name__)  # allowed: the names are the table's above
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
