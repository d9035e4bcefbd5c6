"""A simulated machine: it runs a node, and runs it again on the same disk whenever the node has died."""

from __future__ import annotations

import trio

from game.app import Room
from game.bots import Bots
from runtime import KILLED, BanyanError, Crash, StoreError
from runtime.durable.journal import SequenceConflict
from runtime.errors import CallFailed
from runtime.kernel.process import here
from runtime.kernel.table import CrashReport, ProcessTable
from runtime.testing import NodeExit, SeededWorld, Trace, left_over
from supervisors import ChildRefused, Node, NodeStopped, terminate_child

from .config import Config
from .logged import LoggedDisk
from .tally import Tallies

GRANT = 40_000
STRUCK = "struck by the nemesis"


class PowerOff(Exception):
    """The machine lost its power in the middle of a commit."""


class Machine:
    """The lives of one node.

    Attributes:
        disk: what outlives them.
        node: the one that runs now, or None.
        lives: how many there were.
        findings: what must never happen and did: crashes that no fault explains, processes left behind.
        crashes: what processes died of, each kind once, for people.
    """

    def __init__(self, world: SeededWorld, disk: LoggedDisk, config: Config, trace: Trace) -> None:
        self.world = world
        self.disk = disk
        self.config = config
        self.trace = trace
        self.node: Node | None = None
        self.lives = 0
        self.findings: list[str] = []
        self.crashes: dict[str, int] = {}
        self.bots = config.bots
        self._life: trio.CancelScope | None = None
        self._up = trio.Event()
        self._stop = trio.Event()
        self._countdown: tuple[str, int, bool] | None = None
        disk.probe = self._probe

    # -- its power -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live, and live again after each death, until it is told to stop."""
        while not self._stop.is_set():
            self.lives += 1
            self.trace.note("life", self.lives)
            try:
                with trio.CancelScope() as self._life:
                    await self._live()
            except* NodeStopped:
                self.world.sometimes("the node gave up")
            except* StoreError:
                self.world.sometimes("the store could not be opened")
            except* BanyanError:
                self.world.sometimes("the node did not start")
            except* (PowerOff, NodeExit):
                pass
            self._down()
            if not self._stop.is_set():
                await trio.sleep(self.world.random.uniform(0.0, 1.0))  # virtual

    async def _live(self) -> None:
        async with Node("room", data="disk", world=self.world) as node:
            node.table.crash_listeners.append(self._crashed)
            self.node = node
            await node.start(Room, self.config.intensity, name="room")
            await node.start(Tallies, self.config.intensity, name="tallies")
            if self.bots:
                await node.start(Bots, self.config.tables, self.config.think, GRANT, name="bots")
            self._up.set()
            await self._stop.wait()

    def _down(self) -> None:
        node, self.node = self.node, None
        if self._up.is_set():
            self._up = trio.Event()
        self._countdown = None
        self.disk.crash()
        self.disk.medium.broken = ""
        if node is not None:
            self.findings += left_over([], [repr(process) for process in node.table.processes.values()])

    def crash(self, *, power: bool = False) -> None:
        """Kill -9, or with `power` a loss of power: every task of the node ends where it is."""
        self.trace.note("crash", power)
        if power:
            before = self.disk.medium.lost
            self.disk.lose_power(self.world.random)
            if self.disk.medium.lost > before:
                self.world.sometimes("unsynced writes were lost")
        else:
            self.disk.crash()
        if self._life is not None:
            self._life.cancel()

    def crash_in_commit(self, point: str, commits: int, *, power: bool) -> None:
        """Crash in a coming commit: `commits` from now, at one of the points of a `LoggedDisk`."""
        self._countdown = (point, commits, power)

    def _probe(self, point: str) -> None:
        if self._countdown is None or self._countdown[0] != point:
            return
        _, left, power = self._countdown
        self._countdown = (point, left - 1, power)
        if left <= 1:
            self._countdown = None
            self.world.sometimes(f"a crash of a commit {point}")
            self.crash(power=power)
            raise PowerOff(point)

    def stop(self) -> None:
        """Let the node stop in order, and stay down."""
        self._stop.set()

    # -- what others want of it ----------------------------------------------------------------------

    async def up(self) -> ProcessTable:
        """Wait until the node is up, and act within it: its names are the caller's from then on."""
        await self._up.wait()
        assert self.node is not None
        here.set(self.node.table)
        return self.node.table

    async def without_bots(self) -> None:
        """Send the bots away, now and for ever."""
        self.bots = False
        await self.up()
        assert self.node is not None
        try:
            await terminate_child(self.node.root, "bots", timeout=10.0)
        except (CallFailed, BanyanError):
            pass  # the node died meanwhile, or has none

    def _crashed(self, report: CrashReport) -> None:
        kind = _kind(report.reason)
        self.crashes[kind] = self.crashes.get(kind, 0) + 1
        if not _explained(report.reason):
            self.findings.append(f"crash: {report}")


def _kind(reason: object) -> str:
    return f"Crash({type(reason.error).__name__})" if isinstance(reason, Crash) else repr(reason)


def _explained(reason: object) -> bool:
    """Whether a fault of ours can be why a process ended with this reason."""
    if not isinstance(reason, Crash):
        return reason is KILLED or reason == STRUCK
    error = reason.error
    if isinstance(error, SequenceConflict):
        return False  # a process recovers after all that its predecessor had sent
    if isinstance(error, ChildRefused) and error.why == "start_failed":
        return _explained(error.detail)
    return isinstance(error, (StoreError, CallFailed, PowerOff))
