"""`banyan start`: run an application as a node until it is told to stop.

    banyan start game.app:application --name room-1 --data ./room

The working directory comes first when the application is looked for, so that a user's own packages win. When
the whole tree is up, one line goes to stdout: `ready NAME PID SOCKET`.

A node of a cluster that is told to stop gives its shards to the others first, for as long as SHARE of its deadline;
what it still has then waits for its next life. It does not if nobody is there who stays: the others are gone, drain
themselves, or are told to stop by whoever started all of them, who says STOP on its stdin or lets go of that.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
from pathlib import Path

import trio

from runtime.observe.facts import Facts
from runtime.observe.places import claim
from runtime.observe.protocol import Level

from ..application import Application
from ..node.admin import open_door
from ..node.boot import RealWorld
from ..node.cluster import Cluster
from ..node.config import CLUSTER_KEYS, NodeConfig, read_file
from ..node.config import configure as configure_node
from ..node.interrupts import Interrupter
from ..node.load import load_application, put_folder_first
from ..node.node import Node
from ..shards.rebalancer import drained
from .failure import Exit, Failure
from .logs import set_up_logging
from .main import version
from .signals import Stopper

logger = logging.getLogger("banyan")

# What a parent says to nodes that all stop.
STOP = b"stop\n"
# The part of the deadline for an ordered stop in which shards may be given away.
SHARE = 2 / 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add(
        "application",
        nargs="?",
        metavar="MODULE:ATTRIBUTE",
        help="a Supervisor, an Application, or a function",
    )
    add("-n", "--name", help="what the node is called (default: node)")
    add("--data", metavar="DIR", help="where its processes keep their state; without it, nothing is kept")
    add("--listen", metavar="ADDRESS", help="where the application listens: its setting 'listen'")
    add("--set", action="append", dest="settings", metavar="KEY=VALUE", help="a setting of the application")
    add("--allow-eval", action="store_true", default=None, help="let `banyan remsh` run lines inside the node")
    add("--admin-level", metavar="LEVEL", help="the most that its admin socket does: view, trace or act (default act)")
    add("--drain-timeout", metavar="SECONDS", help="how long an ordered stop may take (default 30)")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error (default info)")
    add(
        "--check-messages",
        action="store_true",
        default=None,
        help="for development: find messages that were changed after they were sent (slow)",
    )
    add("--preempt", metavar="SECONDS|off", help="how long a handler may hold the loop until it is ended (default 1)")
    add("--gc", metavar="POLICY", help="the garbage collector: freeze what the start has made (default), or python")
    add("--metrics", metavar="ADDRESS", help="where Prometheus may read its figures, such as 127.0.0.1:9464")
    add("--metrics-remote", action="store_true", default=None, help="let that address be beyond this machine")
    add_cluster(parser)
    add("--with-parent", action="store_true", help=argparse.SUPPRESS)
    add("--config", metavar="FILE", help="instead of ./banyan.toml")
    parser.epilog = "Each option may also stand in banyan.toml, or in a variable like BANYAN_DRAIN_TIMEOUT."


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Declare how the node is part of a cluster."""
    group = parser.add_argument_group("other nodes")
    add = group.add_argument
    add("--address", metavar="ADDRESS", help="where other nodes reach it: host:port or unix:PATH")
    add("--advertise", metavar="ADDRESS", help="what they are told instead, if they cannot dial that one")
    add("--certs", metavar="DIR", help="its keys, made by `banyan certs`")
    add("--clear", action="store_true", default=None, help="no keys: clear text, on this machine only")
    add("--coordination", metavar="DIR", help="what the nodes of this machine agree in: the same for all of them")
    add("--shards", metavar="N", help="how many shards a new cluster is to have (default 256)")
    add("--peer", action="append", dest="peers", metavar="NAME=ADDRESS", help="where another node is")
    add("--cluster-id", metavar="ID", help="the cluster's name, if there is no coordination directory")


def cluster_of(config: NodeConfig) -> Cluster | None:
    """What a configuration says of other nodes; None if it says nothing."""
    if not config.clustered:
        return None
    return Cluster(
        listen=config.address,
        advertise=config.advertise,
        peers=config.peers,
        certs=config.certs,
        clear=config.clear,
        coordination=config.coordination,
        shards=config.shards,
        id=config.cluster_id or "",
        rebalance=config.rebalance,
        grace=config.grace,
    )


def run(args: argparse.Namespace) -> int:
    """Run the node; returns 0 when it was told to stop and did."""
    file = read_file(args.config or os.environ.get("BANYAN_CONFIG") or None)
    config = configure_node(vars(args), os.environ, file)
    if config.application is None:
        raise Failure(
            "no application was named",
            "neither the command line, nor BANYAN_APPLICATION, nor banyan.toml names one",
            "banyan start module:attribute",
            Exit.USAGE,
        )
    put_folder_first(Path.cwd())
    application = load_application(config.application, config.settings)
    set_up_logging(config.log_level, config.application.partition(":")[0].partition(".")[0])
    data = None if config.data is None else os.path.abspath(config.data)
    with claim(config.name) as path:
        trio.run(_serve, config, application, path, data, args.with_parent)
    return Exit.OK


async def _serve(config: NodeConfig, application: Application, path: Path, data: str | None, with_parent: bool) -> None:
    world = RealWorld()
    life = trio.CancelScope()
    stopper = Stopper(life.cancel, config.drain_timeout, world.exit)
    interrupter = Interrupter()
    all_stop = trio.Event()
    if with_parent:
        trio.lowlevel.spawn_system_task(_outlive_nobody, stopper, all_stop)
    with stopper.listening(), interrupter.listening():
        # The stopper's deadline is the one that counts: it also ends a node that computes without waiting.
        node = Node(
            config.name,
            data=config.data,
            world=world,
            stop_timeout=math.inf,
            check_messages=config.check_messages,
            preempt=None if config.preempt == "off" else config.preempt,
            cluster=cluster_of(config),
            gc_policy=config.gc,
        )
        async with node:
            facts = Facts(
                pid=os.getpid(),
                started=world.now(),
                version=version(),
                data=data,
                application=config.application or application.label,
                config=_told(config),
                settings=config.settings,
            )
            with life:
                level = Level[config.admin_level.upper()]
                await open_door(
                    node,
                    path,
                    facts,
                    allow_eval=config.allow_eval,
                    level=level,
                    stop=stopper.begin,
                    interrupt=interrupter.interrupt,
                )
                if config.metrics is not None:
                    await _open_metrics(node, config.metrics, facts, config.metrics_remote)
                await node.ensure_all_started(application)
                kept = f"data {facts.data}" if facts.data is not None else "keeps nothing"
                logger.info("node %s is up, pid %s, %s", config.name, facts.pid, kept)
                print("ready", config.name, facts.pid, path, flush=True)
                await trio.sleep_forever()
            logger.info("node %s is stopping, within %g s", config.name, config.drain_timeout)
            if config.coordination is not None:
                await _give_away(node, all_stop, config.drain_timeout * SHARE)
    logger.info("node %s has stopped", config.name)


async def _give_away(node: Node, all_stop: trio.Event, within: float) -> None:
    """Have the shards go to nodes that stay, if there are any."""
    left: str | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until, all_stop, nursery.cancel_scope)
        with trio.move_on_after(within):
            left = await drained(node.table)
        nursery.cancel_scope.cancel()
    if all_stop.is_set():
        logger.info("node %s keeps its shards: all nodes stop", node.name)
    elif left is None:
        logger.warning("node %s keeps shards, which wait for its next start: it has no more time", node.name)
    elif left:
        logger.info("node %s keeps its shards, which wait for its next start: %s", node.name, left)
    else:
        logger.info("node %s has given its shards to others", node.name)


async def _until(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _outlive_nobody(stopper: Stopper, all_stop: trio.Event) -> None:
    """Stop when whoever has started this program is gone, who holds the other end of stdin and says STOP at most.

    That comes before a signal, which is heard also while the loop is held.
    """
    try:
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            while await stdin.receive_some():
                all_stop.set()
    except (OSError, trio.BrokenResourceError):
        pass  # it was never there
    all_stop.set()
    stopper.begin()


async def _open_metrics(node: Node, address: str, facts: Facts, remote: bool) -> None:
    try:
        from ..node.metrics import open_metrics
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("prometheus_client"):
            raise
        advice = "pip install 'banyan-runtime[metrics]', or leave --metrics out"
        raise Failure("no figures can be served", "prometheus_client is not installed", advice, Exit.USAGE) from None
    logger.info("figures for Prometheus at http://%s/metrics", await open_metrics(node, address, facts, remote=remote))


def _told(config: NodeConfig) -> dict[str, object]:
    """What `banyan config` shows beside what the node knows of itself."""
    own = ("allow_eval", "admin_level", "drain_timeout", "listen", "log_level", "check_messages", "preempt", "gc")
    return {key: getattr(config, key) for key in (*own, "metrics", *(CLUSTER_KEYS if config.clustered else ()))}
