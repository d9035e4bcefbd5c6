"""The nemesis of a cluster: performs a plan's faults on hosts, on what lies between them, and on their processes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING

import trio

from runtime import KILL, CallFailed, exit, sys, whereis
from runtime.durable.writer import WRITER
from runtime.kernel.process import here
from runtime.testing import Fault, Weather, chosen

from .cluster_host import Host
from .cluster_moves import HARMLESS
from .strikes import HOUR, LULL

if TYPE_CHECKING:
    from .cluster import Run

Pair = tuple[str, str]


class ClusterNemesis:
    """Strikes a cluster; `struck` counts by kind."""

    def __init__(self, run: Run) -> None:
        self.run_of = run
        self.network = run.network
        self.struck: Counter[str] = Counter()
        # How many faults hold each direction cut now.
        self._cuts: Counter[Pair] = Counter()

    async def run(self, faults: tuple[Fault, ...]) -> None:
        """Perform a plan; returns when the last fault has ended."""
        async with trio.open_nursery() as nursery:
            for fault in faults:
                with trio.move_on_after(LULL):
                    await self.run_of.trace.after(fault.after)
                host = chosen(self.run_of.hosts, fault.choice)
                assert host is not None
                if self._strike(fault, host, nursery):
                    if fault.kind not in HARMLESS:
                        self.run_of.rough(fault.seconds)
                    self.run_of.trace.note("fault", fault.kind, host.name)
                    self.struck[fault.kind] += 1

    def _strike(self, fault: Fault, host: Host, nursery: trio.Nursery) -> bool:
        """Perform one fault; False if there was nothing to strike."""
        match fault.kind:
            case "crash" | "power_loss":
                return host.crash(power=fault.kind == "power_loss")
            case "crash_for_long":
                host.down_for = fault.seconds
                return host.crash()
            case "crash_staged" | "crash_torn" | "crash_written" | "crash_synced":
                commits, rest = divmod(self._rest(fault) * 4, 1.0)
                host.crash_in_commit(fault.kind.removeprefix("crash_"), 1 + int(commits), power=rest < 0.5)
                return True
            case "stop":
                return host.shut_down()
            case "pause" | "pause_for_long":
                if not host.pause():
                    return False
                nursery.start_soon(self._pause, host, fault.seconds)
            case "cut" | "cut_one_way" | "isolate" | "bridge":
                nursery.start_soon(self._cut, self._pairs(fault, host), fault.seconds)
            case "swizzle":
                nursery.start_soon(self._swizzle, host, fault.seconds)
            case "reset":
                other = self._other(fault, host)
                self.run_of.disturbed("reset", host.name, other.name)
                return self.network.reset(host.name, other.name) > 0
            case "slow_network":
                nursery.start_soon(self._slow, fault.seconds)
            case "no_coordination":
                nursery.start_soon(self._deaf, host, fault.seconds)
            case "answers_lost":
                nursery.start_soon(self._lossy, host, fault.seconds)
            case "wall_jump":
                host.world.wall_offset = HOUR * round((self._rest(fault) - 0.5) * 8)
            case "kill_entity":
                return self._kill(host, fault, "bank/", "basket/", "echo")
            case "kill_region":
                return self._kill(host, fault, "region/")
            case "kill_membership":
                return self._kill(host, fault, "membership")
            case "stall_writer":
                if host.table is None:
                    return False
                nursery.start_soon(self._stall, host, fault.seconds)
            case "kill_mover":
                return self._kill(host, fault, "mover")
            case "kill_links":
                self.run_of.disturbed("restart", host.name)
                return self._kill(host, fault, "net_kernel")
            case other_kind:
                raise NotImplementedError(f"no such fault: {other_kind}")
        return True

    # -- whom --------------------------------------------------------------------------------------------

    def _rest(self, fault: Fault) -> float:
        """A choice that does not hang together with that of the host."""
        return fault.choice * 1000.0 % 1.0

    def _other(self, fault: Fault, host: Host) -> Host:
        other = chosen([one for one in self.run_of.hosts if one is not host], self._rest(fault))
        assert other is not None
        return other

    def _pairs(self, fault: Fault, host: Host) -> list[Pair]:
        """The directions that a fault cuts."""
        names = [one.name for one in self.run_of.hosts]
        other = self._other(fault, host).name
        match fault.kind:
            case "cut":
                return [(host.name, other), (other, host.name)]
            case "cut_one_way":
                return [(host.name, other)]
            case "isolate":
                return [pair for pair in permutations(names, 2) if host.name in pair]
            case _:
                # Two halves that only know of each other through one host.
                rest = [name for name in names if name != host.name]
                half = set(rest[: len(rest) // 2])
                return [pair for pair in permutations(rest, 2) if (pair[0] in half) != (pair[1] in half)]

    # -- what --------------------------------------------------------------------------------------------

    async def _pause(self, host: Host, seconds: float) -> None:
        life = host.life
        assert life is not None
        with self.run_of.disturbing("pause", host.name):
            await trio.sleep(seconds)  # virtual
            host.go_on(life)

    async def _cut(self, pairs: list[Pair], seconds: float) -> None:
        for pair in pairs:
            self._begin(pair)
        await trio.sleep(seconds)  # virtual
        for pair in pairs:
            self._end(pair)

    def _begin(self, pair: Pair) -> None:
        self._cuts[pair] += 1
        self.run_of.begin("cut", *pair)
        self.network.cut(*pair)

    def _end(self, pair: Pair) -> None:
        self._cuts[pair] -= 1
        self.run_of.end("cut", *pair)
        if not self._cuts[pair]:
            self.network.heal(*pair)

    async def _swizzle(self, host: Host, seconds: float) -> None:
        """Cut a host off link by link, and heal link by link in another order."""
        dice = self.run_of.dice
        pairs = [pair for pair in permutations([one.name for one in self.run_of.hosts], 2) if host.name in pair]
        dice.shuffle(pairs)
        for pair in pairs:
            self._begin(pair)
            await trio.sleep(dice.uniform(0.0, 0.5))  # virtual
        await trio.sleep(seconds)  # virtual
        dice.shuffle(pairs)
        for pair in pairs:
            self._end(pair)
            await trio.sleep(dice.uniform(0.0, 0.5))  # virtual

    async def _slow(self, seconds: float) -> None:
        # Not beyond what lies between two heartbeats: else silence would have to be reckoned with.
        self.network.weather = Weather((0.0001, 0.8), 0.7)
        await trio.sleep(seconds)  # virtual
        self.network.weather = self.run_of.config.weather

    async def _deaf(self, host: Host, seconds: float) -> None:
        line = host.line
        if line is not None:
            line.cut = True
            await trio.sleep(seconds)  # virtual
            life = host.life
            if life is not None and life.line is line and not life.dead:
                line.cut = False

    async def _lossy(self, host: Host, seconds: float) -> None:
        line = host.line
        if line is not None:
            line.lost = 0.4
            await trio.sleep(seconds)  # virtual
            line.lost = self.run_of.lost

    async def _stall(self, host: Host, seconds: float) -> None:
        """Hold the process that commits: what is to be committed waits."""
        table = host.table
        assert table is not None
        process = table.names.get(WRITER)
        if process is None:
            return
        here.set(table)
        # Of a node that is killed meanwhile no answer comes.
        with suppress(CallFailed), trio.move_on_after(5.0):
            await sys.suspend(process.pid)
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)  # virtual
        with suppress(CallFailed), trio.move_on_after(5.0):
            await sys.resume(process.pid)

    def _kill(self, host: Host, fault: Fault, *prefixes: str) -> bool:
        table = host.table
        if table is None:
            return False
        name = chosen([name for name in table.names if name.startswith(prefixes)], self._rest(fault))
        if name is None:
            return False
        if name.startswith("region/") and host.life is not None:
            host.life.router_died = True
        here.set(table)
        pid = whereis(name)
        if pid is None:
            return False
        exit(pid, KILL)
        return True
