"""A full check of a store that no node has open: every page, every record, and that nothing is missing.

First the pages, by `lmdb.verify`, which reads the file and never maps it. Then the records, in a process of
its own, because LMDB trusts the pages that it maps: checksums, places, dense sequences and heads, the groups
of the log, snapshots, the index of shards, and the positions, of which each number up to the last belongs to
one entry, or was counted when its shard went; so a process that has vanished as a whole is found as well. Of
a staged shard not all is there yet. Changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, final

import lmdb

from ..codec.cbor import DecodeError, decode
from ..durable.fence import MAX_EPOCH, unpack_fence
from ..durable.journal import Head, StoreDamaged, StoreNewer, checked_entry, checked_snapshot
from ..durable.record import FORMAT, Entry
from ..durable.staging import staged_shard
from . import lmdb_boot as boot
from . import lmdb_rows as layout
from .apart import Died, apart
from .lmdb_floors import FLOORS, unpack_floor
from .lmdb_homes import SHARDS, unpack_home
from .lmdb_pages import Pages
from .lmdb_store import MAP_SIZE, check_transaction
from .lmdb_tail import Placed, unpack_group

# Where a node's relaxed store lies, and the row by which the other remembers it.
RELAXED: Final = "relaxed"
_RELAXED_ROW: Final = b"mrelaxed"
_FENCES: Final = b"mshard/"
MOST: Final = 100  # problems that are told one by one; the others are counted
# Seconds in which the reading of records must get from one report of its progress to the next.
_PATIENCE: Final = 120.0
_REPORT_EVERY: Final = 4096

# (stage, how far, of how much): bytes of pages, then entries.
Progress = Callable[[str, int, int], None]
Transaction = Any  # py-lmdb's, without its stubs' parameter


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `what`; the record's `key`, `sequence` and `position`, "" and 0 if not of one.

    `store` is "relaxed" for what is in the relaxed store.
    """

    what: str
    key: str = ""
    sequence: int = 0
    position: int = 0
    store: str = ""

    def __str__(self) -> str:
        place = f"{self.store} " if self.store else ""
        place += f"{self.key!r} " if self.key else ""
        place += f"record {self.sequence} " if self.sequence else ""
        place += f"position {self.position} " if self.position else ""
        return f"{place.rstrip()}: {self.what}" if place else self.what


@final
@dataclass(slots=True)
class Report:
    """What a check found.

    Attributes:
        path: the store.
        problems: the first MOST of them, in the order of their finding; `found` is how many there are.
        keys, entries, snapshots, groups: how many were read, those of a relaxed store included; groups are
            those of the log.
        epoch, position: the last ones, of the durable store; `wall` is the latest time of an entry, in seconds
            since the Unix epoch.
        node: whose store it is; "" if it says nothing.
        bytes: the size of the data file.
        relaxed: whether there is a relaxed store beside it.
    """

    path: str
    problems: list[Problem] = field(default_factory=list)
    found: int = 0
    keys: int = 0
    entries: int = 0
    snapshots: int = 0
    groups: int = 0
    epoch: int = 0
    position: int = 0
    wall: float = 0.0
    node: str = ""
    bytes: int = 0
    relaxed: bool = False

    def add(self, problem: Problem) -> None:
        """Note a problem."""
        self.found += 1
        if len(self.problems) < MOST:
            self.problems.append(problem)

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        return {"clean": not self.found, **asdict(self)}


def check(path: str, progress: Progress = lambda *_: None) -> Report:
    """Check a store that no node has open; several may do so at a time.

    Args:
        path: the store's directory.
        progress: told how far it is.

    Returns:
        What was found, damage included.

    Raises:
        StoreInUse, StoreMissing, StoreForeign, StoreNewer, StoreNotWritable: it was not checked.
    """
    report = _one(path, progress)
    within = os.path.join(path, RELAXED)
    if os.path.exists(os.path.join(within, boot.MARKER)):
        _join(report, _one(within, progress))
    elif report.relaxed:
        report.add(Problem("its relaxed store is gone"))
    return report


def _one(path: str, progress: Progress) -> Report:
    try:
        claim = boot.claim(path, read_only=True)
    except StoreDamaged as error:
        return _hopeless(path, error)
    try:
        return check_data(path, progress, reached=claim.transaction)
    finally:
        claim.release()


def _join(report: Report, relaxed: Report) -> None:
    """Add what was found in the relaxed store."""
    report.relaxed = True
    report.found += relaxed.found
    report.problems = [*report.problems, *(replace(one, store=RELAXED) for one in relaxed.problems)][:MOST]
    report.keys += relaxed.keys
    report.entries += relaxed.entries
    report.snapshots += relaxed.snapshots
    report.groups += relaxed.groups
    report.bytes += relaxed.bytes
    report.wall = max(report.wall, relaxed.wall)


def check_data(path: str, progress: Progress = lambda *_: None, *, reached: int = 0) -> Report:
    """Check the data file in a directory that nobody writes; as `check`."""
    try:
        boot.check_data(path, reached)
    except StoreDamaged as error:
        return _hopeless(path, error)
    size = os.path.getsize(os.path.join(path, boot.DATA))
    progress("pages", 0, size)
    problems = _pages(path)
    progress("pages", size, size)

    def read(said: Callable[[int], None]) -> dict[str, Any]:
        return asdict(_Reading(path, said, broken=bool(problems)).run())

    report = Report(path)
    try:
        told = apart(read, lambda count: progress("entries", count, 0), _PATIENCE)
        if told["newer"]:
            raise StoreNewer(path, told["newer"])
        found = told["report"]
        found["problems"] = [Problem(**one) for one in found["problems"]]
        report = Report(**found)
    except Died as died:
        report.add(Problem(f"its records cannot be read: {died.why}"))
    records, report.problems = report.problems, []
    report.found += len(problems)
    report.problems = [*map(Problem, problems), *records][:MOST]
    report.bytes = size
    return report


def _hopeless(path: str, error: StoreDamaged) -> Report:
    report = Report(path)
    report.add(Problem(error.found))
    return report


def _pages(path: str) -> list[str]:
    """What is wrong with the pages of the data file."""
    from lmdb import verify

    try:
        found: list[str] = verify.verify(os.path.join(path, boot.DATA), subdir=False)  # type: ignore[no-untyped-call]  # it has no stub
    except (verify.VerifyError, OSError) as error:
        return [f"{boot.DATA}: {error}"]
    return [f"{boot.DATA}: {problem}" for problem in found]


@final
@dataclass(slots=True)
class _Read:
    """What the child says: its report, or the later format of the store."""

    report: Report
    newer: int = 0


@final
class _Reading:
    """One reading of all records; runs where it may die."""

    def __init__(self, path: str, said: Callable[[int], None], *, broken: bool) -> None:
        self._path = path
        self._said = said
        self._broken = broken
        self._report = Report(path)
        # One byte for each position that was given: whether an entry was seen that has it.
        self._seen = bytearray()
        # Entries of the log that are not folded, by key and in order; and those that it repeats.
        self._unfolded: dict[str, list[Placed]] = {}
        self._heads: dict[str, Head] = {}
        self._rows = 0
        self._dropped = 0
        self._newest = 0
        # The shard of each key; those that are staged, or were ever claimed; the positions that no head counts.
        self._homes: dict[str, int] = {}
        self._staged: set[int] = set()
        self._claimed: set[int] = set()
        self._owed = 0

    def run(self) -> _Read:
        try:
            with boot.environment(self._path, MAP_SIZE, read_only=True) as environment:
                try:
                    self._dbs = {name: environment.open_db(name, create=False) for name in layout.DATABASES}
                    for later in (FLOORS, SHARDS):
                        try:
                            self._dbs[later] = environment.open_db(later, create=False)
                        except lmdb.NotFoundError:
                            pass  # of the first days, when nothing was ever dropped or moved
                    with environment.begin() as txn:
                        self._read(txn)
                except StoreNewer as error:
                    return _Read(self._report, error.found)
        except (StoreDamaged, lmdb.Error) as error:
            self._report.add(Problem(error.found if isinstance(error, StoreDamaged) else str(error)))
        return _Read(self._report)

    def _read(self, txn: Transaction) -> None:
        bounds = self._meta(txn)
        self._seen = bytearray(min(bounds.position, 1 << 32) + 1)
        self._log(txn, bounds)
        self._index(txn)
        keys = dict.fromkeys([*self._keys(b"heads"), *self._unfolded, *self._keys(b"snapshots")])
        for key in keys:
            try:
                self._key(txn, key)
            except StoreDamaged as error:
                self._report.add(Problem(error.found, key, error.sequence))
            except lmdb.Error as error:
                self._report.add(Problem(str(error), key))
        for key, shard in self._homes.items():
            if key not in keys:
                self._report.add(Problem(f"it is noted in shard {shard}, and has no entry", key))
        self._strays(txn)
        self._positions(bounds)
        self._report.keys = len(keys)

    # -- the store's own values and the log ----------------------------------------------------------

    def _meta(self, txn: Transaction) -> layout.Bounds:
        report, database = self._report, self._dbs[b"meta"]

        def value(row: bytes) -> bytes | None:
            return layout.unsummed(row, txn.get(row, db=database), self._path)

        version = value(layout.FORMAT_ROW)
        report.epoch = layout.unpack_epoch(value(layout.EPOCH_ROW))
        if version is None or not version.isdigit() or not report.epoch:
            raise StoreDamaged(self._path, "its format or epoch is gone")
        if int(version) > FORMAT:
            raise StoreNewer(self._path, int(version))
        report.relaxed = value(_RELAXED_ROW) is not None
        report.node = (value(layout.NODE_ROW) or b"").decode(errors="replace")
        # Of entries: a fence that cannot be read proves nothing against one.
        self._newest = MAX_EPOCH if self._broken else report.epoch
        if not self._broken:
            for row in txn.cursor(database).iternext(keys=True, values=False):
                try:
                    kept = value(row)
                    if row.startswith(_FENCES):
                        # A process of a shard writes under the shard's epoch, which is not the store's.
                        number = int(row[len(_FENCES) :])
                        self._newest = max(self._newest, unpack_fence(kept, number, self._path).epoch)
                        self._claimed.add(number)
                    elif (shard := staged_shard(row[1:].decode(errors="replace"), self._path)) is not None:
                        self._staged.add(shard)
                except StoreDamaged as error:
                    report.add(Problem(error.found))
        try:
            check_transaction(txn, database, self._path)
        except StoreDamaged as error:
            report.add(Problem(error.found))
        bounds = layout.Bounds.unpack(value(layout.BOUNDS_ROW), self._path)
        report.position = bounds.position
        self._owed = layout.unpack_owed(value(layout.OWED_ROW), self._path)
        return bounds

    def _log(self, txn: Transaction, bounds: layout.Bounds) -> None:
        report, database = self._report, self._dbs[b"log"]
        for number in range(bounds.first, bounds.last + 1):
            packed = txn.get(layout.number_key(number), db=database)
            group = None if packed is None else unpack_group(packed)
            if group is None:
                what = "is missing" if packed is None else "is not what was written"
                report.add(Problem(f"group {number} of the log {what} (it goes from {bounds.first} to {bounds.last})"))
                continue
            report.groups += 1
            for one in group:
                if one.sequence > self._head(txn, one.key).sequence:
                    self._unfolded.setdefault(one.key, []).append(one)
        rows = txn.stat(database)["entries"]
        if rows > max(0, bounds.last - bounds.first + 1):
            report.add(Problem(f"the log has {rows} groups, and should go from {bounds.first} to {bounds.last}"))

    # -- processes -----------------------------------------------------------------------------------

    def _keys(self, name: bytes) -> list[str]:
        """The keys of a database, read from its pages: a cursor of LMDB may die of a ruined one."""
        keys = []
        with Pages.reading(os.path.join(self._path, boot.DATA)) as pages:
            for row in pages.keys(name):
                try:
                    keys.append(row.decode())
                except UnicodeDecodeError:
                    self._report.add(Problem(f"a row of {name.decode()} is nobody's: {row[:40]!r}"))
        return keys

    def _index(self, txn: Transaction) -> None:
        with Pages.reading(os.path.join(self._path, boot.DATA)) as pages:
            for row in pages.keys(SHARDS):
                try:
                    shard, key = unpack_home(row, txn.get(row, db=self._dbs[SHARDS]) or b"", self._path)
                except StoreDamaged as error:
                    self._report.add(Problem(error.found))
                    continue
                if self._homes.setdefault(key, shard) != shard:
                    self._report.add(Problem(f"it is noted in shard {self._homes[key]} and in {shard}", key))

    def _latest(self, key: str) -> int:
        """The epoch that no entry of a key may be beyond."""
        home = self._homes.get(key)
        return self._newest if home is None or home in self._claimed - self._staged else MAX_EPOCH

    def _head(self, txn: Transaction, key: str) -> Head:
        head = self._heads.get(key)
        if head is None:
            try:
                head = layout.unpack_head(key, txn.get(layout.name(key), db=self._dbs[b"heads"]), self._path)
            except StoreDamaged as error:
                self._report.add(Problem(error.found, key))
                head = Head()
            self._heads[key] = head
        return head

    def _key(self, txn: Transaction, key: str) -> None:
        report, stored = self._report, self._head(txn, key).sequence
        first = self._sweep(txn, key, stored)
        before = 0
        for sequence in range(first, stored + 1):
            packed = txn.get(layout.entry_key(key, sequence), db=self._dbs[b"entries"])
            if packed is None:
                report.add(Problem(f"it is missing, though there are {stored}", key, sequence))
                continue
            self._rows += 1
            before = self._entry(packed, key, sequence, before)
        last = stored
        for one in self._unfolded.get(key, ()):
            if one.sequence != last + 1:
                report.add(Problem(f"it is missing, and {one.sequence} is in the log", key, last + 1))
            last = one.sequence
            if last >= first:
                before = self._entry(one.packed, key, last, before)
        known = self._snapshot(txn, key, last)
        if first > known + 1 and self._homes.get(key) not in self._staged:
            report.add(Problem(f"it was dropped, but its snapshot is of {known}", key, first - 1))

    def _sweep(self, txn: Transaction, key: str, stored: int) -> int:
        """The first entry of a key that is kept; what was dropped before it counts, and is not looked at."""
        if FLOORS not in self._dbs:
            return 1
        try:
            first, unswept = unpack_floor(key, txn.get(layout.name(key), db=self._dbs[FLOORS]), self._path)
        except StoreDamaged as error:
            self._report.add(Problem(error.found, key))
            return 1
        self._dropped += first - 1
        for sequence in range(unswept, min(first - 1, stored) + 1):
            self._rows += txn.get(layout.entry_key(key, sequence), db=self._dbs[b"entries"]) is not None
        return first

    def _entry(self, packed: bytes, key: str, sequence: int, before: int) -> int:
        """Check one record; returns its position, or that of the one before it if it has none."""
        report = self._report
        report.entries += 1
        if report.entries % _REPORT_EVERY == 0:
            self._said(report.entries)
        try:
            entry = checked_entry(packed, key, sequence, self._path)
        except StoreDamaged as error:
            report.add(Problem(error.found, key, sequence))
            return before
        report.wall = max(report.wall, entry.wall)
        wrong = self._misplaced(entry, before)
        if wrong:
            report.add(Problem(wrong, key, sequence, entry.feed))
        if entry.epoch > self._latest(key):
            report.add(Problem(f"it is of epoch {entry.epoch}, the store of {self._newest}", key, sequence, entry.feed))
        return max(before, entry.feed)

    def _misplaced(self, entry: Entry, before: int) -> str:
        position = entry.feed
        if not position:
            return ""  # written before positions were given
        if position >= len(self._seen):
            return f"its position is after the last one, {len(self._seen) - 1}"
        if self._seen[position]:
            return "another entry has its position"
        self._seen[position] = 1
        return f"its position is before {before}, that of an older entry" if position < before else ""

    def _snapshot(self, txn: Transaction, key: str, head: int) -> int:
        """Check a key's snapshot; its sequence, 0 if there is none that is whole."""
        report = self._report
        packed = txn.get(layout.name(key), db=self._dbs[b"snapshots"])
        if packed is None:
            return 0
        report.snapshots += 1
        try:
            snapshot = checked_snapshot(packed, key, self._path)
        except StoreDamaged as error:
            report.add(Problem(error.found, key, error.sequence))
            return 0
        if snapshot.sequence > head:
            report.add(Problem(f"its snapshot is of {snapshot.sequence}, its head {head}", key, snapshot.sequence))
        if not _remembers(snapshot.payload):
            report.add(Problem("its snapshot holds no table of senders and replies", key, snapshot.sequence))
        return snapshot.sequence

    # -- what is too much, and what is too little ----------------------------------------------------

    def _strays(self, txn: Transaction) -> None:
        """Find rows that no head tells of."""
        database = self._dbs[b"entries"]
        if self._broken or txn.stat(database)["entries"] == self._rows:
            return
        for row in txn.cursor(database).iternext(keys=True, values=False):
            place = layout.entry_place(row)
            if place is None:
                self._report.add(Problem(f"a row of entries is nobody's: {row[:40]!r}"))
            elif place[1] > (last := self._head(txn, place[0]).sequence):
                self._report.add(Problem(f"it exists, though the last one is {last}", *place))

    def _positions(self, bounds: layout.Bounds) -> None:
        """Find positions that no whole entry has: each was given to one, which may have been dropped."""
        seen, at, gone = self._seen, 1, self._dropped + self._owed
        if (not any(seen) and not self._owed) or seen.count(0) - 1 <= gone:
            return
        if gone:
            missing = seen.count(0) - 1
            self._report.add(Problem(f"no whole entry has {missing} positions, but {gone} were dropped"))
            return
        while (first := seen.find(0, at)) > 0:
            after = seen.find(1, first)
            at = len(seen) if after < 0 else after
            which = f"positions {first} to {at - 1}" if at - first > 1 else f"position {first}"
            self._report.add(Problem(f"no whole entry has {which} of {bounds.position}"))


def _remembers(payload: bytes) -> bool:
    """Whether a snapshot's payload has a state and, of each sender, its highest number and replies.

    What only the application could decode is not judged.
    """
    try:
        value = decode(payload, upcast=lambda name, version, fields: (name, version, fields))
    except DecodeError:
        return True
    if type(value) is not tuple or len(value) < 2 or type(value[1]) is not tuple:
        return False
    return all(
        type(one) is tuple and len(one) >= 3 and type(one[0]) is str and type(one[1]) is int and type(one[2]) is tuple
        for one in value[1]
    )
