"""`banyan up`: run an application on several nodes of this machine, each a process of its own.

    banyan up game.app:application --nodes 2 --data ./room

It takes what `banyan start` takes, for all of them. The nodes are called NAME-1, NAME-2 and so on; each keeps its
state in a folder of that name below the data directory, and all agree in its folder `coordination`. They speak over
unix sockets that only this user can open, in clear text, or with the keys in --certs, which are made if they are
missing.

This program is a supervisor like any other, whose children are the nodes: one that ends is started again, on its own
data, unless that happens too often. One that is told to stop alone (SIGTERM) gives its shards to the others before;
when all are stopped, by a signal to this program, none does. What goes to stdout are lines of its nodes, `ready NAME
PID SOCKET`, and `joined NAME...` whenever all of them have found one another and serve every shard. If they have not
for long, the log on stderr says what they wait for.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import trio

from runtime.cluster.tls import AUTHORITY, NODE
from runtime.cluster.troubles import GONE, so_many
from runtime.errors import BanyanError
from runtime.kernel.exits import SHUTDOWN, ProcessExit
from runtime.observe.client import AdminClient
from runtime.observe.places import private_directory, socket_of
from runtime.observe.protocol import Nodes, Refusal, Shards

from ..backoff import Backoff
from ..node.applications import wait_for_end
from ..node.boot import RealWorld
from ..node.config import NodeConfig, read_file
from ..node.config import configure as configure_node
from ..node.load import load_application, put_folder_first
from ..node.node import Node
from ..specs import child
from ..supervisor import Supervisor
from . import start
from .failure import Exit, Failure
from .logs import set_up_logging
from .signals import Stopper

logger = logging.getLogger("banyan")

MOST_NODES = 64
# Restarts of nodes, all together, allowed in so many seconds.
INTENSITY, PERIOD = 10, 60.0
# Seconds between two looks at whether all have joined; after so many seconds without, what they wait for is told.
LOOK_SECONDS = 0.1
LONG_SECONDS = 10.0
# What a node ends by, beyond its own deadline, before it is killed.
GRACE = 5.0
# What `start` takes and each node is told as it was given here.
_SAME = ("allow_eval", "admin_level", "drain_timeout", "log_level", "check_messages", "preempt", "gc", "metrics_remote")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: those of `banyan start`, and how many nodes."""
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="how many nodes (default 2)")
    # For whoever kills them on purpose: restarts of nodes, all together, allowed in PERIOD seconds.
    parser.add_argument("--restarts", type=int, default=INTENSITY, help=argparse.SUPPRESS)
    start.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Run the nodes; returns 0 when it was told to stop and all of them did."""
    file = read_file(args.config or os.environ.get("BANYAN_CONFIG") or None)
    config = configure_node(vars(args), os.environ, file)
    _check(args.nodes, config)
    put_folder_first(Path.cwd())
    load_application(str(config.application), config.settings)  # what no node could start is refused here, once
    set_up_logging(config.log_level)
    places = _places(args, config)
    fleet = Fleet(places, config.drain_timeout, args.restarts)
    trio.run(_serve, fleet, config)
    if fleet.failure is not None:
        raise fleet.failure
    return Exit.OK


def _check(nodes: int, config: NodeConfig) -> None:
    if config.application is None:
        why = "neither the command line, nor BANYAN_APPLICATION, nor banyan.toml names one"
        raise Failure("no application was named", why, "banyan up module:attribute --data DIR", Exit.USAGE)
    if not 1 <= nodes <= MOST_NODES:
        why = f"wanted 1 to {MOST_NODES} of them, got {nodes}"
        raise Failure("so many nodes cannot be started", why, "one for each core is usual", Exit.USAGE)
    if config.data is None or config.data == ":memory:":
        why = "a node that is restarted finds its shards in its data directory"
        raise Failure("no data directory was named", why, "banyan up module:attribute --data DIR", Exit.USAGE)
    given = [key for key in ("address", "advertise", "coordination", "peers", "cluster_id") if getattr(config, key)]
    if given:
        why = "each node has its own, which this command gives it"
        raise Failure(f"{given[0]} cannot be set here", why, "leave it out, or use `banyan start`", Exit.USAGE)


@final
@dataclass(frozen=True, slots=True)
class Berth:
    """Where a node is to run: its name, and the command that starts it."""

    name: str
    command: tuple[str, ...]


def _places(args: argparse.Namespace, config: NodeConfig) -> list[Berth]:
    folder, data = private_directory(), Path(os.path.abspath(str(config.data)))
    names = [f"{config.name}-{number}" for number in range(1, args.nodes + 1)]
    certs = _keys(Path(os.path.abspath(config.certs)), names) if config.certs is not None else None
    shared = [str(config.application), "--with-parent", "--coordination", str(data / "coordination")]
    shared += ["--certs", certs] if certs is not None else ["--clear"]
    shared += ["--shards", str(config.shards)] if config.shards is not None else []
    shared += ["--config", args.config] if args.config else []
    for key in _SAME:
        value = getattr(args, key)
        if value is not None:
            shared += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
    for setting in args.settings or ():
        shared += ["--set", setting]
    command = [sys.executable, *_warnings(), "-m", "supervisors.cli.main", "start", *shared]
    berths = []
    for number, name in enumerate(names):
        own = ["--name", name, "--data", str(data / name)]
        own += ["--address", f"unix:{socket_of(name, folder).with_suffix('.link')}"]
        for key in ("listen", "metrics"):
            address = getattr(config, key)
            own += [f"--{key}", beside(address, number)] if address is not None else []
        berths.append(Berth(name, (*command, *own)))
    return berths


def beside(address: str, number: int) -> str:
    """The address of the node with this number: its port is so much higher, unless the system chooses it."""
    host, colon, port = address.rpartition(":")
    return f"{host}{colon}{int(port) + number}" if colon and port.isdigit() and int(port) else address


def _warnings() -> Iterable[str]:
    return [part for option in sys.warnoptions for part in ("-W", option)]


def _keys(directory: Path, names: list[str]) -> str:
    """The directory of the nodes' keys; what is missing is made."""
    try:
        from .certs import init, issue
    except ModuleNotFoundError as error:
        advice = "pip install 'banyan-runtime[tls]', or leave --certs out: what is said stays on this machine"
        raise Failure("keys cannot be made", f"{error.name} is not installed", advice, Exit.USAGE) from None
    if not (directory / AUTHORITY).exists():
        init(directory)
    for name in names:
        if not (directory / f"{NODE}-{name}.pem").exists():
            issue(directory, NODE, name)
    return str(directory)


class NodeEnded(BanyanError):
    """A node's program has ended; `name`, and its exit `code`, negative for a signal."""

    def __init__(self, name: str, code: int) -> None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"node {name} {how}")
        self.name = name
        self.code = code


@final
class Fleet:
    """The nodes' programs, as far as they live.

    Attributes:
        failure: what the command is to end with, if not with 0.
        life: cancelled when all are to be stopped.
    """

    def __init__(self, berths: list[Berth], patience: float, restarts: int = INTENSITY) -> None:
        self.berths = berths
        self.restarts = restarts
        self.failure: Failure | None = None
        self.life = trio.CancelScope()
        self.running: dict[str, trio.Process] = {}
        self._patience = patience + GRACE
        # The sockets of those that are ready, by name; and who has ever been.
        self._ready: dict[str, str] = {}
        self._began: dict[str, None] = {}
        self._stopping = False
        self._stirred = trio.Event()

    async def keep(self, berth: Berth) -> None:
        """Run a node until it ends; the supervisor's child, which is started again then."""
        process = await trio.lowlevel.open_process(
            berth.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for this program, which tells its nodes
        )
        self.running[berth.name] = process
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, berth.name, process)
                code = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(process)
            del self.running[berth.name]
            self._ready.pop(berth.name, None)
            self._stir()
        if self._stopping:
            self._ended(code)
            # It may have been faster than the supervisor, to which it is a child that ends as it should.
            raise ProcessExit(SHUTDOWN)
        ended = NodeEnded(berth.name, code)
        if berth.name not in self._began and self.failure is None:
            # It has said why. One that cannot start at first ends all, as a supervisor's child does.
            self.fail(f"node {berth.name} did not start", str(ended), "its own words are above", code)
        raise ended

    async def _pass_on(self, name: str, process: trio.Process) -> None:
        """Say what a node says."""
        assert process.stdout is not None
        rest = b""
        async for piece in process.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                print(text, flush=True)
                word, _, found = text.partition(" ")
                if word == "ready":
                    self._ready[name] = found.split(" ", 2)[2]
                    self._began[name] = None
                    self._stir()

    async def _end(self, process: trio.Process) -> None:
        """Have a node end in order, or by force if that takes too long."""
        if process.poll() is not None:
            return
        if not self._stopping:  # else it was told, and a second time means at once
            process.terminate()
        with trio.move_on_after(self._patience) as patience:
            await process.wait()
        if patience.cancelled_caught:
            process.kill()
        code = await process.wait()
        if self._stopping:
            self._ended(code)

    def _ended(self, code: int) -> None:
        if code and self.failure is None:
            advice = "start them again; nothing that was acknowledged is lost"
            self.failure = Failure("not all nodes stopped in order", f"one ended with exit code {code}", advice)

    def stop(self) -> None:
        """Have all of them end in order, at the same time."""
        if not self._stopping:
            self._stopping = True
            for process in self.running.values():
                _say_stop(process)
                process.terminate()
        self.life.cancel()

    def fail(self, what: str, why: str, next: str, code: int = Exit.FAILED) -> None:
        """End all, and the command with this."""
        self.failure = Failure(what, why, next, code if code > 0 else Exit.FAILED)
        self.stop()

    def exit(self, code: int) -> None:
        """End all at once; called by a handler of signals."""
        for process in list(self.running.values()):
            process.kill()
        os._exit(code)

    async def announce(self) -> None:
        """Say so whenever all nodes have joined; and on stderr what they wait for, if that takes long."""
        while True:
            began, told, pause = trio.current_time(), "", LOOK_SECONDS
            while why := await self._missing():
                if why != told and trio.current_time() - began >= LONG_SECONDS:
                    logger.warning("the nodes have not joined for %.0f s: %s", trio.current_time() - began, why)
                    told, pause = why, 10 * LOOK_SECONDS
                await trio.sleep(pause)
            print("joined", *(berth.name for berth in self.berths), flush=True)
            await self._stirred.wait()

    async def _missing(self) -> str:
        """What is missing until all have joined; "" if nothing is."""
        self._stirred = trio.Event()
        away = [berth.name for berth in self.berths if berth.name not in self._ready]
        if away:
            return f"{', '.join(away)} {'is' if len(away) == 1 else 'are'} not ready"
        return await trio.to_thread.run_sync(missing, list(self._ready.items()), abandon_on_cancel=True)

    def _stir(self) -> None:
        self._stirred.set()


def _say_stop(process: trio.Process) -> None:
    """Tell a node that all stop, so that it gives no shard to one that is about to go as well."""
    assert process.stdin is not None
    try:
        os.write(process.stdin.fileno(), start.STOP)  # type: ignore[attr-defined]  # it is an FdStream
    except OSError:
        pass  # it has ended


def missing(nodes: list[tuple[str, str]]) -> str:
    """What is missing until nodes, by name and socket, are linked with one another and serve all shards.

    Returns: "" if nothing is.
    """
    names = {name for name, _ in nodes}
    answers = []
    for name, socket in nodes:
        try:
            with AdminClient(Path(socket)) as client:
                answers.append((client.request(Nodes())["nodes"], client.request(Shards())))
        except Refusal as refusal:
            return f"{name}: {refusal.what}; {refusal.why}"
        alone = names - {one["name"] for one in answers[-1][0] if one["linked"]}
        if alone:
            return f"{name} is not linked with {', '.join(sorted(alone))}"
    facts, shards = answers[-1]
    served = sum(said["served"] for _, said in answers)
    gone = {one["name"]: GONE[one["lease"]] for one in facts if one["lease"] in GONE}
    waits = Counter(one["owner"] for one in shards["shards"] if one["owner"] in gone)
    if waits:
        each = (f"{so_many(count)} for {name}, which {gone[name]}" for name, count in sorted(waits.items()))
        return f"{sum(waits.values())} of {shards['total']} shards wait: {'; '.join(each)}: start it on its data"
    if shards["owned"] < shards["total"]:
        return f"{so_many(shards['total'] - shards['owned'])} of {shards['total']} not claimed yet"
    return (
        "" if served == shards["total"] else f"{so_many(shards['total'] - served)} of {shards['total']} not served yet"
    )


@final
class Machine(Supervisor):
    """The nodes of this machine."""

    strategy, period = "one_for_one", PERIOD
    backoff = Backoff(first=0.05, limit=5.0)

    def init(self, fleet: Fleet) -> Any:
        self.intensity = fleet.restarts  # type: ignore[misc]  # a harness allows more
        return [child(berth.name, fleet.keep, berth, shutdown=math.inf) for berth in fleet.berths]


async def _serve(fleet: Fleet, config: NodeConfig) -> None:
    world = RealWorld()
    stopper = Stopper(fleet.stop, config.drain_timeout + 2 * GRACE, fleet.exit)
    with stopper.listening():
        async with Node("up", world=world, stop_timeout=math.inf) as node, trio.open_nursery() as nursery:
            with fleet.life:
                top = await node.start(Machine, fleet, restart="temporary")
                nursery.start_soon(fleet.announce)
                process = top._process
                if process is not None:
                    await wait_for_end(process)
                if fleet.failure is None:
                    why = f"they ended more than {fleet.restarts} times in {PERIOD:g} s"
                    fleet.fail("the nodes cannot be kept alive", why, "the log above says why they ended")
            nursery.cancel_scope.cancel()
