"""A shard that comes: its senders are told at once, and who ran where it was runs here, with what they had."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, final

from runtime.behaviours.gen_server import CastEnvelope
from runtime.behaviours.system import Handed
from runtime.codec.errors import DecodeError
from runtime.durable.commands import Numbered
from runtime.errors import Misuse
from runtime.kernel.exits import NORMAL, shown
from runtime.kernel.ids import Pid
from runtime.kernel.process import Process
from runtime.kernel.requests import Asker, Caller
from runtime.kernel.signals import Answer
from runtime.kernel.table import ProcessTable

from .failures import OK, EntityNotStarted, failed, packed
from .frames import Carry, Outcome, Replied
from .leaving import VERSION
from .packing import decoded, owed_by, unpack_entity
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
        # What a former router has left is no business of this one's: their senders ask anew.
        for name in [one for one in post.table.arrivals if one.startswith(post.spec.name_of(""))]:
            del post.table.arrivals[name]

    def again(self, number: int, entity: Entity | None = None) -> None:
        """Something was said about a shard: look whether all have started, or whether it may be served now.

        Args:
            entity: whom it was about; None: of any.
        """
        coming = self._unpacking.get(number)
        if coming is not None:
            self._come(coming, entity)
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
            # What they had is lost with the shard: whoever waits for that is to be told.
            self._post.reply(coming.asked, Misuse(f"shard {number} was lost before all who ran there had started"))

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
        if coming is not None and not fresh and request.luggage:
            said = f"shard {number} of region {post.spec.name!r} is served already, without what comes only now"
            self._post.reply(caller, Misuse(said))
            return
        for node, opened in shard.intake.unpacked(rows):
            post.to(node, opened)
        for key, args, data in entities:
            entity = shard.entity(key)
            if post.table.names.get(entity.name) is not None:
                continue
            entity.args, entity.wanted = tuple(args), True
            if data:
                post.table.arrivals[entity.name] = Arrival(self, post.table, shard, entity, data)
                self._arrivals.setdefault(number, []).append(entity.name)
            if coming is not None:
                coming.awaited[key] = entity
        for frame in early:
            self._inward.take(frame)
        for entity in list(shard.entities.values()):
            if entity.wanted:
                shard.wake(entity)
        if coming is not None:
            former = self._unpacking.get(number)
            if former is not None:
                coming.awaited, coming.pids = former.awaited, former.pids
                self._post.reply(former.asked, Misuse(f"somebody else asks for shard {number} now"))
            self._unpacking[number] = coming
            self._come(coming)

    def _come(self, coming: Unpacking, only: Entity | None = None) -> None:
        """Say who has started, when all have; who could not has none to be known by."""
        for entity in list(coming.awaited.values()) if only is None else [only]:
            key = entity.key
            if coming.awaited.get(key) is not entity or entity.asking == "start":
                continue
            process = self._post.table.names.get(entity.name)
            if process is not None:
                coming.pids[key] = process.pid
            elif coming.shard.entities.get(key) is entity and (entity.wanted or entity.asking is not None):
                continue
            elif arrival := self._post.table.arrivals.pop(entity.name, None):
                cast("Arrival", arrival).refuse(EntityNotStarted(entity.name, NORMAL))
            del coming.awaited[key]
        if not coming.awaited or self._post.spec.remember:
            self._unpacking.pop(coming.shard.number, None)
            self._post.reply(coming.asked, tuple(coming.pids.items()))

    def owed(self, said: Any, entity: Entity, process: Process) -> Asker:
        """A request that was made at the node where a process was before, and is answered there."""
        node, number, request, own = said
        if own:
            sender, its, since, lasting, remembered = own
            request = Numbered(sender, its, request, since, lasting=lasting, remembered=remembered)
        return self.asker(request, process, Owing(node, number, entity.name))

    def asker(self, request: object, process: Process, label: Owing | Job) -> Asker:
        """A request to a process of this node, whose answer comes to the router."""
        return Asker(request, process, process.pid, self._post.process, label)

    def answered(self, owing: Owing, answer: Answer) -> None:
        """One who has come here has answered what it was asked before, or has ended."""
        if not answer.failed:
            outcome: Outcome = (OK, answer.value)
        elif isinstance(answer.reason, Exception):
            outcome = packed(failed(answer.reason), owing.entity)
        else:
            outcome = ("exited", owing.entity, shown(answer.reason))
        self._post.to(owing.node, Replied(owing.number, outcome))


@final
class Arrival:
    """Makes for an entity's process what it had where it was; asked once, when that starts."""

    def __init__(self, arriving: Arriving, table: ProcessTable, shard: Shard, entity: Entity, data: bytes) -> None:
        self._arriving = arriving
        self._table = table
        self._shard = shard
        self._entity = entity
        self._data = data
        self._owes: list[Asker] = []

    def __call__(self, process: Process) -> Handed | None:
        try:
            return unpack_entity(process, self._data, self._caller_of, self._take)
        except DecodeError as error:
            logger.error("%s begins anew, as what it had cannot be read here: %s", self._entity.name, error)
            for owed in self._owes:
                if process.deferred is not None:
                    process.deferred.pop(owed, None)
                owed.refuse(error)
            return None

    def _caller_of(self, said: Any, process: Process) -> Caller:
        entity = self._entity
        if isinstance(said, Carry):
            entity.under_way += 1
            owed = self._arriving.asker(said.request, process, Job(self._shard, said))
        else:
            owed = self._arriving.owed(said, entity, process)
        if process.deferred is None:
            process.deferred = {}
        process.deferred[owed] = None
        self._owes.append(owed)
        return owed

    def _take(self, mail: Any, process: Process) -> None:
        kind, message = mail
        if kind == "own":
            process.post(message)
        elif kind == "call":
            process.offer(self._arriving.owed(message, self._entity, process))
        else:
            process.offer(CastEnvelope(message) if kind == "cast" else message)

    def refuse(self, error: Exception) -> None:
        """It does not start: those to whom it owes a reply hear that."""
        for said in owed_by(self._table, self._data):
            if isinstance(said, Carry):
                self._shard.refuse(said, error)
            else:
                node, number, *_ = said
                self._arriving.answered(Owing(node, number, self._entity.name), Answer(None, None, error, failed=True))
