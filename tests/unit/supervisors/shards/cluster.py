"""A cluster on paper: windows and intakes on four nodes, a network that does what it likes, an owner that changes.

`Cluster` has a method for each step that may happen; whoever drives it chooses. The promises are checked as it
goes: a command is applied at most once, in its caller's order, its caller hears what came of it, and one that was
refused is not applied after that. `settle` then lets the network deliver, and everything must come to its end.

The entities' own memory of numbered commands is here as `runtime.durable` keeps it: durable, by session. With
`durable` False there is none; what an entity was told is then lost when its shard changes its owner.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from supervisors.shards.frames import Carry, Done, Moved, Open, Probe
from supervisors.shards.intake import Intake
from supervisors.shards.window import Command, Window, redirect

SHARD = 7
NODES = ("a", "b", "c")
SENDERS = ("a", "d")
KEYS = ("oak", "elm")
CALLERS = ("ann", "bob", "cat")


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass
class Entity:
    """A durable process on paper: what it applied, and what it answered to whom."""

    applied: list[tuple[str, int]] = field(default_factory=list)
    # By session: the highest number, and the last replies.
    highest: dict[str, int] = field(default_factory=dict)
    replies: dict[tuple[str, int], object] = field(default_factory=dict)


@dataclass
class Owner:
    """A node's intake, with the commands that its entities have under way."""

    intake: Intake
    running: list[Carry] = field(default_factory=list)


class Cluster:
    """All of it; small bounds, so that they are met."""

    def __init__(self, *, durable: bool = True, size: int = 4, held: int = 6, taken: int = 5) -> None:
        self.durable = durable
        self.taken = taken
        self.windows = {node: Window(SHARD, node, f"{node}.1", size=size, held=held) for node in SENDERS}
        self.owners: dict[str, Owner] = {}
        self.placement: tuple[str, int] | None = None
        # What each node that is not the owner believes; it may be old.
        self.views: dict[str, tuple[str, int]] = {}
        self.entities: dict[str, Entity] = {key: Entity() for key in KEYS}
        self.wire: list[tuple[str, object]] = []
        self.submitted: dict[tuple[str, str, str], list[int]] = {}
        self.outcomes: dict[tuple[str, int], object] = {}
        self.refused: set[tuple[str, int]] = set()
        self.lives = 0
        self.numbers = 0
        self.left: set[int] = set()
        self.move("a")

    # -- steps ---------------------------------------------------------------------------------------

    def submit(self, node: str, caller: str, key: str) -> None:
        """A caller asks for something, if there is room."""
        window = self.windows[node]
        if window.full:
            return
        self.numbers += 1
        self.submitted.setdefault((node, caller, key), []).append(self.numbers)
        self.post(window, window.placed(self.placement) if self.numbers == 1 else [])
        self.post(window, window.submit(Command(key, "call", self.numbers, caller, token=self.numbers)))
        if window.held > window.most or len(window.pending) > window.size:
            raise Broken("bounds: more than may wait")

    def leave(self, node: str, which: int) -> None:
        """A caller has waited for long enough."""
        window = self.windows[node]
        waiting = list(window.commands())
        if waiting:
            command = waiting[which % len(waiting)]
            if window.withdraw(command):
                self.left.add(command.token)

    def deliver(self, which: int) -> None:
        """Any frame that is under way arrives, whenever it was sent."""
        if self.wire:
            to, frame = self.wire.pop(which % len(self.wire))
            self.arrive(to, frame)

    def double(self, which: int) -> None:
        """A frame comes twice."""
        if self.wire and len(self.wire) < 200:
            self.wire.append(self.wire[which % len(self.wire)])

    def drop(self, which: int) -> None:
        """A frame is lost."""
        if self.wire:
            self.wire.pop(which % len(self.wire))

    def probe(self, node: str) -> None:
        """A sender's tick."""
        window = self.windows[node]
        self.post(window, window.probe())

    def tell(self, node: str) -> None:
        """A sender looks at the placement."""
        window = self.windows[node]
        self.post(window, window.placed(self.placement))

    def cut(self, node: str) -> None:
        """A sender's link breaks."""
        self.windows[node].lost()

    def work(self, node: str, which: int) -> None:
        """An entity answers one of its commands: of each, the oldest."""
        owner = self.owners.get(node)
        if owner is None or not owner.running:
            return
        frame = owner.running[which % len(owner.running)]
        first = next(one for one in owner.running if one.key == frame.key)
        owner.running.remove(first)
        self.answer(owner, first)

    def crash(self, node: str) -> None:
        """An entity dies with all that it has: that is asked again, in any order."""
        owner = self.owners.get(node)
        if owner is not None:
            owner.running.reverse()

    def freeze(self, node: str) -> None:
        """An owner holds what comes."""
        if node in self.owners:
            self.owners[node].intake.freeze()

    def thaw(self, node: str) -> None:
        """An owner goes on, with what it held."""
        owner = self.owners.get(node)
        if owner is not None:
            owner.running.extend(owner.intake.thaw())

    def move(self, node: str) -> None:
        """Another node, or another life of the same, is the owner; what ran before can commit no more."""
        epoch = self.placement[1] + 1 if self.placement is not None else 1
        if self.placement is not None:
            self.owners.pop(self.placement[0], None)
        self.placement = (node, epoch)
        self.lives += 1
        self.owners[node] = Owner(Intake(SHARD, epoch, node, self.lives, most=self.taken))
        if not self.durable:
            for entity in self.entities.values():
                entity.applied.clear()

    def learn(self, node: str) -> None:
        """A node looks at the placement."""
        assert self.placement is not None
        self.views[node] = self.placement

    def restart(self) -> None:
        """The owner's region is restarted: the epoch stays, the life is another."""
        assert self.placement is not None
        node, epoch = self.placement
        self.lives += 1
        self.owners[node] = Owner(Intake(SHARD, epoch, node, self.lives, most=self.taken))
        if not self.durable:
            for entity in self.entities.values():
                entity.applied.clear()

    # -- how things go -------------------------------------------------------------------------------

    def post(self, window: Window, frames: list[object]) -> None:
        for frame in frames:
            assert window.owner is not None
            self.wire.append((window.owner, frame))

    def arrive(self, to: str, frame: Any) -> None:
        if isinstance(frame, (Probe, Carry)):
            self.at_owner(to, frame)
            return
        window = self.windows[to]
        match frame:
            case Open():
                self.post(window, window.opened(frame))
            case Moved(node=node, epoch=epoch):
                self.post(window, window.moved(node, epoch))
            case Done(epoch=epoch, life=life, number=number, outcome=outcome):
                command = window.done(number, epoch, life)
                if command is not None:
                    self.heard(to, command, outcome)
                    self.post(window, window.more())

    def at_owner(self, to: str, frame: Probe | Carry) -> None:
        owner = self.owners.get(to)
        if owner is None:
            moved = redirect(self.views.get(to), to, frame.epoch, SHARD, frame.sender)
            if moved is not None:
                if moved.epoch <= frame.epoch:
                    raise Broken("loop: sent on to an older epoch")
                self.wire.append((frame.node, moved))
        elif isinstance(frame, Probe):
            opened, outcomes = owner.intake.probe(frame)
            self.wire.extend((frame.node, owner.intake.done(frame.sender, number, what)) for number, what in outcomes)
            self.wire.append((frame.node, opened))
        else:
            taken = owner.intake.carry(frame)
            if taken.repeat is not None:
                self.wire.append((frame.node, owner.intake.done(frame.sender, frame.number, taken.repeat)))
            if taken.open is not None:
                self.wire.append((frame.node, taken.open))
            if taken.run:
                (owner.intake.hold if owner.intake.frozen else owner.running).append(frame)
            if owner.intake.under_way > self.taken:
                raise Broken("bounds: more under way than may be")

    def answer(self, owner: Owner, frame: Carry) -> None:
        """As a durable process does: repeat what is known, refuse or apply what is new."""
        entity = self.entities[frame.key]
        session = f"{frame.sender}/{frame.slot}"
        ident = (frame.sender, int(str(frame.request)))
        if self.durable and frame.number <= entity.highest.get(session, 0):
            reply = entity.replies.get((session, frame.number), "already done")
            outcome: tuple[object, ...] = ("ok", reply)
        elif (len(entity.applied) + frame.number) % 3 == 0:
            outcome = ("refused", len(entity.applied))  # another time it might be accepted
        else:
            self.apply(entity, frame, ident)
            outcome = ("ok", len(entity.applied))
            if self.durable:
                entity.highest[session] = frame.number
                entity.replies[session, frame.number] = len(entity.applied)
        node = owner.intake.finished(frame.sender, frame.number, outcome)
        if node is not None:
            self.wire.append((node, owner.intake.done(frame.sender, frame.number, outcome)))
        self.wire.extend(owner.intake.room())

    def apply(self, entity: Entity, frame: Carry, ident: tuple[str, int]) -> None:
        if ident in entity.applied:
            raise Broken(f"doubled: {ident}")
        if ident in self.refused:
            raise Broken(f"doubled: {ident} was refused, and is applied")
        if not self.durable and ident in self.outcomes:
            raise Broken(f"doubled: {ident} was answered before")
        for (node, _, key), numbers in self.submitted.items():
            if node == frame.node and key == frame.key and ident[1] in numbers:
                before = numbers[: numbers.index(ident[1])]
                later = [one for sender, one in entity.applied if sender == frame.sender and one in numbers]
                if any(one > ident[1] for one in later):
                    raise Broken(f"order: {ident} after {later}, behind {before}")
        entity.applied.append(ident)

    def heard(self, node: str, command: Command, outcome: tuple[object, ...]) -> None:
        ident = (f"{node}.1", command.token)
        if ident in self.outcomes:
            raise Broken(f"reply: {ident} was answered twice")
        self.outcomes[ident] = outcome
        applied = self.entities[command.key].applied
        if outcome[0] == "refused":
            self.refused.add(ident)
            if ident in applied:
                raise Broken(f"reply: {ident} was applied, and its caller heard that it was refused")
        elif outcome[1] == "already done":
            raise Broken(f"reply: {ident} was never answered, and is too old to be")
        elif self.durable and (ident not in applied or applied.index(ident) + 1 != outcome[1]):
            raise Broken(f"lost: {ident} was answered {outcome} and applied is {applied}")

    # -- the end -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The faults are over: everything is delivered, everybody looks again, and all is answered."""
        for node in self.owners:
            self.thaw(node)
        for node in NODES:
            self.learn(node)
        for _ in range(200):
            for node in SENDERS:
                self.tell(node)
                self.probe(node)
            steps = 0
            while self.wire and steps < 5_000:
                steps += 1
                self.deliver(0)
                for node in list(self.owners):
                    self.work(node, 0)
            if self.wire:
                raise Broken("liveness: the same is sent for ever")
            while any(owner.running for owner in self.owners.values()):
                for node in list(self.owners):
                    self.work(node, 0)
            if all(window.clear for window in self.windows.values()) and not self.wire:
                break
        else:
            raise Broken(f"liveness: {[len(w.pending) for w in self.windows.values()]} are never answered")
        for (node, _, _), numbers in self.submitted.items():
            for number in numbers:
                if number not in self.left and (f"{node}.1", number) not in self.outcomes:
                    raise Broken(f"lost: {number} of {node} was never answered")


STEPS = (
    *("submit",) * 8,
    *("deliver",) * 14,
    *("work",) * 8,
    *("probe", "probe", "tell", "double", "double", "drop", "cut", "leave", "freeze", "thaw", "thaw", "crash"),
    *("move", "restart", "learn"),
)


def drive(seed: int, *, durable: bool = True, steps: int = 250) -> Cluster:
    """One run out of a seed; raises Broken."""
    dice = random.Random(seed)
    cluster = Cluster(durable=durable)
    # A run has its own mix: in some nothing is ever doubled, in some the owner never changes.
    menu = [step for step in STEPS if step in ("submit", "deliver", "work", "probe", "tell") or dice.random() < 0.6]
    for _ in range(steps):
        step = dice.choice(menu)
        which = dice.randrange(1000) if dice.random() < 0.3 else 0
        match step:
            case "submit":
                cluster.submit(dice.choice(SENDERS), dice.choice(CALLERS), dice.choice(KEYS))
            case "deliver" | "double" | "drop":
                getattr(cluster, step)(which)
            case "work":
                cluster.work(dice.choice(NODES), which)
            case "leave":
                cluster.leave(dice.choice(SENDERS), which)
            case "probe" | "tell" | "cut":
                getattr(cluster, step)(dice.choice(SENDERS))
            case "restart":
                cluster.restart()
            case _:
                getattr(cluster, step)(dice.choice(NODES))
    cluster.settle()
    return cluster
