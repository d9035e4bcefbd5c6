"""The simulated surface of a disk: what a kill keeps, what a loss of power takes, what a failed sync loses."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from runtime.testing import SECTOR, Medium


class Dice:
    """Dice for a loss of power that keeps the given share of sectors, none of them in part."""

    def __init__(self, kept: float) -> None:
        self.kept = kept

    def choice(self, _options: object) -> float:
        return self.kept

    def random(self) -> float:
        return 0.5

    def randrange(self, _end: int) -> int:
        raise AssertionError("no sector is torn")


def lose_power(medium: Medium, kept: float) -> None:
    dice: Any = Dice(kept)
    medium.lose_power(dice)


def test_what_was_written_is_read() -> None:
    """A program reads what it wrote, synced or not; a gap reads as zeros."""
    medium = Medium()
    medium.write(3, b"abc")
    medium.write(4, b"X")
    assert (medium.read(), len(medium)) == (b"\0\0\0aXc", 6)


def test_what_was_synced_outlives_a_loss_of_power() -> None:
    """A loss of power takes what was not synced, and nothing else; it counts the bytes."""
    medium = Medium()
    medium.write(0, b"kept")
    medium.sync()
    medium.write(2, b"LOST")
    lose_power(medium, kept=0.0)
    assert (medium.read(), medium.lost, medium.syncs) == (b"kept", 4, 1)


def test_a_loss_of_power_may_keep_what_was_not_synced() -> None:
    """The disk may have written a sector before anybody asked it to."""
    medium = Medium()
    medium.write(0, b"x" * (SECTOR + 1))
    lose_power(medium, kept=0.9)
    assert (medium.read(), medium.lost) == (b"x" * (SECTOR + 1), 0)


def test_any_sectors_may_be_lost_and_one_torn() -> None:
    """Over many losses the first sector is there without the second, the second without the first, and half of one."""
    data = b"a" * SECTOR + b"b" * SECTOR
    seen = set()
    for seed in range(200):
        medium = Medium()
        medium.write(0, data)
        medium.lose_power(random.Random(seed))
        left = medium.read()
        seen.add((left.count(b"a"), left.count(b"b")))
    assert {(0, 0), (SECTOR, 0), (0, SECTOR), (SECTOR, SECTOR)} <= seen
    assert any(0 < a < SECTOR for a, _ in seen)


def test_a_failed_sync_loses_its_writes_though_they_are_read() -> None:
    """After a sync that failed a second one succeeds and has saved nothing."""
    medium = Medium()
    medium.write(0, b"gone")
    medium.broken = "sync"
    with pytest.raises(OSError, match="sync") as caught:
        medium.sync()
    assert caught.value.errno == errno.EIO
    medium.broken = ""
    medium.sync()
    assert medium.read() == b"gone"
    lose_power(medium, kept=0.9)
    assert medium.read() == b""


@pytest.mark.parametrize(("full", "broken", "code"), [(True, "", errno.ENOSPC), (False, "write", errno.EIO)])
def test_a_write_that_fails_changes_nothing(full: bool, broken: Any, code: int) -> None:
    """A disk that is full, or fails to write, keeps what it had."""
    medium = Medium()
    medium.write(0, b"a")
    medium.full, medium.broken = full, broken
    with pytest.raises(OSError, match="simulated disk") as caught:
        medium.write(0, b"b")
    assert (caught.value.errno, medium.read()) == (code, b"a")
