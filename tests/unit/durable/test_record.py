"""Records of journal format 1: exact round trips, and every kind of damage found."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runtime.durable.record import MAX_PAYLOAD, DamagedRecord, Entry, NewerRecord, Snapshot
from runtime.errors import Misuse

GOLDEN = Path(__file__).parents[2] / "golden" / "journal_v1.json"

numbers = st.integers(0, (1 << 64) - 1)
keys = st.text(min_size=1, max_size=60).filter(lambda k: 1 <= len(k.encode()) <= 255)
entries = st.builds(
    Entry,
    key=keys,
    sequence=st.integers(1, (1 << 64) - 1),
    epoch=numbers,
    schema=st.integers(0, (1 << 32) - 1),
    sender=st.text(max_size=60),
    number=numbers,
    wall=st.floats(allow_nan=False),
    feed=numbers,
    payload=st.binary(),
)
snapshots = st.builds(
    Snapshot,
    key=keys,
    sequence=numbers,
    epoch=numbers,
    schema=st.integers(0, (1 << 32) - 1),
    wall=st.floats(allow_nan=False),
    payload=st.binary(),
)
ENTRY = Entry("wallet/ann", 7, 3, 2, "table/7", 12, 1700000000.5, 0, b"payload")
SNAPSHOT = Snapshot("wallet/ann", 7, 3, 2, 1700000000.5, b"state")


@given(entries)
def test_an_entry_comes_back_equal(entry: Entry) -> None:
    """Every entry comes back from its bytes, asked for by its place or not."""
    assert Entry.unpack(entry.pack()) == entry
    assert Entry.unpack(entry.pack(), key=entry.key, sequence=entry.sequence) == entry


@given(snapshots)
def test_a_snapshot_comes_back_equal(snapshot: Snapshot) -> None:
    """Every snapshot comes back from its bytes."""
    assert Snapshot.unpack(snapshot.pack()) == snapshot
    assert Snapshot.unpack(snapshot.pack(), key=snapshot.key) == snapshot


@pytest.mark.parametrize("record", [ENTRY, SNAPSHOT], ids=["entry", "snapshot"])
def test_every_flipped_bit_is_found(record: Entry | Snapshot) -> None:
    """No single bit of a record can change without being found."""
    data = record.pack()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            type(record).unpack(bytes(damaged))


@pytest.mark.parametrize("record", [ENTRY, SNAPSHOT], ids=["entry", "snapshot"])
def test_every_other_length_is_found(record: Entry | Snapshot) -> None:
    """A record that is shorter or longer than it was is found."""
    data = record.pack()
    for length in range(len(data)):
        with pytest.raises(DamagedRecord):
            type(record).unpack(data[:length])
    with pytest.raises(DamagedRecord):
        type(record).unpack(data + b"\0")


@pytest.mark.parametrize(
    ("data", "place", "found"),
    [
        (ENTRY.pack(), {"key": "wallet/bob", "sequence": 7}, "'wallet/ann' number 7"),
        (ENTRY.pack(), {"key": "wallet/ann", "sequence": 8}, "'wallet/ann' number 7"),
        (SNAPSHOT.pack(), {"key": "wallet/ann", "sequence": 7}, None),
        (bytes(200), {"key": "wallet/ann", "sequence": 7}, None),
    ],
    ids=["another key", "another sequence", "another kind", "zeroes"],
)
def test_a_record_in_anothers_place_is_found(data: bytes, place: dict[str, Any], found: str | None) -> None:
    """A whole record that lies where another one belongs is refused, naming both."""
    with pytest.raises(DamagedRecord) as caught:
        Entry.unpack(data, **place)
    assert (caught.value.key, caught.value.sequence) == (place["key"], place["sequence"])
    if found is not None:
        assert caught.value.found == found


def test_a_snapshot_of_another_key_is_found() -> None:
    """A snapshot that lies under another key is refused."""
    with pytest.raises(DamagedRecord, match="wallet/bob"):
        Snapshot.unpack(SNAPSHOT.pack(), key="wallet/bob")


def resummed(data: bytes) -> bytes:
    """The record with a checksum that is right for its bytes."""
    return data[:4] + struct.pack(">I", crc32(data[8:], crc32(data[:4]))) + data[8:]


@pytest.mark.parametrize("record", [ENTRY, SNAPSHOT], ids=["entry", "snapshot"])
def test_a_later_format_is_told_from_damage(record: Entry | Snapshot) -> None:
    """A whole record of format 2 raises NewerRecord, whatever its shape; a damaged one does not."""
    later = b"\x02" + record.pack()[1:]
    with pytest.raises(NewerRecord) as caught:
        type(record).unpack(resummed(later), key="wallet/ann")
    assert (caught.value.key, caught.value.found, caught.value.supported) == ("wallet/ann", 2, 1)
    with pytest.raises(NewerRecord):
        type(record).unpack(resummed(later[:12]))
    with pytest.raises(DamagedRecord):
        type(record).unpack(later)


def test_a_false_length_under_a_right_checksum_is_found() -> None:
    """A record whose lengths do not add up is damaged, even if its checksum is right."""
    data = bytearray(ENTRY.pack())
    data[2] += 1
    with pytest.raises(DamagedRecord, match="bytes"):
        Entry.unpack(resummed(bytes(data)))
    data = bytearray(ENTRY.pack())
    data[56] = 0xFF
    with pytest.raises(DamagedRecord, match="UTF-8"):
        Entry.unpack(resummed(bytes(data)))


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": "x" * 256},
        {"key": "\ud800"},
        {"sender": "x" * 256},
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": 1 << 64},
        {"epoch": -1},
        {"schema": 1 << 32},
        {"number": -1},
        {"feed": 1 << 64},
        {"payload": bytes(MAX_PAYLOAD + 1)},
    ],
    ids=lambda change: f"{next(iter(change))} {len(str(change))}",
)
def test_values_out_of_bounds_are_misuse(change: dict[str, Any]) -> None:
    """A record that format 1 cannot hold is refused when it is packed."""
    with pytest.raises(Misuse):
        structs.replace(ENTRY, **change).pack()
    if change.keys() <= {"key", "epoch", "schema", "payload"}:
        with pytest.raises(Misuse):
            dataclasses.replace(SNAPSHOT, **change).pack()


def test_the_golden_records_are_read_and_written_as_ever() -> None:
    """Records of format 1 as they were once written are read, and written again, byte for byte."""
    golden = json.loads(GOLDEN.read_text())
    assert golden["format"] == 1
    for kind, cls in (("entries", Entry), ("snapshots", Snapshot)):
        assert len(golden[kind]) >= 3
        for line in golden[kind]:
            fields = {**line["fields"], "payload": bytes.fromhex(line["fields"]["payload"])}
            fields["wall"] = float(fields["wall"])
            record: Entry | Snapshot = cls(**fields)
            assert cls.unpack(bytes.fromhex(line["bytes"])) == record or math.isnan(record.wall)
            assert record.pack().hex() == line["bytes"]
