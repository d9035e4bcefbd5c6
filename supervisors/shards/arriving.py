"""A shard that comes: its senders are told at once, and who ran where it was runs here, with what they had."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from runtime.behaviours.gen_server import CastEnvelope
from runtime.behaviours.system import Handed
from runtime.codec.errors import DecodeError
from runtime.durable.commands import Numbered
from runtime.errors import Misuse
from runtime.kernel.exits import shown
from runtime.kernel.ids import Pid
from runtime.kernel.process import Process
from runtime.kernel.requests import Asker, Caller
from runtime.kernel.signals import Answer

from .failures import OK, failed, packed
from .frames import Carry, Outcome, Replied
from .leaving import VERSION
from .packing import decoded, unpack_entity
from .post import Post
from .shard import Entity, Job, Shard

if TYPE_CHECKING:
    from .inward import Inward
    from .steps import UnpackShard

logger = logging.getLogger("banyan")


@final
@dataclass(slots=True, eq=False)
class Unpacking:
    """A shard that has come, until all have started who ran."""

    shard: Shard
    asked: Caller
    awaited: dict[str, Entity]
    pids: dict[str, Pid] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Owing:
    """The label of a request of a process that has come here, which is answered at the node where it was made."""

    node: str
    number: int
    entity: str


@final
class Arriving:
    """The shards that are being unpacked."""

    def __init__(self, post: Post, inward: Inward) -> None:
        self._post = post
        self._inward = inward
        self._unpacking: dict[int, Unpacking] = {}
        # Shards whose luggage is here before they are: the placement does not say so yet, or what was here of
        # them before has not ended.
        self._later: dict[int, tuple[UnpackShard, Caller]] = {}
        # Whose luggage was left for them to find when they start.
        self._arrivals: dict[int, list[str]] = {}

    def again(self, number: int) -> None:
        """Something was said about a shard: look whether all have started, or whether it may be served now."""
        coming = self._unpacking.get(number)
        if coming is not None:
            self._come(coming)
        if number in self._later:
            self.unpack(*self._later[number])

    def look(self) -> None:
        """Something may have changed of any shard."""
        for number in list(self._later):
            self.again(number)

    def lost(self, number: int) -> None:
        """A shard is not this node's any more."""
        for name in self._arrivals.pop(number, ()):
            self._post.table.arrivals.pop(name, None)
        coming = self._unpacking.pop(number, None)
        if coming is not None:
            self._post.reply(coming.asked, tuple(coming.pids.items()))

    def unpack(self, request: UnpackShard, caller: Caller) -> None:
        """A shard has come here."""
        number, epoch, post = request.shard, request.epoch, self._post
        before = self._later.pop(number, None)
        if before is not None and before[1] is not caller:
            self._post.reply(before[1], Misuse(f"other luggage of shard {number} has come"))
        owner = post.owner(number)
        if owner is not None and owner != (post.node, epoch) and owner[1] >= epoch:
            said = f"wanted shard {number} to be {post.node!r}'s under epoch {epoch}"
            self._post.reply(
                caller, Misuse(f"{said}, and it is {owner[0]!r}'s under epoch {owner[1]}: look who has it")
            )
            return
        fresh = number not in self._inward.shards
        early = self._inward.expected_no_more(number)
        shard = self._inward.own(number) if owner == (post.node, epoch) else None
        if shard is None:
            self._inward.expect(number, epoch, early)
            self._later[number] = (request, caller)
            return
        coming: Unpacking | None = Unpacking(shard, caller, {})
        try:
            version, rows, entities = decoded(post.table, request.luggage) if request.luggage else (VERSION, (), ())
            if version != VERSION:
                raise DecodeError(f"luggage of version {VERSION}", f"version {version!r}")
        except DecodeError as error:
            self._post.reply(caller, error)
            rows, entities, coming = (), (), None
        if fresh:
            for node, opened in shard.intake.unpacked(rows):
                post.to(node, opened)
        for key, args, data in entities:
            entity = shard.entity(key)
            if post.table.names.get(entity.name) is not None:
                continue
            entity.args, entity.wanted = tuple(args), True
            if data:
                post.table.arrivals[entity.name] = self._arrival(shard, entity, data)
                self._arrivals.setdefault(number, []).append(entity.name)
            if coming is not None:
                coming.awaited[key] = entity
        for entity in list(shard.entities.values()):
            if entity.wanted:
                shard.wake(entity)
        for frame in early:
            self._inward.take(frame)
        if coming is not None:
            self._unpacking[number] = coming
            self._come(coming)

    def _come(self, coming: Unpacking) -> None:
        """Say who has started, when all have; who could not has none to be known by."""
        for key, entity in list(coming.awaited.items()):
            process = self._post.table.names.get(entity.name)
            if process is not None:
                coming.pids[key] = process.pid
            elif coming.shard.entities.get(key) is entity and (entity.wanted or entity.asking is not None):
                continue
            del coming.awaited[key]
        if not coming.awaited or self._post.spec.remember:
            self._unpacking.pop(coming.shard.number, None)
            self._post.reply(coming.asked, tuple(coming.pids.items()))

    def _arrival(self, shard: Shard, entity: Entity, data: bytes) -> Any:
        """Makes for the entity's process what it had; asked once, when that starts."""
        owes: list[Asker] = []

        def caller_of(said: Any, process: Process) -> Caller:
            if isinstance(said, Carry):
                entity.under_way += 1
                owed = Asker(said.request, process, process.pid, self._post.process, Job(shard, said))
            else:
                owed = self._owed(said, entity, process)
            if process.deferred is None:
                process.deferred = {}
            process.deferred[owed] = None
            owes.append(owed)
            return owed

        def take(mail: Any, process: Process) -> None:
            kind, message = mail
            if kind == "own":
                process.post(message)
            elif kind == "call":
                process.offer(self._owed(message, entity, process))
            else:
                process.offer(CastEnvelope(message) if kind == "cast" else message)

        def arrive(process: Process) -> Handed | None:
            try:
                return unpack_entity(process, data, caller_of, take)
            except DecodeError as error:
                logger.error("%s begins anew, as what it had cannot be read here: %s", entity.name, error)
                for owed in owes:
                    if process.deferred is not None:
                        process.deferred.pop(owed, None)
                    owed.refuse(error)
                return None

        return arrive

    def _owed(self, said: Any, entity: Entity, process: Process) -> Asker:
        """A request that was made at the node where a process was before, and is answered there."""
        node, number, request, own = said
        if own:
            sender, its, since, lasting, remembered = own
            request = Numbered(sender, its, request, since, lasting=lasting, remembered=remembered)
        return Asker(request, process, process.pid, self._post.process, Owing(node, number, entity.name))

    def answered(self, owing: Owing, answer: Answer) -> None:
        """One who has come here has answered what it was asked before, or has ended."""
        if not answer.failed:
            outcome: Outcome = (OK, answer.value)
        elif isinstance(answer.reason, Exception):
            outcome = packed(failed(answer.reason), owing.entity)
        else:
            outcome = ("exited", owing.entity, shown(answer.reason))
        self._post.to(owing.node, Replied(owing.number, outcome))
