"""The owner's half of a router: the shards that belong to this node, and what comes for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from runtime.durable.durability import Owned
from runtime.kernel.ids import Ref
from runtime.kernel.process import Process
from runtime.kernel.signals import Answer
from runtime.kernel.timer import send_after

from .frames import Carry, Probe
from .post import Owner, Post
from .shard import Entity, Label, Shard
from .window import redirect

# Seconds for which a shard waits for its luggage, and how many frames wait with it.
PATIENCE: Final = 5.0
EARLY: Final = 1024


@final
@dataclass(frozen=True, slots=True)
class Restore:
    """Time to start the next of those who are remembered."""


@final
class Inward:
    """The shards that are here, by number."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self.shards: dict[int, Shard] = {}
        # Shards that were given up and whose processes have not ended yet; nothing of theirs is served meanwhile.
        self._closing: set[int] = set()
        # Shards that are to be served when their luggage is there: under which epoch, until when, and what has come.
        self._expected: dict[int, tuple[int, float, list[Probe | Carry]]] = {}
        # Told of each shard that is given up.
        self.on_lost: Callable[[int], None] = lambda _number: None
        self._restore: deque[tuple[Shard, Entity]] = deque()
        self._restoring = False

    # -- what doors ask, from the tasks of callers -----------------------------------------------------

    def near(self, number: int, key: str) -> Process | None:
        """An entity's process, if it runs here and nothing goes before what is sent to it now."""
        shard = self.shards.get(number)
        if shard is None or shard.intake.frozen:
            return None
        if self._post.owner(number) != (self._post.node, shard.intake.epoch):
            return None
        entity = shard.entities.get(key)
        if entity is None or entity.asking is not None or entity.ending or entity.waiting:
            return None  # one that is being started may have mail that has come along
        process = self._post.table.names.get(entity.name)
        if process is not None:
            entity.used = True
        return process

    def in_use(self, number: int) -> bool:
        """Whether entities of a shard run here, or something waits for them: what a loss of the shard would end."""
        shard = self.shards.get(number)
        return shard is not None and bool(shard.entities or shard.intake.under_way or shard.intake.hold)

    # -- frames --------------------------------------------------------------------------------------

    def take(self, frame: Probe | Carry) -> None:
        """A sender's frame."""
        post = self._post
        shard = self.own(frame.shard)
        if shard is None and frame.shard in self._expected:
            early = self._expected[frame.shard][2]
            if len(early) < EARLY:  # what is lost here is sent again
                early.append(frame)
        elif shard is None:
            moved = redirect(post.owner(frame.shard), post.node, frame.epoch, frame.shard, frame.sender)
            if moved is not None:
                post.to(frame.node, moved)
        elif isinstance(frame, Probe):
            opened, outcomes = shard.intake.probe(frame)
            for number, outcome in outcomes:
                post.to(frame.node, shard.intake.done(frame.sender, number, outcome))
            post.to(frame.node, opened)
        else:
            taken = shard.intake.carry(frame)
            if taken.repeat is not None:
                post.to(frame.node, shard.intake.done(frame.sender, frame.number, taken.repeat))
            if taken.open is not None:
                post.to(frame.node, taken.open)
            if taken.run:
                shard.take(frame)

    # -- who owns what -------------------------------------------------------------------------------

    def own(self, number: int) -> Shard | None:
        """The shard, if it belongs to this node now; one that does so no more is given up."""
        here, owner = self._post.node, self._post.owner(number)
        shard = self.shards.get(number)
        if shard is not None and owner != (here, shard.intake.epoch):
            if shard.intake.frozen and owner == (here, epoch := shard.intake.epoch + 1):
                # It was to move, and stays, for nobody can have had it between: who has frozen it says when it goes on.
                shard.adopt(epoch)
                return shard
            self.lose(shard, owner)
            shard = None
        if shard is None and number in self._expected and not self._waits_no_more(number, owner):
            return None
        if shard is None and owner is not None and owner[0] == here and number not in self._closing:
            claimed = self._post.clustered and self._post.spec.durable
            owned = Owned(number, owner[1], self._post.writer(number)) if claimed else None
            shard = self.shards[number] = Shard(self._post, number, owner[1], owned)
            if self._post.spec.remember:
                shard.open()
        return shard

    def placed(self, number: int | None = None) -> None:
        """The placement may have changed, of one shard or of any.

        A region that remembers its entities takes every shard that is its own.
        """
        remembers = self._post.spec.remember
        numbers = range(self._post.shards) if remembers else list(self.shards)
        for one in [*self._expected] if number is None else ():
            self._waits_no_more(one, self._post.owner(one))
        for one in numbers if number is None else [number]:
            if remembers or one in self.shards:
                self.own(one)

    def holds(self, number: int) -> bool:
        """Whether there is anything of a shard here, be it processes of it that have not ended yet."""
        return number in self.shards or number in self._closing

    @property
    def expects(self) -> bool:
        """Whether luggage is to come."""
        return bool(self._expected)

    def expect(self, number: int, epoch: int, early: Sequence[Probe | Carry] = ()) -> None:
        """Luggage will come of a shard that is this node's under that epoch; what has come `early` waits for it."""
        self._expected[number] = (epoch, self._post.table.timers.clock() + PATIENCE, list(early))

    def expected_no_more(self, number: int) -> list[Probe | Carry]:
        """The luggage is there; the frames that have come before it."""
        return self._expected.pop(number, (0, 0.0, []))[2]

    def _waits_no_more(self, number: int, owner: Owner | None) -> bool:
        epoch, until, _ = self._expected[number]
        over = self._post.table.timers.clock() >= until or (owner is not None and owner[1] > epoch)
        if over:
            del self._expected[number]
        return over

    def lose(self, shard: Shard, owner: Owner | None) -> None:
        """A shard belongs to another, or to nobody."""
        self.on_lost(shard.number)
        del self.shards[shard.number]
        self._closing.add(shard.number)
        shard.close()
        for sender, row in shard.intake.rows.items():
            moved = redirect(owner, self._post.node, shard.intake.epoch, shard.number, sender)
            if moved is not None:
                self._post.to(row.node, moved)

    # -- what supervisors and entities say -----------------------------------------------------------

    def ended(self, ref: Ref) -> None:
        """A monitor has rung: of a shard's supervisor, if it is none of a link."""
        for shard in self.shards.values():
            if shard.supervised is ref:
                shard.orphaned()

    def told(self, label: Label, answer: Answer) -> None:
        """An answer to a request with that label."""
        if label.what == "closed":
            self._closing.discard(label.shard.number)
            self.placed(label.shard.number)
            return
        if label.shard.told(label, answer):
            self._restore.extend((label.shard, entity) for entity in label.shard.entities.values())
            self._restore_soon()

    def _restore_soon(self) -> None:
        if self._restore and not self._restoring:
            self._restoring = True
            send_after(1.0 / self._post.spec.rate, self._post.process.pid, Restore())

    def restore(self) -> None:
        """Start the next of those who are remembered and do not run."""
        self._restoring = False
        while self._restore:
            shard, entity = self._restore.popleft()
            if not shard.closed and entity.name not in self._post.table.names:
                if shard.intake.frozen:
                    self._restore.append((shard, entity))
                else:
                    shard.wake(entity)
                break
        self._restore_soon()

    def put_to_sleep(self, now: float) -> None:
        """End those who are idle."""
        for shard in self.shards.values():
            shard.put_to_sleep(now)
