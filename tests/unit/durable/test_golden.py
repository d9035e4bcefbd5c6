"""Histories as they were once written are replayed for ever, by the class as it is today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.backends.lmdb_tail import unpack_group
from runtime.durable.gate import Gate
from runtime.durable.history import StateNotUpcast
from runtime.durable.record import Entry, Snapshot
from runtime.durable.recovery import outcome_of, recover
from runtime.durable.snapshotted import Became

from .golden import Ledger, Moved, Sum, present

GOLDEN = Path(__file__).parents[2] / "golden"


def read(name):
    golden = json.loads((GOLDEN / name).read_text())
    entries = [Entry.unpack(bytes.fromhex(row)) for row in golden["entries"]]
    snapshots = [Snapshot.unpack(bytes.fromhex(row)) for row in golden["snapshots"]]
    return golden, entries, snapshots


def replayed(snapshot, entries):
    """State, position, and what each sender was answered."""
    gate: Gate[Sum] = Gate(Sum(0))
    recover(Ledger(), gate, "ledger", snapshot, entries, lambda: pytest.fail("nobody asked for all"))
    return gate


def answers(gate):
    return {sender: (row.highest, list(row.kept), row.lasting) for sender, row in gate.replies.items()}


def test_a_history_of_the_first_days_is_replayed():
    """Events of version 1, with and without the snapshot of schema 1, lead to the same state and replies."""
    _, entries, [snapshot] = read("history_v1.json")
    for gate in (replayed(None, entries), replayed(snapshot, entries[1:])):
        assert (gate.committed, gate.settled) == (Sum(12), 2)
        assert answers(gate) == {"ann": (2, [(1, 5), (2, 12)], False)}
        assert gate.replies["ann"].heard == 1_600_000_002.5
    old = replayed(snapshot, [])
    assert old.replies["ann"].heard == snapshot.wall, "a row without a time was heard when it was written"
    assert outcome_of(Ledger(), entries[0]) == ((Moved(5, "before there were reasons"),), 5, False)


def test_a_history_of_today_is_replayed():
    """Entries and snapshot, senders that last, senders that were forgotten, a saved state's mark, plain state."""
    _, entries, [snapshot] = read("history_v2.json")
    whole, kept = replayed(None, entries[:2]), replayed(snapshot, [])
    for gate in (whole, kept):
        assert (gate.committed, gate.settled) == (Sum(12), 2)
        assert answers(gate) == {"ann": (3, [(3, 5)], False), "wallet/bob": (9, [(9, None)], True)}
    assert (kept.expired, kept.horizon) == ({"cat": 1_600_000_000.0}, 1_500_000_000.0)
    with pytest.raises(StateNotUpcast):
        outcome_of(Ledger(), entries[2])
    assert outcome_of(Ledger(), entries[3]) == ((Became(Sum(3)),), 3, False)


def test_a_packed_group_is_read():
    """The row that a commit appends to the log holds each record whole."""
    golden, entries, _ = read("history_v2.json")
    group = unpack_group(bytes.fromhex(golden["group"]))
    assert group is not None
    assert [(one.key, one.sequence, one.epoch) for one in group] == [(e.key, e.sequence, e.epoch) for e in entries]
    assert [one.packed.hex() for one in group] == golden["entries"]


def test_the_present_program_writes_the_newest_file():
    """A change of what is written needs a new file, beside the old ones."""
    golden, _, _ = read("history_v2.json")
    assert present() == golden
