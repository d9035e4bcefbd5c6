"""A cluster in miniature: the real membership of several nodes over a store and clocks that somebody else moves.

What runs is `runtime.cluster.membership` with its machines, and real journals in memory with their fences. What
does not is Trio: each node's round is a coroutine that stops at every question to the coordination store, and
whoever drives the model says when the question reaches the store, when the answer reaches the node, and whether
either is lost. So a node can be paused anywhere for any time, and a change can land long after it was given up.

What must hold, after every step:

- **epoch**: a shard's epoch never falls, and belongs to one life of one node.
- **twice**: nobody is told of a shard under an epoch that was served before, or that is not above all before.
- **stolen**: no shard is taken from a node that serves it and whose lease holds.
- **stale**: nothing is written under an epoch once a higher one is served.
- **lost**: what was written to a shard is in the store of whoever writes to it next.
- **orphan**, once the faults are over: every shard is served that has data nowhere or at a living node.
- **balance**, once the faults are over and if nothing was written: nobody has two shards more than another.

`Broken` is raised with the word of what does not.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster import joining, membership
from runtime.cluster.coordination import Change, CoordinationUnreachable, Row
from runtime.cluster.joining import Joined, join, store_id
from runtime.cluster.members import JoinRefused
from runtime.cluster.membership import Leave, Membership, NoFences, ShardLost, ShardOwned
from runtime.cluster.placement import Shard, shards_of
from runtime.codec.cbor import decode, encode
from runtime.durable.fence import NodeFences
from runtime.durable.journal import Fenced, StoreInUse
from runtime.durable.record import Entry

SHARDS = 5
# Seconds after which everything has been noticed.
CALM = 60.0


class Broken(AssertionError):
    """Something that must hold does not; the text begins with its name."""


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@dataclass
class Question:
    """What a node asks of the store: a prefix to read, or changes."""

    prefix: str = ""
    changes: Sequence[tuple[str, int, bytes]] = ()


@types.coroutine
def asked(question: Question) -> Generator[Question, Any, Any]:
    """Wait until the driver brings the answer."""
    return (yield question)


class Line:
    """In the place of `Rows`: the same rules, but its questions wait for the driver."""

    def __init__(self, store: object) -> None:
        pass

    async def read(self, prefix: str = "", *, deadline: float | None = None) -> dict[str, Row]:
        found = await asked(Question(prefix))
        return {name: Row(version, decode(data)) for name, (version, data) in found.items()}

    async def change(self, changes: Sequence[Change], *, deadline: float | None = None) -> list[bool]:
        packed = [(one.name, one.expected, encode(one.value)) for one in changes]
        if not packed:
            return []
        made = await asked(Question(changes=packed))
        if not all(made):
            now = await asked(Question(""))
            made = [
                done or now.get(name) == (expected + 1, value)
                for done, (name, expected, value) in zip(made, packed, strict=True)
            ]
        return list(made)


@dataclass
class Host:
    """A machine with a name and perhaps a disk, on which one life of a node runs after the other."""

    name: str
    disk: MemoryDisk | None
    wall_offset: float = 0.0
    lives: int = 0
    journal: MemoryJournal | None = None
    joined: Joined | None = None
    membership: Membership | None = None
    work: Coroutine[Any, Any, Any] | None = None
    question: Question | None = None
    answer: Any = None
    answered: bool = False
    running: bool = False
    ended: bool = False
    # (shard, epoch) of whoever works here, and of those who have not heard yet that it is over.
    workers: list[tuple[int, int]] = field(default_factory=list)
    strays: list[tuple[int, int]] = field(default_factory=list)
    # Stores of others that it has adopted, by their ids.
    adopted: dict[str, MemoryJournal] = field(default_factory=dict)
    # Where each shard that it was told of has its data.
    homes: dict[int, str] = field(default_factory=dict)


class Model:
    """The cluster, and all that may happen to it. To be used as a context manager."""

    def __init__(self, seed: int = 0, hosts: Sequence[tuple[str, bool]] = (("a", True), ("b", True), ("c", False))):
        self.now = 0.0
        self.random = Random(seed)
        self.store = LocalCoordination()
        self.hosts = [Host(name, MemoryDisk(name) if keeps else None) for name, keeps in hosts]
        self.late: list[Question] = []
        self.told: dict[tuple[int, int], tuple[str, int]] = {}
        self.highest: dict[int, int] = {}
        self.granted: dict[tuple[int, int], tuple[str, int]] = {}
        # Of each shard: where it was written, under which epoch last, and how often.
        self.written: dict[int, tuple[str, int, int]] = {}
        self.passed: set[str] = set()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Model:
        self._patch.setattr(membership, "Rows", Line)
        self._patch.setattr(joining, "Rows", Line)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        for host in self.hosts:
            if host.work is not None:
                host.work.close()

    # -- what may happen -----------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """A new life begins, on the same disk."""
        if host.running:
            return
        if host.disk is not None:
            try:
                host.journal = MemoryJournal(host.disk, node=host.name)
            except StoreInUse:
                self.passed.add("store in use")
                return
        host.running, host.ended = True, False
        host.lives += 1
        host.membership = host.joined = None
        self._run(
            host,
            join(
                self._world(host),
                name=host.name,
                address=host.name,
                store=host.journal,
                data=host.name if host.disk else "",
                shards=SHARDS,
            ),
            self._join_over,
        )

    def begin(self, host: Host) -> None:
        """The node begins its next round, or tries to join again."""
        if host.running and host.work is None:
            if host.membership is None:
                host.running = False
                self._drop_journal(host)
                self.start(host)
            else:
                self._run(host, host.membership._round(), self._round_over)

    def leave(self, host: Host) -> None:
        """The node leaves in order."""
        if host.running and host.work is None and host.membership is not None:
            self._run(host, host.membership.handle_call(Leave(), None), self._left)

    def serve(self, host: Host) -> None:
        """The node's question reaches the store; the answer is on its way."""
        if host.question is not None and not host.answered:
            host.answer, host.answered = self._ask(host.question), True

    def hear(self, host: Host) -> None:
        """The answer reaches the node."""
        if host.answered:
            self._go_on(host, lambda work: work.send(host.answer))

    def deafen(self, host: Host, *, late: bool) -> None:
        """The node gives up waiting. If its question has not reached the store, that may still happen, if `late`."""
        if host.question is not None:
            if late and not host.answered and host.question.changes:
                self.late.append(host.question)
                self.passed.add("late change")
            if host.answered and host.question.changes:
                self.passed.add("lost answer")
            self._go_on(host, lambda work: work.throw(CoordinationUnreachable("ask", "the model says so")))

    def land(self) -> None:
        """A change that was given up reaches the store after all."""
        if self.late:
            self._ask(self.late.pop(0))

    def crash(self, host: Host) -> None:
        """kill -9."""
        if host.running:
            self.passed.add("crash")
            host.running = False
            if host.work is not None:
                host.work.close()
            host.work = host.question = host.membership = None
            host.answered = False
            self._drop_journal(host)
            for journal in host.adopted.values():
                journal.close()
            host.adopted.clear()
            host.workers.clear()
            host.strays.clear()

    def adopt(self, host: Host, other: Host) -> None:
        """The node takes a dead one's disk, if its lock is free; or gives it back."""
        if host.membership is None or other.disk is None or other is host:
            return
        store = self._store_id(other)
        if store in host.adopted:
            host.membership.give_up(store)
            host.adopted.pop(store).close()
            self.passed.add("given up")
            return
        try:
            journal = MemoryJournal(other.disk, node=other.name)
        except StoreInUse:
            return
        if not store_id(journal):
            journal.close()
            return
        host.adopted[store] = journal
        host.membership.hold(store, NodeFences(journal))
        self.passed.add("adopted")

    def wait(self, seconds: float) -> None:
        """Time passes for all, whatever they are doing."""
        self.now += seconds

    def jump(self, host: Host, seconds: float) -> None:
        """The host's wall clock is set to another time."""
        host.wall_offset += seconds

    def write(self, host: Host, choice: int) -> None:
        """Somebody on the host writes for a shard; also one who has not heard that it is over."""
        some = host.workers + host.strays
        if not some or not host.running:
            return
        shard, epoch = some[choice % len(some)]
        home = host.homes[shard]
        journal = host.adopted.get(home) if home else host.journal
        if journal is None:
            return
        key = f"shard {shard}"
        entry = Entry(key, journal.head(key) + 1, epoch, 1, "", 0, self.now, 0, b"")
        try:
            journal.commit([entry], fences={shard: epoch})
        except Fenced:
            self.passed.add("fenced")
            return
        where, last, count = self.written.get(shard, (journal.path, 0, 0))
        if self.highest[shard] > epoch or last > epoch:
            raise Broken(f"stale: {host.name} wrote to shard {shard} under {epoch}, after {self.highest[shard]}")
        if where != journal.path or journal.head(key) != count + 1:
            raise Broken(f"lost: {count} entries of shard {shard} are at {where}, and {host.name} writes to it")
        self.passed.add("written" if journal is host.journal else "written in adopted")
        self.written[shard] = journal.path, epoch, count + 1

    def settle(self) -> None:
        """The faults are over: late changes land, and the living do their rounds. Then all must be in its place."""
        while self.late:
            self.land()
        end = self.now + CALM
        while self.now < end:
            for host in self.hosts:
                self.round(host)
            self.wait(2.0)
        rows = self._shards()
        living = {host.name for host in self.hosts if host.membership is not None and host.running}
        if not living:
            return
        for shard in range(SHARDS):
            served = [host.name for host in self.hosts for one in host.workers if host.running and one[0] == shard]
            home = rows.get(shard, (0, Shard()))[1].home
            held = [{self._store_id(host), *host.adopted} for host in self.hosts if host.name in living]
            if home and not any(home in stores for stores in held):
                continue
            if len(served) != 1:
                raise Broken(f"orphan: shard {shard} is served by {served or 'nobody'}, {sorted(living)} live")
        counts = [len(host.workers) for host in self.hosts if host.name in living]
        if not self.written and sum(counts) == SHARDS and max(counts) - min(counts) > 1:
            raise Broken(f"balance: {counts}")

    def round(self, host: Host) -> None:
        """One whole round of a node, without a fault."""
        if not host.running:
            return
        if host.work is None:
            self.begin(host)
        for _ in range(40):
            if host.work is None:
                return
            self.serve(host)
            self.hear(host)
        raise AssertionError(f"the round of {host.name} does not end")

    # -- how it runs ---------------------------------------------------------------------------------

    def _world(self, host: Host) -> Any:
        return types.SimpleNamespace(
            now=lambda: self.now, wall=lambda: self.now + 1e9 + host.wall_offset, random=self.random, coordination=None
        )

    def _run(self, host: Host, work: Coroutine[Any, Any, Any], over: Callable[[Host, Any], None]) -> None:
        host.work = work
        host.over = over  # type: ignore[attr-defined]  # told when this work is done
        self._go_on(host, lambda work: work.send(None))

    def _go_on(self, host: Host, how: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        assert host.work is not None
        host.question, host.answered = None, False
        try:
            host.question = how(host.work)
        except StopIteration as stop:
            host.work = None
            host.over(host, stop.value)  # type: ignore[attr-defined]  # see `_run`
        except (CoordinationUnreachable, JoinRefused):
            host.work = None

    def _join_over(self, host: Host, joined: Joined) -> None:
        host.joined = joined
        host.membership = made = object.__new__(Membership)
        fences = NoFences() if host.journal is None else NodeFences(host.journal)
        made.__dict__.update(
            _world=self._world(host),
            _cluster=joined.cluster,
            _members=joined.members,
            _placement=joined.placement,
            _reports=joined.reports,
            _fences=fences,
            _held={},
            _in_use={},
            rows=Line(None),
            _subscribers=[],
            _unreachable="",
            _forever=None,
            _tell=lambda message: self._tell(host, message),
        )

    def _round_over(self, host: Host, _: Any) -> None:
        assert host.membership is not None
        if host.membership._forever is not None:
            self.crash(host)

    def _left(self, host: Host, _: Any) -> None:
        self.passed.add("left")
        self.crash(host)

    def _drop_journal(self, host: Host) -> None:
        if host.journal is not None:
            host.journal.close()
            host.journal = None

    def _store_id(self, host: Host) -> str:
        return host.disk.meta.get("cluster/store", b"").decode() if host.disk is not None else ""

    def _tell(self, host: Host, message: object) -> None:
        if isinstance(message, ShardOwned):
            host.homes[message.shard] = message.home
            self._owned(host, message.shard, message.epoch)
        elif isinstance(message, ShardLost):
            one = message.shard, message.epoch
            if one in host.workers:
                host.workers.remove(one)
                host.strays.append(one)

    def _owned(self, host: Host, shard: int, epoch: int) -> None:
        life = host.name, host.lives
        if (shard, epoch) in self.told:
            raise Broken(f"twice: {life} serves shard {shard} under {epoch}, as {self.told[shard, epoch]} did")
        if epoch <= self.highest.get(shard, 0):
            raise Broken(f"twice: {life} serves shard {shard} under {epoch}, after {self.highest[shard]}")
        self.told[shard, epoch] = life
        self.highest[shard] = epoch
        host.workers.append((shard, epoch))

    # -- the store -----------------------------------------------------------------------------------

    def _shards(self) -> dict[int, tuple[int, Shard]]:
        found = finished(self.store.read("shard/"))
        return shards_of((name, version, decode(data)) for name, (version, data) in found.items())

    def _ask(self, question: Question) -> Any:
        if not question.changes:
            return finished(self.store.read(question.prefix))
        before = self._shards()
        made = finished(self.store.compare_and_set(question.changes))
        for shard, (version, row) in self._shards().items():
            old_version, old = before.get(shard, (0, Shard()))
            if version != old_version or row != old:
                self._check_row(shard, old, row)
        return made

    def _check_row(self, shard: int, old: Shard, new: Shard) -> None:
        if new.epoch < old.epoch:
            raise Broken(f"epoch: that of shard {shard} fell from {old.epoch} to {new.epoch}")
        if not new.owner:
            return
        life = new.owner, new.creation
        if self.granted.setdefault((shard, new.epoch), life) != life:
            raise Broken(f"epoch: {new.epoch} of shard {shard} belongs to {self.granted[shard, new.epoch]} and {life}")
        if old.owner and (old.owner, old.creation) != life:
            for host in self.hosts:
                if host.running and host.membership is not None and host.joined is not None:
                    members = host.joined.members
                    # Who does not serve it any more, or not yet, need not be asked.
                    serves = host.joined.placement.serves(shard) == old.epoch
                    held = serves and members.serving and self.now < members.lease_end
                    owner = (host.name, members.me.creation) == (old.owner, old.creation)
                    if owner and held and self._is_theft(host, shard, old, new):
                        raise Broken(f"stolen: shard {shard} from {host.name}, by {new.owner}")

    def _is_theft(self, host: Host, shard: int, old: Shard, new: Shard) -> bool:
        """Whether a shard may not be taken from an owner who serves it and whose lease holds."""
        return True
