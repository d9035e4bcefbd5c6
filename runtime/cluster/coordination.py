"""What the nodes of a cluster agree on: named rows with versions, changed by compare-and-set.

The seam is `World.coordination` (`runtime.kernel.world.Coordination`); `Rows` puts records on it, a deadline
on each operation, and an end to the doubt after a lost answer. The names:

    cluster        a `Cluster`: what was fixed when the cluster was made
    member/NAME    a `Member`: who bears a name, and until when it is believed to live
    shard/00042    a `Shard`: its owner and epoch

A change whose answer was lost may have been made, or be made later: a thread may still wait for the store. So
nobody acts on it; the same change is tried again in the next round. Either it succeeds now and the late one can
not, or the row has moved on, and what it holds says which of the two it was: a version is taken once, and a row
names its writer and that one's creation.

Source: the compare-and-set registers of ZooKeeper and etcd; docs/decisions/0013.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import trio

from ..codec.cbor import decode, encode
from ..errors import BanyanError, Misuse
from ..kernel.world import Coordination

MAX_NAME: Final = 255  # bytes of UTF-8
MAX_VALUE: Final = 64 << 10  # bytes
# Seconds that one operation may take.
DEADLINE: Final = 2.0


class CoordinationUnreachable(BanyanError):
    """The coordination store gave no answer; `what` was asked, `why`.

    Whether a change was made is not known: try the same one again, or read.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"cannot {what} in the coordination store: {why}; check its disk and who holds its lock")
        self.what = what
        self.why = why


def check_change(name: str, expected: int, value: bytes) -> bytes:
    """The name's bytes; for the backends. Raises: Misuse: a change is out of its bounds."""
    raw = name.encode()
    if not 1 <= len(raw) <= MAX_NAME or expected < 0 or len(value) > MAX_VALUE:
        raise Misuse(
            f"wanted a name of 1 to {MAX_NAME} bytes, a version from 0 up and a value of at most {MAX_VALUE} bytes, "
            f"got {len(raw)}, {expected} and {len(value)}"
        )
    return raw


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A record in the store, and how often its row was written; version 0 and None if there is none."""

    version: int
    value: Any


NOTHING: Final = Row(0, None)


@final
@dataclass(frozen=True, slots=True)
class Change:
    """A row to be written: its name, the version that it must still have, and the record."""

    name: str
    expected: int
    value: object


@final
class Rows:
    """Records in a coordination store.

    Args:
        store: usually `World.coordination`.
        deadline: seconds for one operation, unless it is told another.
    """

    def __init__(self, store: Coordination, deadline: float = DEADLINE) -> None:
        self._store = store
        self._deadline = deadline
        # What was decoded last, by name: most rows stay as they are for days.
        self._decoded: dict[str, tuple[bytes, Row]] = {}

    async def read(self, prefix: str = "", *, deadline: float | None = None) -> dict[str, Row]:
        """All rows whose names begin with `prefix`, as of one moment.

        Raises:
            CoordinationUnreachable: there was no answer in time.
            DecodeError: a row is not of this program's making, or of a later one's.
        """
        found: Mapping[str, tuple[int, bytes]] = {}
        with trio.move_on_after(self._deadline if deadline is None else deadline) as scope:
            found = await self._store.read(prefix)
        if scope.cancelled_caught:
            raise CoordinationUnreachable(f"read {prefix or 'the rows'!r}", "there was no answer in time")
        rows = {}
        for name, (version, data) in found.items():
            known = self._decoded.get(name)
            if known is None or known[1].version != version or known[0] != data:
                known = self._decoded[name] = (data, Row(version, decode(data)))
            rows[name] = known[1]
        return rows

    async def change(self, changes: Sequence[Change], *, deadline: float | None = None) -> list[bool]:
        """Make changes, each for itself; which of them hold now.

        One that was refused because the very same was made before, by a try whose answer was lost, holds.

        Raises:
            CoordinationUnreachable: there was no answer in time; each may have been made, or be made later.
        """
        if not changes:
            return []
        packed = [(change.name, change.expected, encode(change.value)) for change in changes]
        made: list[bool] = []
        with trio.move_on_after(self._deadline if deadline is None else deadline) as scope:
            made = await self._store.compare_and_set(packed)
            if not all(made):
                now = await self._store.read("")
                made = [
                    done or now.get(name) == (expected + 1, value)
                    for done, (name, expected, value) in zip(made, packed, strict=True)
                ]
        if scope.cancelled_caught:
            raise CoordinationUnreachable(f"change {changes[0].name!r}", "there was no answer in time")
        return made
