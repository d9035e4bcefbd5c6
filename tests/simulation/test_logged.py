"""The simulated journal's own side: crashes and losses of power at each point of a commit, a disk that fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from runtime.durable.carriage import Piece
from runtime.durable.journal import Journal, StoreClosed, StoreDamaged, StoreFailed, StoreFull
from tests.simulation.logged import POINTS, LoggedDisk
from tests.unit.backends.stores import entries, entry, snapshot


class Crash(BaseException):
    """Struck in a commit."""


def crash_at(disk: LoggedDisk, point: str) -> None:
    def probe(reached: str) -> None:
        if reached == point:
            raise Crash

    disk.probe = probe


def opened(disk: LoggedDisk) -> Journal:
    disk.probe = None
    return disk.open()


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_commit_that_is_struck_is_there_or_not(point: str, power: bool) -> None:
    """Wherever a commit is struck, what was committed before stays, and the group is there as a whole or not at all."""
    kept = set()
    for seed in range(40):
        disk = LoggedDisk()
        journal = disk.open()
        journal.commit([*entries("a", 1, 2), entry("b", 1)], [snapshot("a", 1)])
        crash_at(disk, point)
        with pytest.raises(Crash):
            journal.commit([entry("a", 3), entry("b", 2, payload=b"x" * 2000)])
        with pytest.raises(StoreFailed):
            journal.head("a")
        if power:
            disk.lose_power(random.Random(seed))
        else:
            disk.crash()
        again = opened(disk)
        assert again.load("a")[0] == snapshot("a", 1)
        kept.add((again.head("a"), again.head("b")))
        again.commit([entry("a", again.head("a") + 1, epoch=2)])
        disk.lose_power(random.Random(seed))
        assert opened(disk).epoch == 3
    before, after = (2, 1), (3, 2)
    wanted = {"staged": {before}, "torn": {before}, "synced": {after}}
    assert kept == wanted.get(point, {before, after} if power else {after})


@pytest.mark.parametrize("broken", ["write", "sync"])
def test_a_disk_that_fails_ends_the_journal(broken: Any) -> None:
    """After a failed write or sync nothing is served; what was committed is there at the next open, and stays."""
    disk = LoggedDisk()
    journal = disk.open()
    journal.commit([entry("a", 1)])
    disk.medium.broken = broken
    with pytest.raises(StoreFailed):
        journal.commit([entry("a", 2)])
    with pytest.raises(StoreFailed):
        journal.load("a")
    disk.crash()
    disk.medium.broken = ""
    again = opened(disk)
    # What a failed sync left can be read, and counts: so it is written again, and survives from then on.
    assert again.head("a") == (2 if broken == "sync" else 1)
    disk.lose_power(random.Random(1))
    assert opened(disk).head("a") == (2 if broken == "sync" else 1)


def test_a_full_disk_refuses_and_recovers() -> None:
    """A commit that finds no room changes nothing; with room it succeeds; a full disk cannot be opened."""
    disk = LoggedDisk()
    journal = disk.open()
    disk.medium.full = True
    with pytest.raises(StoreFull):
        journal.commit([entry("a", 1)])
    disk.medium.full = False
    journal.commit([entry("a", 1)])
    disk.crash()
    with pytest.raises(StoreClosed):
        journal.head("a")
    disk.medium.full = True
    with pytest.raises(StoreFull):
        disk.open()
    assert disk.open(read_only=True).read("a") == [entry("a", 1)]


def test_a_flipped_bit_is_found_and_gone_after_an_open() -> None:
    """Damage stops its own key until the store is read again."""
    disk = LoggedDisk()
    assert disk.damage(0.5) is None
    journal = disk.open()
    journal.commit(entries("a", 1, 3))
    assert disk.damage(0.7) == "a"
    with pytest.raises(StoreDamaged):
        journal.load("a")
    disk.crash()
    assert disk.open().read("a") == entries("a", 1, 3)


# What a move does to a store, in order: a name, and the call.
STEPS: dict[str, Callable[[Journal], object]] = {
    "reserve": lambda journal: journal.reserve(7, b"1"),
    "copy": lambda journal: journal.install(7, [Piece("a", 3, 2, 1, (entry("a", 3).pack(),), snapshot("a", 3).pack())]),
    "last": lambda journal: journal.install(7, [Piece("a", 3, 3, 1, (entry("a", 4).pack(),))], b"2", 6),
    "settle": lambda journal: journal.settle(7),
    "write": lambda journal: journal.commit([entry("b", 1, 6)], fences={7: 6}, homes={"b": 7}),
    "seal": lambda journal: journal.seal(7, 6),
    "erase": lambda journal: journal.erase(7, 1),
    "erase the rest": lambda journal: journal.erase(7),
}


def shards(journal: Journal) -> tuple[object, ...]:
    """All that a journal says of shard 7 and its keys."""
    keys = journal.keys()
    found = [(key, journal.first(key), journal.load(key)) for key in keys]
    return found, journal.shard_keys(7), journal.staged(), journal.fence(7), journal.stats().position


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_a_move_that_is_struck_is_made_or_not(step: str, point: str, power: bool) -> None:
    """Wherever a reservation, an installation or an erasure is struck, it is there as a whole or not at all."""
    for seed in range(10):
        disk, spare = LoggedDisk(), LoggedDisk()
        journal, other = disk.open(), spare.open()
        for name, make in STEPS.items():
            if name == step:
                break
            make(journal)
            make(other)
        before = shards(journal)
        STEPS[step](other)
        after = shards(other)
        crash_at(disk, point)
        with pytest.raises(Crash):
            STEPS[step](journal)
        if power:
            disk.lose_power(random.Random(seed))
        else:
            disk.crash()
        found = shards(opened(disk))
        assert found in (before, after)
        if point in ("staged", "torn", "synced"):
            assert found == (after if point == "synced" else before)
