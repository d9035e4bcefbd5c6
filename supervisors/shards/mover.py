"""The process that moves shards from this node and to it: it drives the machines of `handoff`, one for each move.

    mover            holds the machines; hears the other movers, the links, the membership; never waits
    `-- carrier      one for each move: carries out what its machine wants (`mover_source`, `mover_target`)

An event goes into a machine, and what it wants done goes to the carrier or, if it is a word for the other side, to
the other node's mover. Two moves go out of a node at a time and two come in; what is asked for beyond waits here, what
is offered beyond waits there. What was moved away is kept, sealed, for a while, and then erased (`leftovers`).

If the mover ends, so do its carriers. A new one begins with what is written down: the moves of this node are void
(`Membership.conduct`), a shard that is sealed is taken back or given up, one that is staged is served or erased, by
its row. Source: docs/moves.md; the hand-off of Service Fabric and Slicer.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from runtime.behaviours.gen_server import NO_REPLY, GenServer, Raise
from runtime.cluster.dist import Dist
from runtime.cluster.membership import (
    Ceased,
    MoveSettled,
    NodeChanged,
    ShardLost,
    ShardOwned,
    membership_of,
)
from runtime.cluster.nodes import NodeDown, NodeUp, monitor_nodes, nodes
from runtime.codec.errors import DecodeError
from runtime.errors import BanyanError, Misuse, NoProcess
from runtime.kernel.api import demonitor, monitor, reply, spawn_link
from runtime.kernel.elsewhere import SERVICE as PEERS
from runtime.kernel.elsewhere import at
from runtime.kernel.exits import NOCONNECTION, NOPROC
from runtime.kernel.ids import Ref
from runtime.kernel.process import Process
from runtime.kernel.requests import Caller
from runtime.kernel.signals import Down
from runtime.kernel.table import ProcessTable, current_process
from runtime.kernel.timer import send_after

from .carrier import Came, Carried, Enough
from .handoff import Source, SourcePhase
from .handoff_events import Event, GiveUp, Heard, Linked, Say, Start, Tick
from .handoff_frames import Frame, Got, Offer, Taken, Void, of_a_stranger
from .handoff_target import Target
from .indexing import Indexing
from .leftovers import Leftovers
from .mover_frames import Joiner, Part, Told
from .mover_source import SourceWork, sealed_by
from .mover_target import TargetWork, staged_of
from .offers import Offers
from .orders import MOVER, Abort, Forecast, Move, MoveFact, MoveRefused, Moves, Predict
from .sides import Side, refusal, settled
from .speaker import Speaker
from .stores import Stores
from .tally import Finding, Tally

logger = logging.getLogger("banyan")

# Moves at a time, out of a node and into it; those that may wait; those that are remembered when they are over.
AT_ONCE: Final = 2
MOST_WAITING: Final = 4096
REMEMBERED: Final = 64
# What a freeze takes, in milliseconds: for itself, and for each entity that runs. Measured by benchmarks/move.py.
FREEZE_MS: Final = 4.0
ENTITY_MS: Final = 0.1
# Seconds after which a mover that has ended is looked for again.
AGAIN: Final = 0.25


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A shard was looked at that is to be moved; None: it cannot be, and `why`."""

    move: str
    offer: Offer | None
    why: str = ""


@final
@dataclass(frozen=True, slots=True)
class _Due:
    """It is time for a machine."""

    move: str


@final
@dataclass(frozen=True, slots=True)
class _Watch:
    """Look for the other side's mover again."""

    move: str


def mover_of(table: ProcessTable) -> Mover:
    """The mover of a node. Raises: NoProcess: it moves no shards, or that process is not alive."""
    found = table.services.get(MOVER)
    if not isinstance(found, Mover) or not found._process.alive:
        raise NoProcess("this node moves no shards, or its mover is being restarted", MOVER)
    return found


@final
class Mover(GenServer):
    """Moves the shards of a node that is in a cluster and has a store; reached by its name or `mover_of`.

    Args:
        grace: seconds for which what was moved away is kept, sealed.
        bandwidth: bytes of records that are read in a second for one move at most.
    """

    def init(self, grace: float = 300.0, bandwidth: float = float(64 << 20)) -> None:
        process = current_process()
        self._process: Process = process
        self._table = table = process.table
        self._stores = Stores(table)
        self._bandwidth = bandwidth
        dist: Dist = table.services[PEERS]  # type: ignore[assignment]  # the kernel knows it as `Peers`
        self._joiner = Joiner(dist)
        self._speaker = Speaker(dist)
        self._sides: dict[str, Side] = {}
        self._waiting: deque[Side] = deque()
        self._over: deque[Side] = deque(maxlen=REMEMBERED)
        self._offers = Offers()
        self._sides_made = 0
        self._counts, self._tally = table.counts, Tally(table.counts, table.world.now)
        table.services[MOVER] = self
        membership = membership_of(table)
        monitor_nodes()
        membership.conduct(process.pid)
        membership.subscribe(process.pid)
        self._leftovers = Leftovers(table, self._stores, grace, self._has)
        Indexing(self._stores, membership.cluster.shards, table.world.now).begin()
        self._take_up()
        spawn_link(self._leftovers.run)

    def terminate(self, reason: object) -> None:
        if self._table.services.get(MOVER) is self:
            del self._table.services[MOVER]

    def _take_up(self) -> None:
        """Go on with what a former mover, or a former life of the node, has left behind."""
        for shard, (offer, target) in sorted(sealed_by(self._table).items()):
            work = SourceWork(self._process, offer.move, shard, target, self._say_to(target))
            work.offer, work.left_behind = offer, True
            side = self._new(offer.move, shard, offer.source, target, work)
            self._run(side, Source(offer, target, sealed=True))
        for shard, note in sorted(self._stores.staged().items()):
            found = staged_of(note)
            if found is None:
                self._leftovers.begun(shard)
            else:
                self._receive(found.offer, found.kept)

    # -- questions -----------------------------------------------------------------------------------

    def facts(self) -> tuple[MoveFact, ...]:
        """The moves of this node, as `Moves` tells them; without waiting."""
        sides = sorted((*self._over, *self._sides.values()), key=lambda side: side.number)
        return tuple(side.fact for side in sides)

    def findings(self) -> list[Finding]:
        """What seems wrong with them, for the doctor; without waiting."""
        return list(self._tally.findings(self._sides.values()))

    def state(self) -> object:
        return {"moves": {side.id: side.phase for side in self._sides.values()}}

    def _has(self, shard: int) -> bool:
        """Whether a move has to do with a shard now."""
        return any(side.shard == shard for side in self._sides.values())

    def _of(self, shard: int) -> Side | None:
        return next((side for side in self._sides.values() if side.shard == shard), None)

    # -- requests ------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        match request:
            case Move(shard, target):
                why = self._refusal(shard, target)
                return Raise(MoveRefused(why)) if why is not None else self._move(shard, target, caller)
            case Moves():
                return self.facts()
            case Abort(move):
                return self._abort(move)
            case Predict(shard, target):
                why = self._refusal(shard, target)
                if why is not None:
                    return Raise(MoveRefused(why))
                spawn_link(self._predict, shard, target, caller)
                return NO_REPLY
        return Raise(Misuse(f"the mover does not know {request!r}"))

    def _refusal(self, shard: int, target: str) -> str | None:
        """Why a shard cannot be moved to a node now; what only the row can say is asked with the plan."""
        if self._has(shard):
            return f"shard {shard} is moving already"
        if len(self._waiting) >= MOST_WAITING:
            return f"{MOST_WAITING} moves wait already"
        try:
            return refusal(membership_of(self._table), self._table.node, shard, target)
        except NoProcess as error:
            return str(error)

    def _move(self, shard: int, target: str, caller: Caller) -> Any:
        table = self._table
        id = f"{shard}-{table.node}.{table.creation}.{self._sides_made + 1}-{table.world.random.getrandbits(32):08x}"
        work = SourceWork(self._process, id, shard, target, self._say_to(target), self._bandwidth)
        side = self._new(id, shard, table.node, target, work)
        if self._running(SourceWork) >= AT_ONCE:
            self._waiting.append(side)
            return id
        side.asked.append(caller)
        self._prepare(side)
        return NO_REPLY

    def _running(self, kind: type[SourceWork] | type[TargetWork]) -> int:
        return sum(side.carrier is not None and type(side.work) is kind for side in self._sides.values())

    def _abort(self, move: str) -> Any:
        side = self._sides.get(move)
        if side is None:
            return Raise(MoveRefused(f"no move {move} runs here"))
        if side in self._waiting:
            self._waiting.remove(side)
            self._end(side, "it was called off")
        elif side.machine is None:
            side.why = "it was called off"
        elif side.machine.sealed if isinstance(side.machine, Source) else side.machine.committed:
            return Raise(MoveRefused(f"move {move} is sealed and goes through"))
        else:
            self._tell(side, GiveUp("it was called off"))
        return side.fact

    async def _predict(self, shard: int, target: str, caller: Caller) -> None:
        work = SourceWork(self._process, "", shard, target, self._say_to(target))
        try:
            keys, size = await work.measure()
        except BanyanError as error:  # of a store
            caller.refuse(error)
            return
        entities = work.running()
        freeze = FREEZE_MS + ENTITY_MS * entities
        reply(caller, Forecast(shard, self._table.node, target, keys, size, entities, round(freeze, 1)))

    # -- messages ------------------------------------------------------------------------------------

    def handle_cast(self, request: Any) -> None:
        """What another node's mover says."""
        told = request
        if isinstance(request, Part):
            try:
                told = self._joiner.take(request)
            except DecodeError as error:
                logger.warning("a frame of node %s is no frame: %s", request.node, error)
                return
        if isinstance(told, Told):
            self._heard(told.node, told.frame)

    def handle_info(self, message: Any) -> None:
        match message:
            case Came(move=move, event=event):
                side = self._sides.get(move)
                if side is not None:
                    self._tell(side, event)
            case Carried(move=move):
                side = self._sides.get(move)
                if side is not None:
                    self._end(side)
            case _Prepared():
                self._prepared(message)
            case _Due(move=move):
                side = self._sides.get(move)
                if side is not None:
                    side.due = None
                    self._tick(side)
            case NodeUp(node) | NodeDown(node):
                self._linked(node, isinstance(message, NodeUp))
            case Down(ref=ref, reason=reason):
                self._down(ref, reason)
            case _Watch(move=move):
                side = self._sides.get(move)
                if side is not None:
                    self._watch(side)
            case MoveSettled(move=move):
                self._settled(move)
            case ShardLost(shard=shard):
                side = self._of(shard)
                if side is not None and isinstance(side.machine, Source):
                    self._tell(side, GiveUp(f"{self._table.node} does not serve shard {shard} any more"))
            case ShardOwned() | NodeChanged() | Ceased():
                pass  # what it means for shards is told for each of them
            case _:
                super().handle_info(message)
        self._begin_waiting()

    # -- a move --------------------------------------------------------------------------------------

    def _new(self, id: str, shard: int, source: str, target: str, work: SourceWork | TargetWork) -> Side:
        self._sides_made += 1
        side = Side(self._sides_made, id, shard, source, target, self._table.node, work, self._table.world.wall())
        self._sides[id] = side
        return side

    def _begin_waiting(self) -> None:
        while self._waiting and self._running(SourceWork) < AT_ONCE:
            self._prepare(self._waiting.popleft())

    def _prepare(self, side: Side) -> None:
        """Look at what there is to move; then its machine begins."""
        side.carrier = side.work.start()

        async def prepare() -> None:
            assert isinstance(side.work, SourceWork)
            try:
                offer = await side.work.prepare()
            except Exception as error:  # of the stores, of the cluster
                self._process.post(_Prepared(side.id, None, str(error)))
            else:
                self._process.post(_Prepared(side.id, offer))

        spawn_link(prepare)

    def _prepared(self, prepared: _Prepared) -> None:
        side = self._sides[prepared.move]
        assert isinstance(side.work, SourceWork)
        why = prepared.why or side.why
        if prepared.offer is None or why:
            self._end(side, why)
            return
        side.work.offer = prepared.offer
        self._run(side, Source(prepared.offer, side.target))

    def _run(self, side: Side, machine: Source | Target) -> None:
        side.machine = machine
        if side.carrier is None:
            side.carrier = side.work.start()
        if side.peer not in nodes():
            self._tell(side, Linked(False))
        else:
            self._watch(side)
        self._tell(side, Start())

    def _tell(self, side: Side, event: Event) -> None:
        """Tell a machine, and have done what it wants."""
        machine = side.machine
        if machine is None or side.carrier is None or side.ended:
            return
        was_over = machine.over
        for effect in machine.handle(event, self._table.world.now()):
            if isinstance(effect, Say):
                side.last = effect.frame
                self._speaker.say(side.peer, effect.frame)
            elif (process := side.carrier._process) is not None:
                process.post(effect)
        side.note(self._table.world.now())
        self._answer(side)
        if machine.over and not was_over and (process := side.carrier._process) is not None:
            process.post(Enough())
        self._schedule(side)

    def _answer(self, side: Side) -> None:
        """Answer who has asked for a move, when it has begun."""
        machine = side.machine
        if not side.asked or not isinstance(machine, Source) or machine.phase is SourcePhase.PLANNING:
            return
        asked, side.asked = side.asked, []
        for caller in asked:
            if machine.phase is SourcePhase.CLEARING and machine.why is not None:
                caller.refuse(MoveRefused(machine.why))
            else:
                reply(caller, side.id)

    def _schedule(self, side: Side) -> None:
        deadline = side.machine.deadline if side.machine is not None else None
        if deadline is not None and (side.due is None or deadline < side.due):
            side.due = deadline
            send_after(max(0.0, deadline - self._table.world.now()), self._process.pid, _Due(side.id))

    def _tick(self, side: Side) -> None:
        machine = side.machine
        if machine is not None and machine.deadline is not None:
            if machine.deadline <= self._table.world.now():
                self._tell(side, Tick())
            else:
                self._schedule(side)

    def _end(self, side: Side, why: str = "") -> None:
        """A move is over, and nothing is left to be done for it."""
        del self._sides[side.id]
        for caller in side.asked:
            caller.refuse(MoveRefused(why or side.fact.why))
        if side.watch is not None:
            demonitor(side.watch, flush=True)
        if side.carrier is not None and side.carrier._process is not None:
            side.carrier._process.post(Enough())
        side.over(self._table.world.wall(), why)
        self._tally.ended(side)
        self._over.append(side)
        self._begin_offered()
        self._begin_waiting()

    # -- the other side ------------------------------------------------------------------------------

    def _heard(self, node: str, frame: Frame) -> None:
        side = self._sides.get(frame.move)
        if side is not None and side.peer == node:
            self._tell(side, Heard(frame))
        elif side is not None or (isinstance(frame, Offer) and frame.source != node):
            # Of a node that has nothing to do with this move.
            self._counts.refused["move", "stranger"] += 1
        elif isinstance(frame, Offer):
            self._offered(frame)
        else:
            self._counts.refused["move", "unknown"] += 1
            if isinstance(frame, Void):
                self._offers.withdraw(frame.move)
            known = next((one.last for one in self._over if one.id == frame.move), None)
            answer = known if known is not None else of_a_stranger(frame)
            if answer is not None and not isinstance(frame, (Taken, Void)):
                self._speaker.say(node, answer)

    def _offered(self, offer: Offer) -> None:
        """A node wants to give a shard away to this one."""
        other = self._of(offer.shard)
        if other is not None and other in self._waiting:
            self._waiting.remove(other)
            self._end(other, f"{offer.source} has shard {offer.shard} now")
            other = None
        self._offers.add(offer)
        if other is not None:
            self._tell(other, Heard(offer))
        self._begin_offered()
        if other is None and offer in self._offers:
            # Whoever waits for his turn asks now and then, and takes silence for an answer.
            self._speaker.say(offer.source, Got(offer.move, 0, 0))

    def _begin_offered(self) -> None:
        while self._running(TargetWork) < AT_ONCE and (offer := self._offers.take(self._has)) is not None:
            self._receive(offer)

    def _receive(self, offer: Offer, kept: bool | None = None) -> None:
        """Begin a target's side; `kept` as for `Target`."""
        node = self._table.node
        work = TargetWork(self._process, offer, self._say_to(offer.source), kept)
        side = self._new(offer.move, offer.shard, offer.source, node, work)
        self._run(side, Target(offer, node, kept=kept))

    def _say_to(self, node: str) -> Callable[[Frame], None]:
        return lambda frame: self._speaker.say(node, frame)

    def _linked(self, node: str, up: bool) -> None:
        self._joiner.forget(node)
        self._speaker.forget(node)
        self._offers.forget(node)
        for side in [side for side in self._sides.values() if side.peer == node]:
            if up:
                self._watch(side)
            self._tell(side, Linked(up))

    def _watch(self, side: Side) -> None:
        """Be told if the other side's mover ends, or there is none."""
        if side.watch is not None:
            demonitor(side.watch, flush=True)
        side.watch = monitor(at(MOVER, side.peer))

    def _down(self, ref: Ref, reason: object) -> None:
        side = next((side for side in self._sides.values() if side.watch is ref), None)
        if side is None:
            return
        side.watch = None
        if reason is NOCONNECTION:
            return  # the link says so too
        if reason is NOPROC and side.peer == side.target:
            self._tell(side, GiveUp(f"no shards are moved to {side.peer}: it has no mover"))
        # A new one may be there soon. What the former one was told is lost.
        self._tell(side, Linked(False, mover_only=True))
        self._tell(side, Linked(True))
        send_after(AGAIN, self._process.pid, _Watch(side.id))

    def _settled(self, move: str) -> None:
        """By its row a move was ended by somebody else."""
        side = self._sides.get(move)
        machine = side.machine if side is not None else None
        if side is None or machine is None:
            return
        if machine.deadline is not None:
            machine.deadline = self._table.world.now()
        self._tell(side, GiveUp(settled(self._table, side)))
