"""Banyan's supervisors: who keeps whom alive. A supervision tree, and the node that is its root."""

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
