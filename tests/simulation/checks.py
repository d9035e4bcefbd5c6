"""What must hold after a run: the promises, read out of the journal that it left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio

from game.audit import audit
from game.lobby import LOBBY, Lobby
from game.messages import HandEnded, TransferReturned
from game.table import Table
from game.wallet import Wallet
from runtime.behaviours.gen import Ack
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.codec.cbor import decode
from runtime.durable.event_sourced import EventSourced
from runtime.durable.journal import Journal
from runtime.kernel.table import ProcessTable
from runtime.testing import (
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


def kind_of(key: str) -> type[EventSourced[Any, Any]]:
    """The class of the durable process with this key."""
    if key == LOBBY:
        return Lobby
    return Wallet if key.startswith("wallet/") else Table


def check_disk(disk: MemoryDisk, history: History, world: SeededWorld) -> list[str]:
    """Hold a disk that no node uses against what clients were told."""
    journal = MemoryJournal(disk, read_only=True)
    try:
        applied = list(_applied(journal, world))
        told = audit(journal)
        return [
            *lost(history, applied),
            *doubled(applied),
            *unequal_replies(history, applied),
            *out_of_order(applied),
            *unbalanced([Conserved("chips", told.granted, told.held)]),
        ]
    finally:
        journal.close()


def _applied(journal: Journal, world: SeededWorld) -> Iterator[Applied]:
    for key in journal.keys():
        for entry in journal.read(key):
            events, reply = decode(entry.payload)
            for event in events:
                if isinstance(event, (TransferReturned, HandEnded)):
                    world.sometimes(f"{type(event).__name__} happened")
            if entry.sender:
                yield Applied(CommandId(key, entry.sender, entry.number), entry.sequence, reply)


def check_recovered(
    processes: dict[str, EventSourced[Any, Any]], disk: MemoryDisk, world: SeededWorld
) -> list[str]:
    """Processes that recovered from snapshot and tail are what their whole history says they are."""
    journal = MemoryJournal(disk, read_only=True)
    wrong = []
    try:
        for key, process in processes.items():
            if key in disk.snapshots:
                world.sometimes("recovered from a snapshot")
            whole = kind_of(key)()
            whole._replies = {}
            whole._state = whole.initial(key)
            for entry in journal.read(key, 0, process.sequence):
                whole._replay(entry)
            if whole._state != process._state:
                wrong.append(f"recovery: {key} at {process.sequence} is {process._state}, replayed {whole._state}")
            if _replies(whole) != _replies(process):
                wrong.append(f"recovery: {key} keeps replies {_replies(process)}, replayed {_replies(whole)}")
    finally:
        journal.close()
    return wrong


def _replies(process: EventSourced[Any, Any]) -> dict[str, tuple[int, list[tuple[int, object]]]]:
    return {sender: (kept.highest, list(kept.kept)) for sender, kept in process._replies.items()}


def durable_processes(table: ProcessTable) -> dict[str, EventSourced[Any, Any]]:
    """Every durable process that has recovered and lives now, by its key."""
    return {
        name: process.behaviour
        for name, process in sorted(table.names.items())
        if isinstance(process.behaviour, EventSourced) and not isinstance(process.current, Ack)
    }


def open_transfers(table: ProcessTable) -> list[str]:
    """Transfers that are under way now."""
    found = []
    for key, process in durable_processes(table).items():
        if isinstance(process, Wallet):
            found += [f"{key} to {one.to} number {one.number}" for one in process._state.open]
        elif isinstance(process, Table):
            found += [f"{key} to {one.to} number {one.number}" for one in process._state.payouts]
    return found


def missing(table: ProcessTable) -> list[str]:
    """Processes that the lobby wants and that do not live now."""
    living = durable_processes(table)
    if LOBBY not in living:
        return [LOBBY]
    state = living[LOBBY]._state
    wanted = [*(f"wallet/{player}" for player in state.players), *(config.key for config in state.tables)]
    return [name for name in wanted if name not in living]


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
