"""A shard, two nodes and a sender on paper: the state in which `handoff`'s machines are walked, and its steps.

The machines are the product's own, so what is checked is what runs. Around them everything is as simple as it can be
and as unkind as it may be: a store with a fence and a note, a row with compare-and-set whose answers are lost and
whose changes may come late, a channel that loses what is under way, nodes that end anywhere and begin again, a clock
that jumps to the next deadline whenever it likes. `Step` are what may happen; `faults` are bounded by budgets, so
that the space is finite.

A command is a number; a sender's are to be carried out in their order, once. It repeats what is not acknowledged, at
any time, to any node. A node carries out the next one that its dedup table does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from supervisors.shards import handoff, handoff_target
from supervisors.shards.handoff import Source, SourcePhase
from supervisors.shards.handoff_events import (
    Check,
    Clear,
    Commit,
    Done,
    Effect,
    Erase,
    Event,
    Follow,
    Freeze,
    GiveUp,
    Heard,
    Install,
    Keep,
    Linked,
    Look,
    Plan,
    Portion,
    Read,
    ReadLast,
    Reserve,
    Rest,
    Resume,
    Retire,
    Say,
    Seal,
    Serve,
    Served,
    Start,
    TakeBack,
    Thaw,
    Tick,
    Unknown,
    Verify,
)
from supervisors.shards.handoff_events import Row as Told
from supervisors.shards.handoff_frames import Ask, Chunk, Frame, Offer, Prepare, Token, Void, of_a_stranger
from supervisors.shards.handoff_target import Target, TargetPhase

from .packed import field, handled, is_over, move_of, pack

# The machines' bounds, made small; and all that is waited for takes one tick of the clock.
SMALL: Final = {
    (handoff, "ASK"): 1.0,
    (handoff, "SILENCE"): 2.0,
    (handoff_target, "SILENCE"): 2.0,
    (handoff, "AGAIN"): 1.0,
    (handoff_target, "AGAIN"): 1.0,
    (handoff, "PATIENCE"): 1.0,
    (handoff, "TRIES"): 2,
    (handoff_target, "TRIES"): 2,
    (handoff, "VOIDED"): 1,
    (handoff, "MOST_VOIDED"): 2,
    (handoff, "ROUNDS"): 2,
    (handoff, "IN_FLIGHT"): 2,
    (handoff_target, "IN_FLIGHT"): 2,
}


class Broken(AssertionError):
    """A promise was not kept."""


class Row(NamedTuple):
    """The shard's row in the coordination store; node numbers."""

    version: int
    owner: int
    creation: int
    epoch: int
    home: int
    move: str = ""


class Note(NamedTuple):
    """What a target has written down of a move."""

    offer: Offer
    kept: bool


class Node(NamedTuple):
    """One node: its store, and what it has in memory while it is up.

    Attributes:
        log, table: the shard's records: commands in the order in which they were carried out, and the highest
            number of each sender.
        fence, sealed: the epoch that may be written, and whether it may not any more.
        former: what is here was served here once; else it is staged, or nothing.
        serves: under which epoch; 0 for none.
        running: a command that was taken and is not in the log yet.
        source, target: the machines, frozen.
        doing, getting: the effect that each of them has under way.
        at: how much of the log was read for the move.
        offered: an offer that waits for another move to be over.
        tried: the epoch of a claim whose answer was lost.
        lapsed: whether the lease was over since a move asked for the row.
    """

    log: tuple[int, ...] = ()
    table: tuple[int, ...] = ()
    fence: int = 0
    sealed: bool = False
    former: bool = False
    note: Note | None = None
    up: bool = True
    creation: int = 1
    serves: int = 0
    frozen: bool = False
    running: int = 0
    source: tuple[Any, ...] | None = None
    target: tuple[Any, ...] | None = None
    doing: Effect | None = None
    getting: Effect | None = None
    at: int = 0
    offered: Offer | None = None
    tried: int = 0
    lapsed: bool = False

    @property
    def open(self) -> bool:
        """Whether a commit would go through."""
        return self.serves > 0 and self.serves == self.fence and not self.sealed


class Budget(NamedTuple):
    """How often each may still happen.

    Attributes:
        hurries: ticks of the clock while something else could be done at once; a tick when nothing can is free.
        crashes, restarts: of a node; of its mover alone.
        cuts, resets: a link that is lost and known to be; frames that are lost or doubled, which nobody is told.
        doubts: questions to the coordination store without an answer, whether the change is made, or will be.
        failures, aborts, lapses: of an effect; somebody gives up; a node's lease runs out.
    """

    moves: int = 1
    hurries: int = 0
    crashes: int = 0
    restarts: int = 0
    cuts: int = 0
    resets: int = 0
    doubts: int = 0
    failures: int = 0
    aborts: int = 0
    lapses: int = 0


class State(NamedTuple):
    """All of it.

    Attributes:
        late: changes of the row whose answers are lost, which may still be made.
        wires: what is under way from 0 to 1, and from 1 to 0.
        linked: whether there is a link.
        acked: of each sender, the commands that it has heard of.
        highest: the highest epoch under which anybody has served.
        budget: of what may still go wrong.
    """

    nodes: tuple[Node, Node]
    row: Row
    late: frozenset[Row]
    wires: tuple[tuple[Frame, ...], tuple[Frame, ...]]
    linked: bool
    acked: tuple[frozenset[int], ...]
    highest: int
    budget: Budget


@dataclass(frozen=True)
class Rules:
    """How large a world is, and what is different in one with a planted bug (`planted`); the default is the product.

    Attributes:
        commands, senders, window: commands of each sender, and how many of them are under way at a time.
    """

    commands: int = 1
    senders: int = 1
    window: int = 2
    promotes: bool = False
    resumes: bool = False
    any_epoch: bool = False
    old_epoch: bool = False
    forgets: bool = False
    unordered: bool = False
    hasty: bool = False
    half_erased: bool = False
    watch_late: bool = False
    unsealed: bool = False
    unnamed: bool = False
    mislaid: bool = False


# -- the world -----------------------------------------------------------------------------------------

NAMES: Final = ("a", "b")
Steps = Iterator[tuple[str, State]]
_TO_TARGET: Final = (Chunk, Prepare, Token, Ask)
_SEALED: Final = (SourcePhase.SEALING, SourcePhase.SEALED, SourcePhase.RETIRED)
_COMMITTED: Final = (TargetPhase.KEEPING, TargetPhase.COMMITTING, TargetPhase.SERVING)
_CHANGES: Final = (Plan, Clear, TakeBack, Commit)


class Paper:
    """The steps of a world under its rules, and the promises that hold in each of its states."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self.rules = rules

    def first(self, budget: Budget) -> State:
        """Node a owns the shard, in which nothing has happened."""
        none = (0,) * self.rules.senders
        a = Node(table=none, fence=1, former=True, serves=1)
        row = Row(1, 0, 1, 1, 0)
        acked = (frozenset[int](),) * self.rules.senders
        return State((a, Node(table=none)), row, frozenset(), ((), ()), True, acked, 1, budget)

    # -- promises ------------------------------------------------------------------------------------

    def check(self, state: State) -> None:
        """What holds in every state; raises Broken."""
        row = state.row
        for i, node in enumerate(state.nodes):
            # Its own later claim may have come late, of which it hears with its next look.
            mine = (row.owner, row.creation) == (i, node.creation) and row.epoch >= node.serves
            if node.open and not mine:
                raise Broken(f"I1: {NAMES[i]} serves under {node.serves}, and the row says {row}")
            staging = node.note is not None or not is_over(node.target)
            if node.up and not staging and not node.former and row.home != i and node.log:
                raise Broken(f"I7: {NAMES[i]} has records of a move that is void: {node.log}")
        log = state.nodes[row.home].log
        for sender, acked in enumerate(state.acked):
            there = [one % 8 for one in log if one // 8 == sender]
            if len(there) != len(set(there)):
                raise Broken(f"I4: a command was carried out twice: {log}")
            if there != sorted(there):
                raise Broken(f"I3: commands were carried out out of order: {log}")
            if not acked <= set(there):
                raise Broken(f"I2: {sorted(acked)} were acknowledged, and there is {log}")

    def settled(self, state: State) -> bool:
        """Whether all has come to its end: one serves, no move is left, and all commands are acknowledged."""
        serving = [i for i, node in enumerate(state.nodes) if node.open]
        quiet = all(is_over(one.source) and is_over(one.target) and one.note is None for one in state.nodes)
        done = all(len(acked) == self.rules.commands for acked in state.acked)
        return quiet and done and serving == [state.row.owner] and not state.row.move

    # -- what may happen -----------------------------------------------------------------------------

    def steps(self, state: State) -> Steps:
        """All that may happen next."""
        for i in range(2):
            node = state.nodes[i]
            if not node.up:
                yield f"{NAMES[i]} restarts", self.restart(state, i)
                continue
            yield from self.work(state, i)
            yield from self.deliver(state, i)
            yield from self.commands(state, i)
            yield from self.own(state, i)
            yield from self.faults(state, i)
        yield from self.time(state)
        yield from self.network(state)

    def fair(self, state: State) -> tuple[str, State] | None:
        """The next step of a world without faults, in which all that can be done is done before time passes."""
        for i in range(2):
            if not state.nodes[i].up:
                return f"{NAMES[i]} restarts", self.restart(state, i)
        if not state.linked:
            return "the link is back", self.link(state, up=True)
        for kind in (self.work, self.deliver, self.commands, self.own, self.ticks):
            for i in range(2):
                for step in kind(state._replace(budget=Budget(moves=0)), i):
                    return step
        return None

    def network(self, state: State) -> Steps:
        """The link, and changes that come late."""
        budget = state.budget
        if not state.linked:
            if all(node.up for node in state.nodes):
                yield "the link is back", self.link(state, up=True)
        elif budget.cuts:
            yield "the link is cut", self.link(state._replace(budget=budget._replace(cuts=budget.cuts - 1)), up=False)
        if budget.resets and any(state.wires):
            left = state._replace(budget=budget._replace(resets=budget.resets - 1))
            yield "what is under way is lost", left._replace(wires=((), ()))
            for i in range(2):
                if state.wires[i]:
                    yield f"a frame of {NAMES[i]} comes twice", self.arrive(left, 1 - i, state.wires[i][0])
        for late in state.late:
            if late.version == state.row.version + 1 or self.rules.any_epoch:
                row = late._replace(version=state.row.version + 1)
                yield "a change comes late", self.changed(state._replace(late=state.late - {late}), row)

    def link(self, state: State, *, up: bool) -> State:
        """The link comes or goes, and both are told."""
        state = state._replace(linked=up, wires=((), ()))
        for i in range(2):
            if state.nodes[i].up:
                state = self.tell_both(state, i, Linked(up))
        return state

    def faults(self, state: State, i: int) -> Steps:
        """What goes wrong at a node, as long as its budget lasts."""
        budget, name, node = state.budget, NAMES[i], state.nodes[i]
        if budget.crashes:
            less = state._replace(budget=budget._replace(crashes=budget.crashes - 1))
            for text, left in self.in_flight(less, i):
                yield f"{name} crashes{text}", self.crash(left, i)
        if budget.restarts and not (is_over(node.source) and is_over(node.target)):
            less = state._replace(budget=budget._replace(restarts=budget.restarts - 1))
            for text, left in self.in_flight(less, i):
                yield f"the mover of {name} crashes{text}", self.new_mover(left, i)
        if budget.aborts:
            less = state._replace(budget=budget._replace(aborts=budget.aborts - 1))
            for role in ("source", "target"):
                if not is_over(getattr(node, role)):
                    yield f"the {role} at {name} is to give up", self.tell(less, i, role, GiveUp("why"))
        if budget.lapses and ((node.serves and not is_over(node.source)) or self.in_hand(node)):
            less = state._replace(budget=budget._replace(lapses=budget.lapses - 1))
            gone = dict[str, Any](serves=0, running=0, frozen=False, tried=0, lapsed=True)
            yield f"the lease of {name} lapses", self.put(less, i, **gone)

    def in_flight(self, state: State, i: int) -> Steps:
        """Of who ends while a change is asked for: it is never made, or late."""
        yield "", state
        node = state.nodes[i]
        for effect in (node.doing, node.getting):
            if isinstance(effect, _CHANGES):
                wanted = self.wanted(state, i, effect)
                if wanted is not None:
                    yield ", its change under way", state._replace(late=state.late | {wanted})

    def crash(self, state: State, i: int) -> State:
        """A node ends: what it has in memory is gone, and what is under way."""
        node = state.nodes[i]
        kept = Node(node.log, node.table, node.fence, node.sealed, node.former, node.note, up=False)
        state = self.put(
            state._replace(linked=False, wires=((), ())), i, **kept._replace(creation=node.creation)._asdict()
        )
        return self.tell_both(state, 1 - i, Linked(up=False)) if state.nodes[1 - i].up else state

    def restart(self, state: State, i: int) -> State:
        """It begins again, and finds what it has left behind."""
        state = self.put(state, i, up=True, creation=state.nodes[i].creation + 1)
        return self.find(state, i)

    def new_mover(self, state: State, i: int) -> State:
        """A mover ends and begins again: what was frozen goes on, unless it is sealed; then it is claimed anew."""
        node = state.nodes[i]
        serves = 0 if node.sealed and node.serves == node.fence else node.serves
        gone = dict[str, Any](source=None, target=None, doing=None, getting=None, offered=None, frozen=False)
        sealed = node.source is not None and field(node.source, "phase") is SourcePhase.SEALED
        state = self.find(self.put(state, i, serves=serves, **gone), i)
        if not sealed:
            return state
        # What is sealed is known as long as the node lives: the new mover looks what became of it.
        offer = field(node.source, "offer")  # type: ignore[arg-type]  # it is sealed
        source = pack(Source(offer, NAMES[1 - i], sealed=True), 0.0)
        return self.tell(self.put(state, i, source=source), i, "source", Start())

    def find(self, state: State, i: int) -> State:
        note = state.nodes[i].note
        if note is None:
            return state
        state = self.put(state, i, target=pack(Target(note.offer, NAMES[i], kept=note.kept), 0.0))
        return self.tell(state, i, "target", Start())

    def time(self, state: State) -> Steps:
        """The clock goes on: of itself if nothing else can happen, or in a hurry."""
        kinds = (self.work, self.deliver, self.own)
        up = [i for i in range(2) if state.nodes[i].up]
        busy = not state.linked or any(True for kind in kinds for i in up for _ in kind(state, i))
        if busy and state.budget.hurries:
            state = state._replace(budget=state.budget._replace(hurries=state.budget.hurries - 1))
        elif busy:
            return
        for i in up:
            yield from self.ticks(state, i)

    def ticks(self, state: State, i: int) -> Steps:
        """Time passes for a machine, to its deadline."""
        for role in ("source", "target"):
            packed = getattr(state.nodes[i], role)
            deadline = field(packed, "deadline") if packed is not None else None
            if deadline is not None:
                yield f"it is time for the {role} at {NAMES[i]}", self.tell(state, i, role, Tick(), max(deadline, 0.0))

    # -- commands ------------------------------------------------------------------------------------

    def commands(self, state: State, i: int) -> Steps:
        """Commands come, again and again, and are carried out one after the other."""
        node, name, rules = state.nodes[i], NAMES[i], self.rules
        if node.running:
            yield from self.commit(state, i)
        if not node.serves or node.frozen or node.running:
            return
        for sender, acked in enumerate(state.acked):
            base = next((one for one in range(1, rules.commands + 1) if one not in acked), rules.commands + 1)
            for number in range(base, min(base + rules.window, rules.commands + 1)):
                if number in acked:
                    continue
                command = 8 * sender + number
                done = command in node.log if rules.unordered else number <= node.table[sender]
                if done:
                    yield f"{name} has done {command}", self.ack(state, command)
                elif rules.unordered or number == node.table[sender] + 1:
                    taken = self.put(state, i, running=command)
                    yield f"{name} takes {command}", self.ack(taken, command) if rules.hasty else taken

    def commit(self, state: State, i: int) -> Steps:
        """What was taken is written, if the fence lets it through."""
        node = state.nodes[i]
        command = node.running
        if not node.open and not (self.rules.unsealed and node.serves):
            yield f"{NAMES[i]} is fenced", self.put(state, i, running=0, serves=0)
            return
        sender, number = divmod(command, 8)
        table = (*node.table[:sender], max(number, node.table[sender]), *node.table[sender + 1 :])
        done = self.put(state, i, running=0, log=(*node.log, command), table=table)
        yield f"{NAMES[i]} has carried out {command}", self.ack(done, command)
        yield f"{NAMES[i]} has carried out {command}, the answer is lost", done

    def ack(self, state: State, command: int) -> State:
        sender, number = divmod(command, 8)
        acked = tuple(one | {number} if at == sender else one for at, one in enumerate(state.acked))
        return state._replace(acked=acked)

    # -- who owns it ---------------------------------------------------------------------------------

    def own(self, state: State, i: int) -> Steps:
        """What a node's membership and mover do by themselves."""
        node, row = state.nodes[i], state.row
        if row.owner == i == row.home and not self.in_hand(node):
            if row.creation == node.creation and row.epoch == node.tried:
                yield f"{NAMES[i]} finds its claim", self.serve(state, i, row.epoch)
            elif self.rules.old_epoch and not node.serves:
                yield f"{NAMES[i]} serves again", self.serve(state, i, row.epoch, anew=True)
            elif not node.serves:
                wanted = Row(row.version + 1, i, node.creation, max(row.epoch, node.tried) + 1, i)
                for text, made, sure in self.change(state, wanted):
                    done = self.serve(made, i, wanted.epoch) if sure else self.put(made, i, tried=wanted.epoch)
                    yield f"{NAMES[i]} claims it{text}", done
        if row.owner == i and row.move and is_over(node.source) and node.open:
            for text, made, _ in self.change(state, row._replace(version=row.version + 1, move="")):
                yield f"{NAMES[i]} clears a move that nobody conducts{text}", made
        if node.offered is not None and is_over(node.target) and is_over(node.source):
            yield f"{NAMES[i]} turns to an offer", self.begin(self.put(state, i, offered=None), i, node.offered)
        if state.budget.moves and node.open and is_over(node.source) and is_over(node.target) and not row.move:
            move = f"m{state.budget.moves}"
            offer = Offer(move, 0, row.epoch, NAMES[i], 1, (), 0, 0)
            source = pack(Source(offer, NAMES[1 - i]), 0.0)
            less = state._replace(budget=state.budget._replace(moves=state.budget.moves - 1))
            yield f"{NAMES[i]} begins {move}", self.tell(self.put(less, i, source=source, at=0), i, "source", Start())

    def in_hand(self, node: Node) -> bool:
        """Whether a move decides what becomes of the shard, and not the membership."""
        if node.source is not None and field(node.source, "phase") in _SEALED:
            return field(node.source, "_left_behind") is None
        begun = node.target is not None and field(node.target, "_left_behind") is None
        return begun and field(node.target, "phase") in _COMMITTED  # type: ignore[arg-type]  # it is there

    def change(self, state: State, row: Row) -> Iterator[tuple[str, State, bool]]:
        """A compare-and-set that fits: made and known; or made, or to be made late, and not known."""
        yield "", self.changed(state, row), True
        budget = state.budget
        if budget.doubts:
            less = state._replace(budget=budget._replace(doubts=budget.doubts - 1))
            yield ", the answer is lost", self.changed(less, row), False
            yield ", and nothing comes of it yet", less._replace(late=less.late | {row}), False

    def changed(self, state: State, row: Row) -> State:
        """The row is another; what was to change the former one can not any more."""
        late = state.late if self.rules.any_epoch else frozenset(one for one in state.late if one.version > row.version)
        return state._replace(row=row, late=late)

    def serve(self, state: State, i: int, epoch: int, *, anew: bool = False) -> State:
        """A shard is claimed in the node's store, and served."""
        node = state.nodes[i]
        if node.serves == epoch or (epoch < node.fence and not anew):
            return state
        if epoch <= state.highest and not anew:
            raise Broken(f"I1: {NAMES[i]} begins to serve under {epoch}, and somebody has served under {state.highest}")
        served = dict[str, Any](serves=epoch, frozen=False, running=0, former=True, tried=0, lapsed=False)
        state = self.put(state, i, fence=epoch, sealed=False, **served)
        return state._replace(highest=max(epoch, state.highest))

    # -- effects -------------------------------------------------------------------------------------

    def work(self, state: State, i: int) -> Steps:
        """What came of the effects that are under way at a node."""
        node = state.nodes[i]
        for role, place in (("source", "doing"), ("target", "getting")):
            effect = getattr(node, place)
            if effect is None:
                continue
            idle = self.put(state, i, **{place: None})
            for text, made, event in self.outcomes(idle, i, role, effect):
                label = f"{NAMES[i]} {type(effect).__name__}{text}"
                # Of an effect in two steps the first comes without an event.
                yield label, self.put(made, i, **{place: effect}) if event is None else self.tell(made, i, role, event)

    def outcomes(self, state: State, i: int, role: str, effect: Effect) -> Iterator[tuple[str, State, Event | None]]:
        """What may come of an effect: the state and the event."""
        node = state.nodes[i]
        machine = getattr(node, role)
        can_fail = isinstance(effect, (Check, Reserve, Install, Verify, Keep, Seal, ReadLast, Erase))
        if can_fail and state.budget.failures:
            less = state._replace(budget=state.budget._replace(failures=state.budget.failures - 1))
            yield " fails", less, Rest(why="why") if isinstance(effect, ReadLast) else Done("why")
            if isinstance(effect, Keep):
                yield " fails, and is written all the same", self.keep(less, i, effect), Done("why")
        if isinstance(effect, Look) and state.budget.doubts:
            less = state._replace(budget=state.budget._replace(doubts=state.budget.doubts - 1))
            yield " without an answer", less, Unknown()
        match effect:
            case Plan() | Clear() | TakeBack() | Commit():
                yield from self.asked(state, i, effect)
            case Look() if self.rules.unnamed and field(machine, "phase") is TargetPhase.CHECKING:
                offer = field(machine, "offer")
                yield "", state, Told(offer.source, offer.epoch, offer.move)
            case Look():
                yield "", state, self.told(state)
            case Read():
                yield "", *self.read(state, i)
            case Freeze(force=force):
                if not node.serves:
                    yield " without a shard", state, Done("why")
                elif not node.running or force:
                    yield "", self.put(state, i, frozen=True, running=0), Done()
                else:
                    yield " is over budget", state, Done("why")
            case ReadLast():
                rest = bytes(node.log[node.at :])
                # It counts as sent only if the seal follows.
                read = self.put(state, i, at=len(node.log)) if self.rules.mislaid else state
                yield "", read, Rest(((False, rest),))
            case Seal():
                epoch = field(machine, "offer").epoch
                if node.open and node.serves == epoch:
                    yield "", self.put(state, i, sealed=not self.rules.unsealed), Done()
                else:
                    yield " is refused", state, Done("why")
            case Reserve():
                if node.serves:
                    yield " is refused", state, Done("why")
                else:
                    note = Note(field(machine, "offer"), kept=False)
                    none = (0,) * self.rules.senders
                    yield "", self.put(state, i, log=(), table=none, former=False, note=note, sealed=True), Done()
            case Install(chunk=chunk):
                yield "", self.install(state, i, chunk.data), Done()
            case Keep():
                yield "", self.keep(state, i, effect), Done()
            case Serve(epoch=epoch):
                yield "", self.settle(state, i, epoch), Served()
            case Erase():
                yield from self.erase(state, i)
            case _:
                yield "", state, Done()

    def told(self, state: State) -> Told:
        return Told(NAMES[state.row.owner], state.row.epoch, state.row.move)

    def wanted(self, state: State, i: int, effect: Effect) -> Row | None:
        """What an effect would make of the row; None if that may not be, or is so already."""
        row, node = state.row, state.nodes[i]
        if isinstance(effect, Commit):
            offer = field(node.target, "offer")  # type: ignore[arg-type]  # it has asked
            expected = NAMES.index(offer.source), offer.epoch, offer.move
            if (row.owner, row.epoch, row.move) != expected and not self.rules.any_epoch:
                return None
            return Row(row.version + 1, i, node.creation, offer.epoch + 1, i)
        offer = field(node.source, "offer")  # type: ignore[arg-type]  # it has asked
        mine = row.owner == i and row.epoch == offer.epoch
        match effect:
            case Plan() if mine and not row.move:
                return row._replace(version=row.version + 1, move=offer.move)
            case Clear() if mine and row.move == offer.move:
                return row._replace(version=row.version + 1, move="")
            case TakeBack() if mine:
                return Row(row.version + 1, i, node.creation, row.epoch + 1, i)
        return None

    def asked(self, state: State, i: int, effect: Effect) -> Iterator[tuple[str, State, Event]]:
        """A change of the row."""
        by_row = isinstance(effect, (TakeBack, Commit))
        if (isinstance(effect, Commit) and self.rules.promotes) or (
            isinstance(effect, TakeBack) and self.rules.resumes
        ):
            offer = field(state.nodes[i].target if self.rules.promotes else state.nodes[i].source, "offer")  # type: ignore[arg-type]  # it has asked
            yield " without the row", state, Told(NAMES[i], offer.epoch + 1, "")
            return
        row = self.wanted(state, i, effect)
        if row is None:
            offer = field(state.nodes[i].target if isinstance(effect, Commit) else state.nodes[i].source, "offer")  # type: ignore[arg-type]  # it has asked
            refused = isinstance(effect, Plan) and (state.row.owner, state.row.move) != (i, offer.move)
            yield "", state, self.told(state) if by_row else Done("why" if refused else None)
            return
        for text, made, sure in self.change(self.put(state, i, lapsed=False), row):
            known: Event = self.told(made) if by_row else Done()
            yield text, made, known if sure else Unknown()

    def read(self, state: State, i: int) -> tuple[State, Event]:
        node = state.nodes[i]
        tailing = field(node.source, "phase") is SourcePhase.TAILING  # type: ignore[arg-type]  # it has asked
        if tailing and self.rules.watch_late:
            return self.put(state, i, at=len(node.log)), Portion(False, b"", 0, new=False)
        data = bytes(node.log[node.at : node.at + 1])
        left = len(node.log) - node.at - len(data)
        return self.put(state, i, at=node.at + len(data)), Portion(False, data, left, new=left > 0)

    def install(self, state: State, i: int, data: bytes) -> State:
        node = state.nodes[i]
        table = list(node.table)
        for command in data if not self.rules.forgets else b"":
            table[command // 8] = max(table[command // 8], command % 8)
        return self.put(state, i, log=(*node.log, *data), table=tuple(table))

    def keep(self, state: State, i: int, effect: Keep) -> State:
        for _, data in effect.token.last:
            state = self.install(state, i, data)
        note = state.nodes[i].note
        assert note is not None
        return self.put(state, i, note=note._replace(kept=True), fence=note.offer.epoch + 1, sealed=False)

    def settle(self, state: State, i: int, epoch: int) -> State:
        """The target serves what it has, which is what the source had."""
        note = state.nodes[i].note
        if note is not None and not state.nodes[i].former:
            there = state.nodes[NAMES.index(note.offer.source)]
            if there.former and there.sealed and there.fence == note.offer.epoch and there.log != state.nodes[i].log:
                raise Broken(f"I9: the source had {there.log}, and the target has {state.nodes[i].log}")
        lapsed = state.nodes[i].lapsed
        state = self.put(state, i, note=None, former=True)
        row = state.row
        # Of a former life, or not the latest word: it is claimed anew.
        mine = (row.owner, row.creation, row.epoch) == (i, state.nodes[i].creation, epoch) or self.rules.promotes
        return self.serve(state, i, epoch) if mine and not lapsed else state

    def erase(self, state: State, i: int) -> Iterator[tuple[str, State, Event | None]]:
        node = state.nodes[i]
        none = (0,) * self.rules.senders
        if node.note is not None and node.note.kept and self.rules.half_erased and node.log:
            yield " in part", self.put(state, i, log=(), table=none), None
        elif node.note is not None and node.note.kept and not self.rules.half_erased:
            yield " begins", self.put(state, i, note=node.note._replace(kept=False)), None
        else:
            yield "", self.put(state, i, log=(), table=none, note=None, sealed=True, former=False), Done()

    # -- machines and wires --------------------------------------------------------------------------

    def put(self, state: State, i: int, **fields: Any) -> State:
        node = state.nodes[i]._replace(**fields)
        return state._replace(nodes=(node, state.nodes[1]) if i == 0 else (state.nodes[0], node))

    def tell_both(self, state: State, i: int, event: Event) -> State:
        for role in ("source", "target"):
            if getattr(state.nodes[i], role) is not None:
                state = self.tell(state, i, role, event)
        return state

    def tell(self, state: State, i: int, role: str, event: Event, now: float = 0.0) -> State:
        """A machine is told something, and what it wants is done, or begun."""
        packed = getattr(state.nodes[i], role)
        if packed is None:
            return state
        packed, effects = handled(packed, event, now)
        state = self.put(state, i, **{role: packed})
        for effect in effects:
            state = self.perform(state, i, role, effect)
        if role == "source" and is_over(packed):
            state = self.put(state, i, source=None, doing=None)
        return state

    def perform(self, state: State, i: int, role: str, effect: Effect) -> State:
        node = state.nodes[i]
        match effect:
            case Say(frame=frame):
                return self.say(state, i, frame)
            case Thaw():
                return self.put(state, i, frozen=False)
            case Resume(epoch=epoch):
                state = self.put(state, i, frozen=False)
                # What was won with a lease that is over since, or by a former mover, is claimed anew.
                anew = node.lapsed or field(node.source, "_left_behind") is not None  # type: ignore[arg-type]  # it has asked
                return state if anew else self.serve(state, i, epoch)
            case Retire():
                return self.put(state, i, serves=0, frozen=False, running=0)
            case Follow():
                return state
        place = "doing" if role == "source" else "getting"
        if getattr(node, place) is not None:
            raise Broken(f"two effects at once: {getattr(node, place)} and {effect}")
        return self.put(state, i, **{place: effect})

    def say(self, state: State, i: int, frame: Frame) -> State:
        if not state.linked:
            return state
        wires = tuple((*wire, frame) if at == i else wire for at, wire in enumerate(state.wires))
        return state._replace(wires=wires)  # type: ignore[arg-type]  # it is as long as before

    def deliver(self, state: State, i: int) -> Steps:
        """The next frame comes to a node."""
        if state.wires[1 - i]:
            frame, *rest = state.wires[1 - i]
            wires = (state.wires[0], tuple(rest)) if i == 0 else (tuple(rest), state.wires[1])
            yield f"{NAMES[i]} hears {type(frame).__name__}", self.arrive(state._replace(wires=wires), i, frame)

    def arrive(self, state: State, i: int, frame: Frame) -> State:
        node = state.nodes[i]
        if not node.up:
            return state
        if isinstance(frame, Offer) and move_of(node.target) != frame.move:
            if is_over(node.source) and is_over(node.target):
                return self.begin(state, i, frame)
            return self.tell(self.put(state, i, offered=frame), i, "target", Heard(frame))
        if isinstance(frame, Void) and node.offered is not None and node.offered.move == frame.move:
            return self.put(state, i, offered=None)
        to_target = isinstance(frame, (*_TO_TARGET, Offer))
        for role in ("target",) if to_target else ("source", "target"):
            heeds = role == "source" or to_target or isinstance(frame, Void)
            if heeds and move_of(getattr(node, role)) == frame.move:
                return self.tell(state, i, role, Heard(frame))
        answer = of_a_stranger(frame)
        return self.say(state, i, Void(answer.move, "why")) if answer is not None else state

    def begin(self, state: State, i: int, offer: Offer) -> State:
        target = pack(Target(offer, NAMES[i]), 0.0)
        return self.tell(self.put(state, i, target=target, getting=None), i, "target", Start())
