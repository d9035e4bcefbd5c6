"""Banyan's supervisors: who keeps whom alive. A supervision tree, and the node that is its root."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .application import Application, check_settings, current_application, get_all_env, get_env, put_env
    from .backoff import Backoff
    from .children import (
        ChildRefused,
        count_children,
        delete_child,
        get_childspec,
        restart_child,
        start_child,
        terminate_child,
        which_children,
    )
    from .dynamic import DynamicSupervisor
    from .node.applications import NotStarted
    from .node.boot import open_store
    from .node.cluster import Cluster
    from .node.node import Node, NodeStopped
    from .partition import PartitionSupervisor, partition_count, partition_of
    from .shards.failures import BadKey, EntityNotStarted, EntityRaised, NoOwner, UnknownRegion
    from .shards.region import Region, ShardFact, region, shard_facts
    from .specs import BadCombination, BadSpec, ChildSpec, DuplicateChild, check_childspecs, child
    from .strategy import ChildInfo, Counts, FailedToStart
    from .supervisor import Supervisor
    from .tasks import Task, TaskExit, TaskReply, TaskSupervisor, async_stream

__all__ = [
    "Application",
    "Backoff",
    "BadCombination",
    "BadKey",
    "BadSpec",
    "ChildInfo",
    "ChildRefused",
    "ChildSpec",
    "Cluster",
    "Counts",
    "DuplicateChild",
    "DynamicSupervisor",
    "EntityNotStarted",
    "EntityRaised",
    "FailedToStart",
    "NoOwner",
    "Node",
    "NodeStopped",
    "NotStarted",
    "PartitionSupervisor",
    "Region",
    "ShardFact",
    "Supervisor",
    "Task",
    "TaskExit",
    "TaskReply",
    "TaskSupervisor",
    "UnknownRegion",
    "async_stream",
    "check_childspecs",
    "check_settings",
    "child",
    "count_children",
    "current_application",
    "delete_child",
    "get_all_env",
    "get_childspec",
    "get_env",
    "open_store",
    "partition_count",
    "partition_of",
    "put_env",
    "region",
    "restart_child",
    "shard_facts",
    "start_child",
    "terminate_child",
    "which_children",
]

# Where each name lives. They are imported on use (PEP 562): the command `banyan` lies in this package, and
# its --help must not wait for Trio.
_HOMES = {
    "Application": "application",
    "Backoff": "backoff",
    "BadCombination": "specs",
    "BadKey": "shards.failures",
    "BadSpec": "specs",
    "ChildInfo": "strategy",
    "ChildRefused": "children",
    "ChildSpec": "specs",
    "Cluster": "node.cluster",
    "Counts": "strategy",
    "DuplicateChild": "specs",
    "DynamicSupervisor": "dynamic",
    "EntityNotStarted": "shards.failures",
    "EntityRaised": "shards.failures",
    "FailedToStart": "strategy",
    "NoOwner": "shards.failures",
    "Node": "node.node",
    "NodeStopped": "node.node",
    "NotStarted": "node.applications",
    "PartitionSupervisor": "partition",
    "Region": "shards.region",
    "ShardFact": "shards.region",
    "Supervisor": "supervisor",
    "Task": "tasks",
    "TaskExit": "tasks",
    "TaskReply": "tasks",
    "TaskSupervisor": "tasks",
    "UnknownRegion": "shards.failures",
    "async_stream": "tasks",
    "check_childspecs": "specs",
    "check_settings": "application",
    "child": "specs",
    "count_children": "children",
    "current_application": "application",
    "delete_child": "children",
    "get_all_env": "application",
    "get_childspec": "children",
    "get_env": "application",
    "open_store": "node.boot",
    "partition_count": "partition",
    "partition_of": "partition",
    "put_env": "application",
    "region": "shards.region",
    "restart_child": "children",
    "shard_facts": "shards.region",
    "start_child": "children",
    "terminate_child": "children",
    "which_children": "children",
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
