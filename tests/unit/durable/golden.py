"""A process as it is today, whose histories of all times lie in tests/golden; and what wrote the first of them.

`python -m tests.unit.durable.golden` prints a file of the present format. A file that was ever committed is
never written again: a new format gets a new file beside it.
"""

from __future__ import annotations

import json
import sys

from runtime import Call, EventSourced, message
from runtime.backends.lmdb_tail import pack_group
from runtime.codec.cbor import encode
from runtime.durable.gate import Gate
from runtime.durable.record import Entry, Snapshot
from runtime.durable.recovery import SAVED, pack_outcome, pack_state
from runtime.durable.snapshotted import Became


@message("golden.move")
class Move(Call[int]):
    amount: int


@message("golden.moved", version=2)
class Moved:
    """Version 1 had no reason."""

    amount: int
    reason: str


@message("golden.sum")
class Sum:
    chips: int


class Ledger(EventSourced[Sum, Moved]):
    """A sum of chips. Of schema 1, the state was a bare number."""

    schema = 2

    def initial(self, key: str) -> Sum:
        return Sum(0)

    def handle(self, state: Sum, command: Move) -> tuple[Moved, int]:
        return Moved(command.amount, ""), state.chips + command.amount

    def apply(self, state: Sum, event: Moved) -> Sum:
        return Sum(state.chips + event.amount)

    def upcast(self, name: str, version: int, fields: tuple[object, ...]) -> object:
        match name, version, fields:
            case "golden.moved", 1, [int(amount)]:
                return Moved(amount, "before there were reasons")
        return super().upcast(name, version, fields)

    def upcast_state(self, state: int, schema: int) -> Sum:
        return Sum(state)


def present() -> dict[str, object]:
    """Records, a group and payloads as the program of today writes them."""
    gate: Gate[Sum] = Gate(Sum(12))
    gate.recover(Sum(12), 2)
    gate.remember("ann", 3, 5, 1_700_000_001.5)
    gate.remember("wallet/bob", 9, None, 1_700_000_002.5, lasting=True)
    gate.expired["cat"] = 1_600_000_000.0
    gate.horizon = 1_500_000_000.0
    entries = [
        Entry("ledger", 1, 4, 2, "ann", 3, 1_700_000_001.5, 11, pack_outcome((Moved(5, "won"),), 5, False)),
        Entry("ledger", 2, 4, 2, "wallet/bob", 9, 1_700_000_002.5, 12, pack_outcome((Moved(7, ""),), None, True)),
        Entry("saved", 1, 4, 2, "", 0, 1_700_000_003.5, 13, SAVED),
        Entry("plain", 1, 4, 1, "", 0, 1_700_000_003.5, 14, pack_outcome((Became(Sum(3)),), 3, False)),
    ]
    snapshots = [Snapshot("ledger", 2, 4, 2, 1_700_000_004.5, pack_state(gate))]
    rows = [entry.pack() for entry in entries]
    return {
        "entries": [row.hex() for row in rows],
        "snapshots": [snapshot.pack().hex() for snapshot in snapshots],
        "group": pack_group(entries, rows).hex(),
    }


def first_days() -> dict[str, object]:
    """What the first program wrote: events of version 1, a bare state, senders without a time. Spoils `Moved`."""

    @message("golden.moved")
    class First:
        __qualname__ = "Moved"
        amount: int

    payloads = [encode(((First(5),), 5)), encode(((First(7),), 12))]
    entries = [
        Entry("ledger", n, 1, 1, "ann", n, 1_600_000_000.5 + n, 0, payload) for n, payload in enumerate(payloads, 1)
    ]
    state = encode((5, (("ann", 1, ((1, 5),)),)))
    return {
        "entries": [entry.pack().hex() for entry in entries],
        "snapshots": [Snapshot("ledger", 1, 1, 1, 1_600_000_003.5, state).pack().hex()],
    }


if __name__ == "__main__":
    made = first_days() if "first" in sys.argv[1:] else present()
    print(json.dumps(made, indent=1))  # noqa: T201  # it is run by hand, for a new file
