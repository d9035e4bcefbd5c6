"""The nemesis's hand: performs a plan's faults on a simulated machine.

Faults that end by themselves run beside the next ones, so that they overlap.
"""

from __future__ import annotations

from collections import Counter

import trio
from msgspec import structs

from runtime import KILL, CallFailed, Pid, exit, registered_names, sys, whereis
from runtime.durable.record import Entry
from runtime.durable.writer import WRITER, writer_of
from runtime.kernel.process import here
from runtime.kernel.table import ProcessTable
from runtime.testing import Fault, SeededWorld, Trace, chosen

from .machine import STRUCK, Machine

HOUR = 3600.0
# A fault that finds nobody at work waits no longer than this, in virtual seconds.
LULL = 0.7


class _Stale:
    """The author of an entry that must not be taken: what became of it."""

    def __init__(self) -> None:
        self.told = trio.Event()
        self.taken = False

    def _journal_settled(self, sequence: int) -> None:
        self.taken = True
        self.told.set()

    def _journal_lost(self, error: Exception) -> None:
        self.told.set()


class Nemesis:
    """Strikes a machine; `struck` counts by kind."""

    def __init__(self, machine: Machine, world: SeededWorld, trace: Trace) -> None:
        self.machine = machine
        self.world = world
        self.trace = trace
        self.struck: Counter[str] = Counter()
        self._full = 0

    async def run(self, faults: tuple[Fault, ...]) -> None:
        """Perform a plan; returns when the last fault has ended."""
        async with trio.open_nursery() as nursery:
            for fault in faults:
                with trio.move_on_after(LULL):
                    await self.trace.after(fault.after)
                if self._strike(fault, nursery):
                    self.trace.note("fault", fault.kind)
                    self.struck[fault.kind] += 1

    def _strike(self, fault: Fault, nursery: trio.Nursery) -> bool:
        """Perform one fault; False if there was nothing to strike."""
        machine = self.machine
        if fault.kind == "wall_jump":
            # Whole hours, so that the time within a run can be told from any wall clock of it.
            self.world.wall_offset = HOUR * round((fault.choice - 0.5) * 8)
            return True
        if fault.kind == "disk_full":
            nursery.start_soon(self._fill_disk, fault.seconds)
            return True
        node = machine.node
        if node is None:
            return False
        here.set(node.table)
        match fault.kind:
            case "node_crash":
                machine.crash()
            case "power_loss":
                machine.crash(power=True)
            case "crash_staged" | "crash_torn" | "crash_written" | "crash_synced":
                # Half of them are a loss of power.
                commits, rest = divmod(fault.choice * 4, 1.0)
                machine.crash_in_commit(fault.kind.removeprefix("crash_"), 1 + int(commits), power=rest < 0.5)
            case "write_fails":
                machine.disk.medium.broken = "write"
            case "sync_fails":
                machine.disk.medium.broken = "sync"
            case "bit_flip":
                key = machine.disk.damage(fault.choice)
                # Nobody would notice before it is read.
                _kill(whereis(key) if key is not None else None)
                return key is not None
            case "stale_owner":
                return self._commit_stale(node.table, nursery)
            case "stall_writer":
                nursery.start_soon(self._stall, node.table, WRITER, fault.seconds)
            case "stall_process":
                return self._stall_one(fault, node.table, nursery)
            case "storm":
                for name in registered_names():
                    if name.startswith(("wallet/", "table/", "tally/")):
                        _kill(whereis(name))
            case "exit_signal":
                return self._end_one(fault, ("wallet/", "table/", "tally/"), STRUCK)
            case "kill_supervisor":
                return self._end_one(fault, ("wallets", "tables", "tallies"), KILL)
            case "kill_bot":
                return self._kill_bot(fault, node.table)
            case "kill_writer":
                return self._end_one(fault, (WRITER,), KILL)
            case "kill_lobby":
                return self._end_one(fault, ("lobby",), KILL)
            case "kill_table":
                return self._end_one(fault, ("table/",), KILL)
            case "kill_tally":
                return self._end_one(fault, ("tally/",), KILL)
            case "kill_wallet":
                return self._end_one(fault, ("wallet/",), KILL)
            case other:
                raise NotImplementedError(f"no such fault: {other}")
        return True

    def _end_one(self, fault: Fault, prefixes: tuple[str, ...], reason: object) -> bool:
        name = chosen([name for name in registered_names() if name.startswith(prefixes)], fault.choice)
        pid = whereis(name) if name is not None else None
        if pid is None:
            return False
        exit(pid, reason)
        return True

    def _commit_stale(self, table: ProcessTable, nursery: trio.Nursery) -> bool:
        """Let an owner of before commit now, as if it had been asleep while another took its place."""
        journal = self.machine.disk.owner
        stale = [one for one in self.machine.disk.tried if journal is not None and one.epoch < journal.epoch]
        if journal is None or not stale:
            return False
        entry = stale[0]
        nursery.start_soon(self._append, table, structs.replace(entry, sequence=journal.head(entry.key) + 1))
        return True

    async def _append(self, table: ProcessTable, entry: Entry) -> None:
        here.set(table)
        try:
            writer = writer_of(table)
        except CallFailed:
            return
        stale = _Stale()
        writer.append(entry, stale)
        with trio.move_on_after(5.0):
            await stale.told.wait()
        if stale.taken:
            self.machine.findings.append(f"fence: {entry.key} has taken entry {entry.sequence} of epoch {entry.epoch}")

    def _kill_bot(self, fault: Fault, table: ProcessTable) -> bool:
        bots = [process.pid for process in table.processes.values() if process.label == "bot"]
        pid = chosen(bots, fault.choice)
        _kill(pid)
        return pid is not None

    def _stall_one(self, fault: Fault, table: ProcessTable, nursery: trio.Nursery) -> bool:
        name = chosen(
            [n for n in registered_names() if n.startswith(("wallet/", "table/", "lobby", "tally/"))], fault.choice
        )
        if name is None:
            return False
        nursery.start_soon(self._stall, table, name, fault.seconds)
        return True

    async def _stall(self, table: ProcessTable, name: str, seconds: float) -> None:
        """Hold a process for some time: it takes no message, as if it were blocked."""
        here.set(table)
        process = table.names.get(name)
        if process is None:
            return
        try:
            await sys.suspend(process.pid)
            await trio.sleep(seconds)  # virtual
            await sys.resume(process.pid)
        except CallFailed:
            pass  # it has died, or was busy

    async def _fill_disk(self, seconds: float) -> None:
        """No room on the disk for some time; faults of this kind may overlap."""
        self._full += 1
        self.machine.disk.medium.full = True
        await trio.sleep(seconds)  # virtual
        self._full -= 1
        self.machine.disk.medium.full = self._full > 0


def _kill(pid: Pid | None) -> None:
    if pid is not None:
        exit(pid, KILL)
