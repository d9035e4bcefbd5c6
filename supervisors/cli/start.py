"""`banyan start`: run an application as a node until it is told to stop.

    banyan start game.app:application --name room-1 --data ./room

The working directory comes first when the application is looked for, so that a user's own packages win. When
the whole tree is up, one line goes to stdout: `ready NAME PID SOCKET`.
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
from ..node.config import NodeConfig, read_file
from ..node.config import configure as configure_node
from ..node.interrupts import Interrupter
from ..node.load import load_application, put_folder_first
from ..node.node import Node
from .failure import Exit, Failure
from .logs import set_up_logging
from .main import version
from .signals import Stopper

logger = logging.getLogger("banyan")


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
    add("--config", metavar="FILE", help="instead of ./banyan.toml")
    parser.epilog = "Each option may also stand in banyan.toml, or in a variable like BANYAN_DRAIN_TIMEOUT."


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
        trio.run(_serve, config, application, path, data)
    return Exit.OK


async def _serve(config: NodeConfig, application: Application, path: Path, data: str | None) -> None:
    world = RealWorld()
    life = trio.CancelScope()
    stopper = Stopper(life.cancel, config.drain_timeout, world.exit)
    interrupter = Interrupter()
    with stopper.listening(), interrupter.listening():
        # The stopper's deadline is the one that counts: it also ends a node that computes without waiting.
        node = Node(
            config.name,
            data=config.data,
            world=world,
            stop_timeout=math.inf,
            check_messages=config.check_messages,
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
                await node.ensure_all_started(application)
                logger.info("node %s is up, pid %s, data %s", config.name, facts.pid, facts.data)
                print("ready", config.name, facts.pid, path, flush=True)
                await trio.sleep_forever()
            logger.info("node %s is stopping, within %g s", config.name, config.drain_timeout)
    logger.info("node %s has stopped", config.name)


def _told(config: NodeConfig) -> dict[str, object]:
    """What `banyan config` shows beside what the node knows of itself."""
    own = ("allow_eval", "admin_level", "drain_timeout", "listen", "log_level", "check_messages")
    return {key: getattr(config, key) for key in own}
