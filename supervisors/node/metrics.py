"""A node's door for Prometheus, and who keeps it alive; needs the extra `metrics`.

It stands under the node's System supervisor, in a supervisor of its own. If that one cannot keep it up, it gives
up in order and the node lives on without it, as with the admin server.
"""

from __future__ import annotations

from functools import partial
from typing import Any, final

from runtime.edge.acceptor import NotLoopback, check_address
from runtime.errors import Misuse
from runtime.kernel.table import ProcessTable
from runtime.observe.facts import Facts
from runtime.observe.metrics import Exposition
from runtime.observe.scrape import SERVICE, MetricsServer

from ..children import start_child, which_children
from ..specs import child
from ..supervisor import Supervisor
from .node import Node


@final
class Metrics(Supervisor):
    """Keeps the metrics server alive."""

    strategy, intensity, period = "one_for_one", 5, 10.0

    def init(self, address: str, facts: Facts) -> Any:
        return [child("server", MetricsServer, address, partial(_exposition, facts), name="metrics.server")]


def _exposition(facts: Facts, table: ProcessTable) -> Exposition:
    return Exposition(table, facts)


async def open_metrics(node: Node, address: str, facts: Facts, *, remote: bool = False) -> str:
    """Serve a node's figures by HTTP at `/metrics`; returns where, when it listens.

    Args:
        address: `host:port`; port 0 takes a free one.
        facts: what is told of the node.
        remote: whether addresses beyond this machine are allowed. Whoever reaches it can read, and needs no
            password.

    Raises:
        Misuse: it is no such address, or beyond this machine and `remote` is not set.
        ChildRefused: start_failed, with the reason as its `detail`: it cannot listen there.
    """
    try:
        address = check_address(address, remote=remote)
    except NotLoopback:
        raise Misuse(
            f"wanted a loopback address for the figures, got {address!r}: whoever reaches it can read them, without "
            "a password. Listen on 127.0.0.1, or say that it may be remote (--metrics-remote)"
        ) from None
    (system,) = [one.pid for one in await which_children(node.root) if one.id == "system"]
    assert system is not None  # the root could not live without it
    await start_child(system, child("metrics", Metrics, address, facts, restart="transient"))
    return str(node.table.services[SERVICE])
