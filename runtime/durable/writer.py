"""The journal's writer: the one process that touches the store, committing in groups.

A group is everything that has come when the writer commits; it waits a few passes of the loop for those
that were just answered to come back with their next command. Replies leave only after the
commit. Reads go through the same mailbox, so a process that recovers sees every append that its
predecessor had sent.

The commit runs inline, on the loop: a thread starves beside a busy loop (it waits for the GIL around
every put), and a commit takes 0.2-8 ms. `docs/decisions/0003-inline-commit.md` has the figures.

A commit that fails without harm (the disk is full) is refused to those who asked; any other failure ends
the writer, because a retried fsync lies: its supervisor gives up and the node stops. Source: durability
promises P1 and P7; LMDB's single writer.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast, final

import trio

from ..behaviours.gen import Ack, Behaviour
from ..behaviours.sys import serve_system
from ..errors import BanyanError
from ..kernel.exits import ProcessExit
from ..kernel.messages import Call
from ..kernel.parking import park
from ..kernel.process import Body, Process
from ..kernel.requests import Asker, Caller, SystemCaller, Waiting
from ..kernel.signals import Exit
from .journal import Journal, SequenceConflict, StoreFull
from .record import Entry, Snapshot

SERVICE = "journal"
# Passes of the loop without a new append after which a group is committed: a command's way from its reply
# to the sender's next append takes three.
QUIET_PASSES = 4
LARGEST_GROUP = 4096
_CALLERS = (Caller, Asker)
WRITER = "journal.writer"


@final
class Append(Call[None]):
    """Commit one entry, and a snapshot with it if there is one; answered when both are on the disk."""

    __slots__ = ("entry", "snapshot")

    def __init__(self, entry: Entry | None, snapshot: Snapshot | None = None) -> None:
        self.entry = entry
        self.snapshot = snapshot


@final
class Load(Call[tuple[Snapshot | None, list[Entry]]]):
    """The newest snapshot of a key and the entries after it."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class _Group(list[Caller], Waiting):
    """The appends in hand; if the writer ends, they fail like those in its mailbox."""

    def fail(self, reason: object) -> None:
        for caller in self:
            caller.fail(reason)


@final
class JournalWriter(Behaviour):
    """Serves `Append` and `Load`; started by the node under its system supervisor, as `journal.writer`."""

    trap_exit = True
    mailbox_limit: ClassVar[int] = 1_000_000
    _behaviour_scoped = False

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.groups = 0
        self.entries = 0
        self._last = 0
        self._lonely = 0

    def state(self) -> object:
        return {"groups": self.groups, "entries": self.entries, "epoch": self.journal.epoch}

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        process.behaviour = writer = cls(*args)
        ack.ok()
        return writer._live, None

    async def _live(self, process: Process, _argument: object) -> object:
        task = process.task
        assert task is not None
        group = _Group()
        process.current = group
        while True:
            if process.exiting is not None:
                raise ProcessExit(process.exiting)
            mailbox = process.mailbox
            if not mailbox:
                task.custom_sleep_data = process
                await park()
                continue
            other = self._take(process, group)
            if other is None:
                await self._gather(process, group)
            # Anything but an append sees what came before it committed.
            self._commit(group)
            if isinstance(other, SystemCaller):
                stop = await serve_system(process, self, other)
                if stop is not None:
                    return stop.reason
            elif isinstance(other, Caller | Asker):
                self._read(other)
            elif isinstance(other, Exit) and other.source == process.parent:
                return other.reason

    def _take(self, process: Process, group: _Group) -> object:
        """Move appends from the mailbox to the group, up to the first message that is none; returns that."""
        mailbox = process.mailbox
        while mailbox:
            message = mailbox.popleft()
            if process.uncounted or process.senders:
                message = process.took(message)
            if not (isinstance(message, Caller | Asker) and isinstance(message.request, Append)):
                return message
            group.append(message)
        return None

    async def _gather(self, process: Process, group: _Group) -> None:
        """Let the group grow while others who were just answered come back, for a few passes of the loop.

        A pass costs microseconds, a commit hundreds of them. A writer that was alone in the last groups is
        not made to wait, but for every eighth time, in which two that alternate find together.
        """
        self._lonely = self._lonely + 1 if len(group) == 1 and self._last == 1 else 0
        if self._lonely % 8:
            return
        quiet = 0
        while quiet < QUIET_PASSES and len(group) < LARGEST_GROUP:
            size = len(group)
            await trio.lowlevel.checkpoint()
            mailbox = process.mailbox
            while mailbox and type(mailbox[0]) in _CALLERS and type(mailbox[0].request) is Append:  # type: ignore[attr-defined]  # a Caller
                group.append(cast("Caller", mailbox.popleft()))
            if process.exiting is not None:
                raise ProcessExit(process.exiting)
            quiet = quiet + 1 if len(group) == size else 0

    def _read(self, caller: Caller) -> None:
        if not isinstance(caller.request, Load):
            caller.refuse(BanyanError(f"the journal's writer does not know {caller.request!r}"))
            return
        try:
            caller.answer(self.journal.load(caller.request.key))
        except BanyanError as error:
            # A damaged record stops its own process only; the store serves the others.
            caller.refuse(error)

    def _commit(self, group: _Group) -> None:
        """Commit all of `group` in one transaction and answer them; empties the list."""
        if not group:
            return
        self._last = len(group)
        entries: list[Entry] = []
        snapshots: list[Snapshot] = []
        accepted: list[Caller] = []
        heads: dict[str, int] = {}
        for caller in group:
            request = caller.request
            assert isinstance(request, Append)
            entry = request.entry
            if entry is not None:
                head = heads.get(entry.key)
                if head is None:
                    head = self.journal.head(entry.key)
                if entry.sequence != head + 1:
                    # Checked one by one, so that a stale incarnation cannot fail the others' commit.
                    caller.refuse(SequenceConflict(entry.key, head + 1, entry.sequence))
                    continue
                heads[entry.key] = entry.sequence
                entries.append(entry)
            if request.snapshot is not None:
                snapshots.append(request.snapshot)
            accepted.append(caller)
        try:
            self.journal.commit(entries, snapshots)
        except (StoreFull, SequenceConflict) as error:
            group.clear()
            for caller in accepted:
                caller.refuse(error)
            return
        # Not before: if the commit ends this process, who waits for it is told by the group.
        group.clear()
        self.groups += 1
        self.entries += len(entries)
        for caller in accepted:
            caller.answer(None)
