"""The journal's writer: the one process that touches the store, committing in groups.

A durable process hands it entries and goes on; the writer commits what has come, as one group, and tells
each process how far its entries are on the disk. It waits a few passes of the loop for those that were
just answered to come back with their next command. A process that recovers reads through the writer, which
first commits what a predecessor of the same key had handed over, so that no late entry of the dead can follow.

The commit runs inline, on the loop: a thread starves beside a busy loop (it waits for the GIL around
every put), and a commit takes 0.2-8 ms. `docs/decisions/0003-inline-commit.md` has the figures.

A commit that fails without harm (the disk is full) is told to those whose entries were in it; any other
failure ends the writer, because a retried fsync lies: its supervisor gives up and the node stops. If the
writer ends, so does every process that had entries in its hands.

A node has two: one for what is durable, and one, over a store of its own that is opened when it is first
needed, for what is relaxed; a group never mixes the two. Source: durability promises P1 and P7; LMDB's single
writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import trio

from ..behaviours.gen import Ack, Behaviour
from ..behaviours.sys import serve_system
from ..errors import BanyanError, NoProcess
from ..kernel.exits import ProcessExit, Shutdown, exit_with
from ..kernel.parking import NOTHING, park, wake
from ..kernel.process import Body, Process
from ..kernel.requests import Caller, SystemCaller
from ..kernel.signals import Exit
from ..kernel.table import ProcessTable
from .durability import Durability, OtherDurability, Owned
from .fence import check_fence, judge_shards
from .group import Author, Group, StoreGivenUp
from .journal import NO_FENCES, NO_HOMES, Fenced, Journal, NoStore, SequenceConflict, StoreFull
from .poison import SetAsides
from .record import Entry, Snapshot

SERVICE = "journal"
# Passes of the loop without a new append after which a group is committed: a command's way from its reply
# to the sender's next append takes three.
QUIET_PASSES = 4
# Seconds without one after which it is committed too: where others compute, passes cost more than a commit.
QUIET_SECONDS = 0.001
# Entries and snapshots; a process that would make a group larger commits it there and then.
LARGEST_GROUP = 4096
# Keys of which is known that their shard is noted.
_NOTED = 65536
WRITER = "journal.writer"
# Of the store whose last group a loss of power may take; the service is an `OnDemand`.
RELAXED = "journal.relaxed"
_IS_THERE = "relaxed"


def has_relaxed(main: Journal) -> bool:
    """Whether there is a relaxed store beside a durable one."""
    return main.get_meta(_IS_THERE) is not None


@final
class OnDemand:
    """The relaxed store of a node: opened, and made, when it is first asked for.

    Args:
        open: opens it.
        main: the durable store, which remembers that there is one.
    """

    def __init__(self, open: Callable[[], Journal], main: Journal) -> None:
        self._open = open
        self._main = main
        self._journal: Journal | None = None
        # Whether there is one.
        self.made = has_relaxed(main)

    @property
    def journal(self) -> Journal:
        """The store, opened now if need be; raises as the open of any store does."""
        if self._journal is None:
            if not self.made:
                self._main.set_meta(_IS_THERE, b"1")
                self.made = True
            self._journal = self._open()
        return self._journal

    @property
    def opened(self) -> bool:
        """Whether it is open."""
        return self._journal is not None

    def holds(self, key: str) -> bool:
        """Whether it has a history of a key; does not make it."""
        return self.made and self.journal.head(key) > 0

    def close(self) -> None:
        """Close it if it was opened."""
        if self._journal is not None:
            self._journal.close()


@final
class Lost:
    """An author's note to itself: nothing that was not settled will be, because of `error`."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def writer_of(table: ProcessTable, name: str = WRITER) -> JournalWriter:
    """The living writer of a node: of its durable store, or with RELAXED of its relaxed one.

    Raises:
        NoProcess: there is none now.
    """
    writer = table.services.get(f"{name} writer" if name == RELAXED else name)
    if not isinstance(writer, JournalWriter):
        raise NoProcess("the journal's writer is not alive: wait until it was restarted", WRITER)
    return writer


def own_writer(table: ProcessTable, name: str) -> JournalWriter:
    """As `writer_of`, for the calling process, which ends in order if an adopted store was given up."""
    try:
        return writer_of(table, name)
    except NoProcess:
        if name in (WRITER, RELAXED):
            raise
        exit_with(Shutdown(StoreGivenUp(name)))


def place_of(table: ProcessTable, key: str, durability: Durability, process: str, owned: Owned | None = None) -> str:
    """The service whose writer keeps a key of a durability class; "" for a volatile one.

    Raises:
        NoStore: the node keeps nothing.
        OtherDurability: the key's history lies elsewhere.
        NoProcess: that store's writer is not alive.
    """
    if owned is not None and owned.writer:
        if durability == "relaxed":
            raise OtherDurability(key, "relaxed in a store that was not adopted with the other", durability)
        return "" if durability == "volatile" else owned.writer
    relaxed = table.services.get(RELAXED)
    if SERVICE not in table.services:
        if durability != "volatile":
            raise NoStore(process, table.node)
        return ""
    if durability in ("relaxed", "volatile") and writer_of(table).head(key):
        raise OtherDurability(key, "durable or periodic", durability)
    if durability == "relaxed":
        if not isinstance(relaxed, OnDemand):
            raise NoStore(process, table.node)
        return RELAXED
    # Asked only for keys that are new here: a relaxed store that is damaged stops nobody who has a history.
    if isinstance(relaxed, OnDemand) and relaxed.made and not writer_of(table).head(key) and relaxed.holds(key):
        raise OtherDurability(key, "relaxed", durability)
    return "" if durability == "volatile" else WRITER


@final
class JournalWriter(Behaviour):
    """Started by the node under its system supervisor, as `journal.writer`; reached by `writer_of`.

    Args:
        store: what it writes to.
        service: under which name `writer_of` finds it.
    """

    trap_exit = True
    mailbox_limit: ClassVar[int] = 1_000_000
    _behaviour_scoped = False
    _behaviour_hurries = False  # what it was given before it was told to end is still committed

    def __init__(self, store: Journal | OnDemand, service: str = WRITER) -> None:
        self._store = store
        self._service = f"{service} writer" if service == RELAXED else service
        self.groups = 0
        self.entries = 0
        # How many groups had fewer than 2**index entries, and as many as the index before allows, or more.
        self.sizes = [0] * (LARGEST_GROUP.bit_length() + 1)
        self._group = Group(WRITER, adopted=service not in (WRITER, RELAXED))
        self._last = 0
        self._lonely = 0
        # Keys whose shard is noted, each with the epoch under which that was done.
        self._noted: dict[str, int] = {}
        self._watched: dict[int, set[str]] = {}
        self._failure: BaseException | None = None
        self._process: Process

    def state(self) -> object:
        opened = not isinstance(self._store, OnDemand) or self._store.opened
        return {"groups": self.groups, "entries": self.entries, "epoch": self.journal.epoch if opened else None}

    @property
    def journal(self) -> Journal:
        """The store, opened now if it is one on demand."""
        store = self._store
        return store.journal if isinstance(store, OnDemand) else store

    @property
    def set_asides(self) -> SetAsides:
        """The commands that were set aside in this store; read once in the life of the node."""
        services, name = self._process.table.services, f"{self._service} set-asides"
        found = services.get(name)
        if not isinstance(found, SetAsides):
            found = services[name] = SetAsides(self.journal)
        return found

    # -- what durable processes ask ------------------------------------------------------------------

    def append(
        self,
        entry: Entry,
        author: Author,
        snapshot: Snapshot | None = None,
        floor: int = 0,
        shard: int | None = None,
    ) -> None:
        """Take an entry that is its key's next one; `author` is told later, never during this call.

        Args:
            snapshot, floor: of the same key, to be committed with it: as for `keep`.
            shard: that the process belongs to; then the entry's epoch is the shard's.

        Raises: what a commit raises, if the group was so large that it was committed now.
        """
        group = self._group
        group.entries.append(entry)
        group.authors.append(author)
        if snapshot is not None:
            group.saved.append((entry, snapshot, floor))
        if shard is not None:
            group.fenced.append((entry, shard))
        self._woken(group)

    def keep(self, snapshot: Snapshot, floor: int = 0, shard: int | None = None) -> None:
        """Take a snapshot. Nobody is told: if it is lost, recovery reads more entries.

        Args:
            floor: the first entry of the key to keep from now on; 0: nothing is dropped.
            shard: as for `append`.
        """
        self._group.keep(snapshot, floor)
        if shard is not None:
            self._group.fenced.append((snapshot, shard))
        self._woken(self._group)

    def write_alone(self, key: str, payload: bytes, wall: float) -> int:
        """Commit one entry of a key that no process runs, now, behind all that was handed over; its sequence.

        Raises: StoreFull: nothing was written; whatever else a commit raises, which ends the writer.
        """
        return self.write_all(key, [payload], wall)

    def write_all(self, key: str, payloads: Sequence[bytes], wall: float) -> int:
        """As `write_alone`, with several entries, all of them or none; the sequence of the first."""
        self.flush()
        journal = self.journal
        first, epoch = journal.head(key) + 1, journal.epoch
        try:
            journal.commit([Entry(key, first + n, epoch, 1, "", 0, wall, 0, one) for n, one in enumerate(payloads)])
        except StoreFull:
            raise
        except BaseException as error:
            self._failure = error
            self._process.post(None)
            raise
        return first

    def watch_shard(self, shard: int) -> set[str]:
        """The keys of the shard of which a record is committed from now on; the caller takes out what it has seen.

        It is told to one at a time: a second call begins anew. What was handed over before may be among it.
        """
        found = self._watched[shard] = set()
        return found

    def unwatch_shard(self, shard: int) -> None:
        """Nobody wants to know that any more. Harmless if nobody did."""
        self._watched.pop(shard, None)

    def head(self, key: str) -> int:
        """The last entry of a key, after committing what was handed over of it."""
        if self._group.has(key):
            self.flush()
        return self.journal.head(key)

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        """The newest snapshot of a key and the entries after it, after committing what was handed over of it.

        Others' entries wait for their own time: when many processes start at once, each would cost a commit.

        Raises: StoreDamaged, StoreNewer: the key's own records; the store serves the others.
        """
        if self._group.has(key):
            self.flush()
        return self.journal.load(key)

    def epoch_for(self, owned: Owned | None) -> int:
        """The epoch that a process's entries bear from now on: its shard's, or that of this life of the node.

        Raises: Fenced: the shard may not be written under that epoch.
        """
        journal = self.journal
        if owned is None:
            return journal.epoch
        shard, epoch, main = owned.shard, owned.epoch, self._process.table.services.get(SERVICE)
        if self._service == f"{RELAXED} writer" and isinstance(main, Journal):
            # The relaxed store: the durable one is its judge.
            check_fence(main.path, shard, epoch, main.fence(shard))
            if journal.fence(shard).epoch < epoch:
                journal.claim({shard: epoch})
        check_fence(journal.path, shard, epoch, journal.fence(shard))
        return epoch

    def _woken(self, group: Group) -> None:
        if len(group.entries) + len(group.snapshots) >= LARGEST_GROUP:
            self.flush()
            return
        process = self._process
        task = process.task
        if task is not None and task.custom_sleep_data is process:
            wake(task, NOTHING)

    def flush(self) -> None:
        """Commit now what was handed over, in the caller's place: a failure is the writer's too, and ends it."""
        try:
            self._commit()
        except BaseException as error:
            self._failure = error
            self._process.post(None)
            raise

    # -- the process ---------------------------------------------------------------------------------

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        process.behaviour = writer = cls(*args)
        writer._process = process
        process.table.services[writer._service] = writer
        ack.ok()
        return writer._live, None

    async def _live(self, process: Process, _argument: object) -> object:
        task = process.task
        assert task is not None
        # Whoever has entries in it is told if this process ends.
        process.current = self._group
        try:
            while True:
                if process.exiting is not None:
                    raise ProcessExit(process.exiting)
                if self._group:
                    await self._gather(process)
                    self._commit()
                elif not process.mailbox:
                    task.custom_sleep_data = process
                    await park()
                    continue
                if process.mailbox:
                    message = process.took(process.mailbox.popleft())
                    if self._failure is not None:
                        raise self._failure
                    if isinstance(message, SystemCaller):
                        stop = await serve_system(process, self, message)
                        if stop is not None:
                            return stop.reason
                        process.current = self._group
                    elif isinstance(message, Caller):
                        message.refuse(BanyanError(f"the journal's writer does not know {message.request!r}"))
                    elif isinstance(message, Exit) and message.source == process.parent:
                        return message.reason
        finally:
            process.table.services.pop(self._service, None)

    async def _gather(self, process: Process) -> None:
        """Let the group grow while others who were just answered come back, for a few passes of the loop.

        A pass costs microseconds, a commit hundreds of them. A writer that was alone in the last groups is
        not made to wait, but for every eighth time, in which two that alternate find together. Where passes
        take long, because somebody computes, fewer are waited for.
        """
        group = self._group
        self._lonely = self._lonely + 1 if len(group) == 1 and self._last == 1 else 0
        if self._lonely % 8:
            return
        quiet, since = 0, trio.current_time()
        while quiet < QUIET_PASSES:
            size = len(group)
            await trio.lowlevel.checkpoint()
            if process.exiting is not None:
                raise ProcessExit(process.exiting)
            now = trio.current_time()
            if len(group) != size:
                quiet, since = 0, now
            elif now - since >= QUIET_SECONDS:
                return
            else:
                quiet += 1

    def _commit(self) -> None:
        """Commit the group in one transaction and tell its authors; empties it."""
        group = self._group
        if not group:
            return
        if self._failure is not None:
            raise self._failure
        self._last = len(group)
        fences, barred = judge_shards(self.journal, group.fenced) if group.fenced else (NO_FENCES, None)
        if barred is not None:
            group.bar(barred)
        settled, strangers = self._judge(group, barred)
        homes = NO_HOMES
        if barred is not None:
            homes = group.homes(barred, self._noted, self.journal.head, some=bool(strangers))
        try:
            if group.floors or fences:
                self.journal.commit(group.entries, group.snapshots, group.floors, fences, homes)
            else:
                self.journal.commit(group.entries, group.snapshots)
        except (StoreFull, SequenceConflict, Fenced) as error:
            group.clear()
            for author, _ in settled.values():
                author._journal_lost(error)
        else:
            self.groups += 1
            self.entries += len(group.entries)
            self.sizes[len(group.entries).bit_length()] += 1
            if homes:
                self._note(homes, fences)
            if self._watched and barred is not None:
                self._show(group, barred)
            # Not before: if the commit ends this process, who waits for it is told by the group.
            group.clear()
            for author, sequence in settled.values():
                author._journal_settled(sequence)
        for author, refusal in strangers.values():
            author._journal_lost(refusal)

    def _note(self, homes: Mapping[str, int], fences: Mapping[int, int]) -> None:
        if len(self._noted) > _NOTED:
            self._noted.clear()  # some are noted once more
        self._noted.update({key: fences[shard] for key, shard in homes.items()})

    def _show(self, group: Group, barred: dict[int, Fenced | None]) -> None:
        """Tell those who watch a shard which keys of it were written."""
        watched = self._watched
        for record, shard in group.fenced:
            if shard in watched and barred[id(record)] is None:
                watched[shard].add(record.key)

    def _judge(
        self, group: Group, barred: dict[int, Fenced | None] | None
    ) -> tuple[dict[int, tuple[Author, int]], dict[int, tuple[Author, SequenceConflict | Fenced]]]:
        """How far each author gets with this group; takes out entries that are not their key's next one.

        Checked one by one, so that a stale incarnation cannot fail the others' commit.
        """
        heads: dict[str, int] = {}
        known = heads.get
        settled: dict[int, tuple[Author, int]] = {}
        strangers: dict[int, tuple[Author, SequenceConflict | Fenced]] = {}
        accepted: list[Entry] = []
        head_of, epoch = self.journal.head, self.journal.epoch
        for entry, author in zip(group.entries, group.authors, strict=True):
            key, sequence = entry.key, entry.sequence
            if barred is not None and id(entry) in barred:
                refusal = barred[id(entry)]
                if refusal is not None:
                    strangers.setdefault(id(author), (author, refusal))
                    continue
            elif entry.epoch != epoch:
                # The fence: whoever recovered in another life of the node decides nothing in this one, also
                # where the key has no entry of this epoch yet that the journal could hold against it.
                strangers.setdefault(id(author), (author, SequenceConflict(key, epoch, entry.epoch, "epoch")))
                continue
            head = known(key)
            if head is None:
                head = head_of(key)
            if sequence != head + 1:
                strangers.setdefault(id(author), (author, SequenceConflict(key, head + 1, sequence)))
                continue
            heads[key] = sequence
            settled[id(author)] = (author, sequence)
            accepted.append(entry)
        if strangers:
            group.entries[:] = accepted
        for entry, snapshot, floor in group.saved:
            if not strangers or any(entry is one for one in accepted):
                group.keep(snapshot, floor)
        return settled, strangers
