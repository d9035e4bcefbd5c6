"""What must hold after a run: the promises, read out of the journal that it left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio

from game.aside import SetAside
from game.audit import audit
from game.lobby import LOBBY, Lobby
from game.messages import Acted, HandDealt, HandEnded, Leaving, TableConfig, TransferReturned
from game.table import Table
from game.wallet import Wallet
from runtime.durable.event_sourced import EventSourced
from runtime.durable.journal import Journal
from runtime.kernel.table import ProcessTable
from runtime.testing import (
    ORIGIN,
    Applied,
    CommandId,
    Conserved,
    History,
    SeededWorld,
    doubled,
    lost,
    out_of_order,
    unbalanced,
    unequal_replies,
)

from .inside import durable, outcome_of, replayed, replies_of, state_of
from .logged import LoggedDisk
from .strikes import HOUR
from .tally import KEYS, Tally
from .witness import not_explained


def kind_of(key: str) -> type[EventSourced[Any, Any]]:
    """The class of the durable process with this key."""
    if key == LOBBY:
        return Lobby
    if key in KEYS:
        return Tally
    return Wallet if key.startswith("wallet/") else Table


def check_disk(disk: LoggedDisk, history: History, world: SeededWorld, tables: tuple[TableConfig, ...]) -> list[str]:
    """Hold a disk that no node uses against what clients were told."""
    configs = {config.key: config for config in tables}
    journal = disk.open(read_only=True)
    try:
        applied = list(_applied(journal, world))
        told = audit(journal)
        return [
            *lost(history, applied),
            *doubled(applied),
            *unequal_replies(history, applied),
            *out_of_order(applied),
            *unbalanced([Conserved("chips", told.granted, told.held)]),
            *not_explained(journal, history, kind_of, configs),
            *too_early(journal, configs),
        ]
    finally:
        journal.close()


def _applied(journal: Journal, world: SeededWorld) -> Iterator[Applied]:
    for key in journal.keys():  # noqa: SIM118  # a Journal is no mapping
        for entry in journal.read(key):
            events, reply = outcome_of(entry)
            for event in events:
                if isinstance(event, (TransferReturned, HandEnded)):
                    world.sometimes(f"{type(event).__name__} happened")
            if entry.sender:
                yield Applied(CommandId(key, entry.sender, entry.number), entry.sequence, reply)


def check_recovered(processes: dict[str, EventSourced[Any, Any]], disk: LoggedDisk, world: SeededWorld) -> list[str]:
    """Processes that recovered from snapshot and tail are what their whole history says they are."""
    journal = disk.open(read_only=True)
    wrong = []
    try:
        for key, process in processes.items():
            if journal.load(key)[0] is not None:
                world.sometimes("recovered from a snapshot")
            whole = replayed(kind_of(key), key, journal.read(key, 0, process.sequence))
            for what, look in (("is", state_of), ("keeps", replies_of)):
                found, wanted = look(process), look(whole)
                if found != wanted:
                    wrong.append(f"recovery: {key} {what} {found} at {process.sequence}, and replayed {wanted}")
    finally:
        journal.close()
    return wrong


def too_early(journal: Journal, configs: dict[str, TableConfig]) -> list[str]:
    """Players who lost their turn before their time was over. Wall clocks of a run differ by whole hours."""
    wrong = []
    for key, config in configs.items():
        begun, leaving = 0.0, False
        for entry in journal.read(key):
            events, _ = outcome_of(entry)
            now = (entry.wall - ORIGIN) % HOUR
            for event in events:
                leaving = leaving or isinstance(event, Leaving)
                if isinstance(event, Acted) and event.timed_out and not leaving and now - begun < config.turn_seconds:
                    wrong.append(
                        f"timer: {event.player} lost the turn at {key}, entry {entry.sequence}, after {now - begun} "
                        f"of {config.turn_seconds} seconds"
                    )
                leaving = leaving and not isinstance(event, HandEnded)
            if any(isinstance(event, (HandDealt, Acted)) for event in events):
                begun = now
    return wrong


def durable_processes(table: ProcessTable) -> dict[str, EventSourced[Any, Any]]:
    """Every durable process that has recovered and lives now, by its key."""
    found = {name: durable(process) for name, process in sorted(table.names.items())}
    return {name: one for name, one in found.items() if one is not None}


def open_transfers(table: ProcessTable) -> list[str]:
    """Transfers that are under way now."""
    found = []
    for key, process in durable_processes(table).items():
        if isinstance(process, Wallet):
            found += [f"{key} to {one.to} number {one.number}" for one in state_of(process).open]
        elif isinstance(process, Table):
            found += [f"{key} to {one.to} number {one.number}" for one in state_of(process).payouts]
    return found


def missing(table: ProcessTable) -> list[str]:
    """Processes that the lobby wants and that do not live now."""
    living = durable_processes(table)
    if LOBBY not in living:
        return [LOBBY]
    state = state_of(living[LOBBY])
    wanted = [*KEYS, *(f"wallet/{player}" for player in state.players), *(config.key for config in state.tables)]
    return [name for name in wanted if name not in living]


def set_aside(table: ProcessTable) -> bool:
    """Whether a damaged table or wallet has a stand-in now."""
    return any(isinstance(process.behaviour, SetAside) for process in table.processes.values())


def tasks() -> list[str]:
    """The names of all tasks of this run but Trio's own."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: list[str] = []
    waiting = [root]
    while waiting:
        task = waiting.pop()
        found.append(task.name)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return sorted(found)
