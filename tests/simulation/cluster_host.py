"""A simulated host of a cluster: it runs a node, life after life, on one disk, and can be killed or stopped anywhere.

A kill is the real thing: no task of that life takes another step, nothing is cleaned up, and the next life begins
beside what is left of it. Only when the run is over are the dead let go on, with nothing left that they could reach.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, final

import trio

from runtime import BanyanError, CalleeExited, Crash, NoProcess, StoreError
from runtime.cluster.placement import shard_of
from runtime.cluster.tls import Clear
from runtime.durable.journal import Fence, Journal
from runtime.durable.record import Entry
from runtime.kernel.table import CrashReport, ProcessTable
from runtime.testing import (
    CoordinationLine,
    NodeExit,
    SeededWorld,
    continue_program,
    left_over,
    program,
    stop_program,
)
from supervisors import Node, NodeStopped
from supervisors.node.cluster import Cluster

from .cluster_bank import BANK, LIFE, House
from .logged import LoggedDisk
from .machine import PowerOff, _explained

if TYPE_CHECKING:
    from .cluster import Run

PORT = 4370


@final
class Life:
    """One life of a node.

    Attributes:
        host, number: whose, and which, from 1.
        table: its processes, while it is up.
        dead: it was killed: whatever it still says does not count.
        served: the epochs of the shards that it was seen to serve.
        router_died: its region has begun anew, so that callers of before do not know.
    """

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self.run = host.run
        self.number = number
        self.name = f"{host.name}{number}"
        self.dead = False
        self.served: dict[int, int] = {}
        self.router_died = False
        self.node: Node | None = None
        self.up = trio.Event()
        self.over = trio.Event()
        self.stopping = trio.Event()
        self.scope = trio.CancelScope()
        self.line = host.run.shared.line(host.name, random.Random(f"{host.run.seed}/{self.name}"), lost=host.run.lost)

    @property
    def table(self) -> ProcessTable | None:
        return self.node.table if self.node is not None and self.up.is_set() and not self.over.is_set() else None

    def found(self, text: str) -> None:
        """Something that must not be."""
        if not self.dead:
            self.run.findings.append(text)

    async def live(self) -> None:
        """Be a node, until it is stopped or ends by itself; of a life that was killed, never."""
        program.set(self)
        host, config = self.host, self.run.config
        try:
            with self.scope:
                cluster = Cluster(
                    listen=f"{host.name}:{PORT}",
                    clear=Clear(beyond=True),
                    coordination=":memory:",
                    shards=config.shards,
                    rebalance=config.rebalance,
                    grace=config.grace,
                )
                node = Node(host.name, data=f"/simulated/{host.name}", world=host.world, cluster=cluster)
                async with node:
                    self.node = node
                    node.table.services[LIFE] = self
                    node.table.crash_listeners.append(self._crashed)
                    await node.start(House, config.idle, config.remember, name="house")
                    self.up.set()
                    self.run.employ(self)
                    await self.stopping.wait()
        except* NodeStopped:
            host.world.sometimes("a node gave up")
        except* (StoreError, BanyanError):
            host.world.sometimes("a node did not start")
        except* (PowerOff, NodeExit):
            pass
        finally:
            if not self.dead:
                self._ended()
            self.over.set()

    def _ended(self) -> None:
        """It has ended in order: nothing of it may be left."""
        table = self.node.table if self.node is not None else None
        if table is not None:
            self.run.findings += left_over([], [repr(process) for process in table.processes.values()])
        self.run.gone(self.host)
        self.run.network.crash(self.host.name)
        self.host.disk.crash()

    def lapse(self) -> None:
        """It has lost all its shards at once, which ends what runs in them."""
        self.run.lapses[self.host.name] = trio.current_time()

    def _crashed(self, report: CrashReport) -> None:
        if report.label == "Membership":
            self.lapse()
        if report.label == "Router":
            self.router_died = True
        if not _cluster_explains(report.reason):
            self.found(f"crash: {report}")


def _cluster_explains(reason: object) -> bool:
    return _explained(reason) or (isinstance(reason, Crash) and isinstance(reason.error, (CalleeExited, NoProcess)))


@final
class Brink:
    """A line to the coordination store on which a host may be killed: before its change is made, or right after."""

    def __init__(self, life: Life) -> None:
        self.life = life

    async def read(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        return await self.life.line.read(prefix)

    async def compare_and_set(self, changes: Sequence[tuple[str, int, bytes]]) -> list[bool]:
        await self._perhaps("coordination.asked")
        made = await self.life.line.compare_and_set(changes)
        await self._perhaps("coordination.made")
        return made

    async def _perhaps(self, site: str) -> None:
        host = self.life.host
        if host.life is self.life and self.life.up.is_set() and host.world.buggify(site, 0.01):
            host.crash()
            await trio.sleep_forever()  # it is never woken


class Watched:
    """A node's journal, through which the run sees what is claimed and what is committed."""

    def __init__(self, inner: Journal, host: Host) -> None:
        self.inner = inner
        self.host = host
        # What a former life has claimed for a move that it did not come to serve is served under that.
        self.claims = {shard: inner.fence(shard).epoch for shard in inner.staged() if not inner.fence(shard).sealed}
        self.sealed: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def claim(self, epochs: Mapping[int, int]) -> None:
        self.inner.claim(epochs)
        self.claims.update(epochs)

    def seal(self, shard: int, epoch: int) -> None:
        self.inner.seal(shard, epoch)
        self.sealed[shard] = epoch

    def install(self, shard: int, pieces: Sequence[Any], note: bytes | None = None, claim: int = 0) -> None:
        self.inner.install(shard, pieces, note, claim)
        self._not_mine(shard, "puts records into")
        if claim:
            self.claims[shard] = claim

    def erase(self, shard: int, limit: int = 2000) -> bool:
        done = self.inner.erase(shard, limit)
        # Of what is open it refuses it.
        self._not_mine(shard, "erases")
        return done

    def _not_mine(self, shard: int, what: str) -> None:
        row = self.host.run.observed.rows.get(shard)
        # Before it is claimed here, what is left of an earlier move may still have to go.
        if row is not None and row.owner == self.host.name and self.claims.get(shard) == row.epoch:
            self.host.run.findings.append(f"erased: {self.host.name} {what} shard {shard}, which is its own: {row}")

    def fence(self, shard: int) -> Fence:
        found = self.inner.fence(shard)
        if found.epoch < self.claims.get(shard, 0):
            self.host.run.findings.append(f"fence: {self.host.name} has forgotten what it has claimed: {found}")
        return found

    def commit(self, entries: Sequence[Entry], *more: Any, **options: Any) -> None:
        self.inner.commit(entries, *more, **options)
        for entry in entries:
            kind, _, key = entry.key.partition("/")
            if kind == BANK:
                shard = shard_of(BANK, key, self.host.run.config.shards)
                if entry.epoch != self.claims.get(shard) or self.sealed.get(shard) == entry.epoch:
                    self.host.run.findings.append(
                        f"fence: {entry.key} has committed entry {entry.sequence} under epoch {entry.epoch}, and "
                        f"{self.host.name} has claimed {self.claims.get(shard)}, sealed {self.sealed.get(shard)}"
                    )


@final
class Host:
    """One machine of the cluster.

    Attributes:
        disk: what outlives its lives.
        life: the one that runs, or that was the last.
        paused: its program is stopped, and will go on.
        down_for: so many seconds its next life waits at least.
    """

    def __init__(self, name: str, run: Run) -> None:
        self.name = name
        self.run = run
        self.disk = LoggedDisk(name)
        self.disk.probe = self._probe
        self.world = SeededWorld(
            run.seed,
            open_store=self._open,
            coordination=cast("Any", None),
            trace=run.trace,
            network=run.network,
            host=name,
            activation=run.config.activation,
        )
        self.lives: list[Life] = []
        self.life: Life | None = None
        self.paused = False
        self.down_for = 0.0
        self._stop = trio.Event()
        self._countdown: tuple[str, int, bool] | None = None

    def _open(self, _path: str, node: str) -> Journal:
        return cast("Journal", Watched(self.disk.open(node=node), self))

    @property
    def table(self) -> ProcessTable | None:
        """The processes of its node, if that is up and not stopped."""
        return self.life.table if self.life is not None and not self.paused else None

    @property
    def line(self) -> CoordinationLine | None:
        """Its way to the coordination store."""
        return self.life.line if self.life is not None else None

    # -- its power -----------------------------------------------------------------------------------

    async def run_lives(self, nursery: trio.Nursery) -> None:
        """Live, and live again after each death, until it is told to stop."""
        while not self._stop.is_set():
            life = self.life = Life(self, len(self.lives) + 1)
            self.lives.append(life)
            self.run.trace.note("life", life.name)
            self.world.coordination = Brink(life)
            nursery.start_soon(life.live, name=f"life {life.name}")
            await life.over.wait()
            self.paused = False
            self._countdown = None
            pause, self.down_for = self.down_for or self.world.random.uniform(0.0, 1.0), 0.0
            with trio.move_on_after(pause):
                await self._stop.wait()

    def crash(self, *, power: bool = False) -> bool:
        """Kill -9, or with `power` a loss of power; False if nothing runs."""
        life = self.life
        if life is None or life.over.is_set():
            return False
        self.run.trace.note("crash", life.name, power)
        life.dead = True
        stop_program(life)
        life.line.cut = True
        self.run.gone(self)
        self.run.network.crash(self.name)
        if power:
            before = self.disk.medium.lost
            self.disk.lose_power(self.world.random)
            if self.disk.medium.lost > before:
                self.world.sometimes("unsynced writes were lost")
        else:
            self.disk.crash()
        life.over.set()
        return True

    def crash_in_commit(self, point: str, commits: int, *, power: bool) -> None:
        """Crash in a coming commit: `commits` from now, at one of the points of a `LoggedDisk`."""
        self._countdown = (point, commits, power)

    def _probe(self, point: str) -> None:
        life = self.life
        if life is None or not life.up.is_set():
            return
        power = False
        if self._countdown is not None and self._countdown[0] == point:
            _, left, power = self._countdown
            self._countdown = (point, left - 1, power)
            struck = left <= 1
            if struck:
                self.world.sometimes(f"a crash of a commit {point}")
        else:
            struck = point in ("staged", "synced") and self.world.buggify(f"store.{point}", 0.002)
        if struck:
            self._countdown = None
            self.crash(power=power)
            raise PowerOff(point)

    def pause(self) -> bool:
        """Stop its program, as SIGSTOP does; False if that cannot be."""
        if self.table is None:
            return False
        self.paused = True
        self.run.trace.note("pause", self.name)
        stop_program(self.life)
        return True

    def go_on(self, life: Life) -> None:
        """Let the program of a life go on, if it was stopped and not killed."""
        if self.paused and self.life is life and not life.dead:
            self.run.trace.note("go on", self.name)
            self.paused = False
            continue_program(life)

    def shut_down(self) -> bool:
        """Stop the node in order; a new life follows."""
        if self.table is None or self.life is None:
            return False
        self.run.gone(self)
        self.life.router_died = True
        self.life.stopping.set()
        return True

    def stop(self) -> None:
        """Stop in order, and stay down."""
        self.run.rough()
        self._stop.set()
        if self.life is not None:
            self.life.stopping.set()

    def bury(self) -> Iterable[trio.Event]:
        """Let the dead go on, to their end; what tells of each."""
        for life in self.lives:
            if life.dead:
                life.over = trio.Event()
                life.scope.cancel()
                continue_program(life)
                yield life.over
