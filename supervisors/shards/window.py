"""Commands on their way to a shard that may move, whose owner may die, over links that may break: exactly once.

A *window* is the sender's half: one for each region incarnation and shard. It numbers the commands, sends them to
where it believes the owner to be, and keeps each until its outcome is back, which for a durable process means:
until it is on the disk. The rest waits in a bounded hold queue. An *intake* is the owner's half: it takes each
sender's commands in the order of their numbers, once, and repeats outcomes that were lost on their way back.

**Opening.** Before its first command to an owner, and whenever it may have lost something, a window asks by a
`Probe`, and sends when an `Open` has told which number is expected and by which life of the owner. What comes
for another life, or under another epoch, is not carried out. So whatever was lost is sent again, what came late
is dropped, and nothing hangs on how long anything takes.

**Where the owner is** only ever changes towards a higher epoch, whoever says so: two nodes that take each other
for the owner cannot send a command round and round.

**Owner change.** An intake is memory, and is gone with its owner. A durable process also remembers by itself what
each *session* was answered (`runtime.durable.commands`). A sender has several sessions with an entity, its
*slots*, and in each of them no more than one command without an outcome. So the new owner's process either knows
the command, or can decide it as if for the first time: no later one of that session can have been applied.

**Order.** Commands of one caller to one entity are taken one after the other; those of different callers of one
node start in order, and may overtake each other if the entity dies in between.

Bounds: a window holds `SIZE` commands, a hold queue `HELD`; an intake that has `TAKEN` of them under way or is
frozen and holds as many takes no more, and says so when there is room again. Whoever is over a bound waits;
nothing that was taken is dropped.

Pure: what goes in are commands, frames and news of the placement; what comes out are frames to send. Source:
NFS 4.1 sessions and their slots (RFC 8881, 2.10.6); go-back-N; Raft client sessions (Ongaro's thesis, 6.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from .frames import Carry, Kind, Moved, Open, Probe

SIZE: Final = 64
SLOTS: Final = 16
HELD: Final = 1024


@final
@dataclass(slots=True, eq=False)
class Command:
    """One command on its way.

    Attributes:
        who: whose order is kept: the calling process.
        own: see `Carry`.
        token: the shell's own, such as who waits for the reply.
        number, slot: 0 and -1 while it is held back.
        at: epoch and life of the owner whose word about it counts; None while it was sent to none.
    """

    key: str
    kind: Kind
    request: object
    who: Hashable = None
    own: tuple[object, ...] = ()
    token: Any = None
    number: int = 0
    slot: int = -1
    at: tuple[int, int] | None = None


@final
class Window:
    """A sender's half, for one shard.

    Args:
        shard: its number.
        node, sender: of the region that sends; `sender` is the id of its incarnation.
        since: when that began, in seconds since the Unix epoch.

    Attributes:
        owner: the node that commands go to, None while nobody is known.
        epoch: of the owner; never falls.
        life: of the owner, as far as it is known; never falls within an epoch.
        open: whether that one waits for what is sent.
    """

    def __init__(
        self, shard: int, node: str, sender: str, since: float = 0.0, *, size: int = SIZE, held: int = HELD
    ) -> None:
        self.shard = shard
        self.node = node
        self.sender = sender
        self.since = since
        self.size = size
        self.most = held
        self.owner: str | None = None
        self._last: str | None = None
        self.epoch = -1
        self.life = 0
        self.open = False
        # Whether it was asked to, since something has changed; it is asked again at each tick.
        self._asked = False
        # Invariant: numbers are dense and rise; those below the first are answered.
        self.pending: dict[int, Command] = {}
        self.last = 0
        # The next number to be sent to the owner that has opened.
        self._next = 1
        self._held: dict[str, deque[Command]] = {}
        self.held = 0
        # Keys whose first command that is held back could go if the window had room, oldest first.
        self._ready: dict[str, None] = {}
        # Of each key: the slots in use, with whose command it is.
        self._slots: dict[str, dict[int, Hashable]] = {}

    @property
    def base(self) -> int:
        """The lowest number that is not answered."""
        return next(iter(self.pending)) if self.pending else self.last + 1

    @property
    def full(self) -> bool:
        """Whether the hold queue has no room."""
        return self.held >= self.most

    @property
    def clear(self) -> bool:
        """Whether nothing is on its way."""
        return not self.pending and not self.held

    def commands(self) -> Iterator[Command]:
        """All that have no outcome."""
        yield from self.pending.values()
        for queue in self._held.values():
            yield from queue

    # -- commands ------------------------------------------------------------------------------------

    def submit(self, command: Command) -> list[object]:
        """Take a command; the frames to send to `owner`. Ask `full` first."""
        queue = self._held.get(command.key)
        if queue is None:
            queue = self._held[command.key] = deque()
        queue.append(command)
        self.held += 1
        self._look_at(command.key)
        return self._fill()

    def withdraw(self, command: Command) -> bool:
        """Take back a command whose caller has left; False if it was sent: then its outcome is still to come."""
        if command.number:
            if command.at is not None or self.pending.get(command.number) is not command:
                return False
            self._remove(command)
            return True
        queue = self._held.get(command.key)
        if queue is None or command not in queue:
            return False
        queue.remove(command)
        self.held -= 1
        if not queue:
            del self._held[command.key]
            self._ready.pop(command.key, None)
        else:
            self._look_at(command.key)
        return True

    def done(self, number: int, epoch: int, life: int) -> Command | None:
        """A command has its outcome: it leaves the window. Then call `more`.

        None if it has left before, or was sent to another life since: that one may decide it anew, so only its
        word counts.
        """
        command = self.pending.get(number)
        if command is None or command.at != (epoch, life):
            return None
        self._remove(command)
        return command

    def number_anew(self, begun: Container[int], queues: Mapping[str, Sequence[Command]]) -> None:
        """The owner gives up the shard, and with it what it had taken and not begun: that goes to the next anew.

        Args:
            begun: numbers that the next owner has been told of: these keep their places.
            queues: by key, what has come to the owner in its order: commands that are here, and others, which
                are taken now. Those that are here and not named follow in their order, then what is held back.
        """
        named: dict[str, dict[Command, None]] = {key: dict.fromkeys(queue) for key, queue in queues.items()}
        for number, command in list(self.pending.items()):
            if number in begun:
                continue
            self._remove(command)
            command.number, command.slot, command.at = 0, -1, None
            named.setdefault(command.key, {})[command] = None
        for key, ahead in named.items():
            behind = self._held.pop(key, ())
            self.held += len(ahead)
            if ahead or behind:
                self._held[key] = deque([*ahead, *behind])
            self._look_at(key)

    def _remove(self, command: Command) -> None:
        del self.pending[command.number]
        slots = self._slots[command.key]
        del slots[command.slot]
        if not slots:
            del self._slots[command.key]
        self._look_at(command.key)

    def more(self) -> list[object]:
        """What may be sent since something has left the window."""
        return self._fill()

    def _look_at(self, key: str) -> None:
        """Note whether a key's first command that is held back may go: in a free slot, after its caller's others."""
        queue = self._held.get(key)
        slots = self._slots.get(key, {})
        if queue and len(slots) < SLOTS and (queue[0].who is None or queue[0].who not in slots.values()):
            self._ready[key] = None
        else:
            self._ready.pop(key, None)

    def _fill(self) -> list[object]:
        while self._ready and len(self.pending) < self.size:
            key = next(iter(self._ready))
            del self._ready[key]
            queue = self._held[key]
            command = queue.popleft()
            self.held -= 1
            if not queue:
                del self._held[key]
            slots = self._slots.setdefault(key, {})
            command.slot = next(slot for slot in range(SLOTS) if slot not in slots)
            slots[command.slot] = command.who
            self.last += 1
            command.number = self.last
            self.pending[self.last] = command
            self._look_at(key)
        return self._send()

    def _send(self) -> list[object]:
        """Every command that the owner has not been sent; if it has not opened, the question whether it does."""
        if not self.open:
            return [] if self._asked else self.probe()
        if self._next > self.last:
            return []
        frames: list[object] = []
        base = self.base
        for number in range(max(base, self._next), self.last + 1):
            command = self.pending.get(number)
            if command is not None:
                command.at = (self.epoch, self.life)
            frames.append(self._frame(number, command, base))
        self._next = self.last + 1
        return frames

    def _frame(self, number: int, command: Command | None, base: int) -> Carry:
        place = (self.shard, self.epoch, self.life, self.node, self.sender, base, number)
        if command is None:
            # It is answered; an owner that goes by the numbers is told that there is nothing to do.
            return Carry(*place, -1, "", "", None, (), self.since)
        return Carry(*place, command.slot, command.key, command.kind, command.request, command.own, self.since)

    # -- the owner -----------------------------------------------------------------------------------

    def placed(self, owner: tuple[str, int] | None) -> list[object]:
        """The placement says who owns the shard, and under which epoch; None: nobody."""
        if owner is None:
            self.owner, self.open, self._asked = None, False, False
            return []
        return self._at(*owner)

    def moved(self, node: str, epoch: int) -> list[object]:
        """A node says who the owner is. Heeded only if the epoch is higher than the known one."""
        return self._at(node, epoch) if epoch > self.epoch else []

    def _at(self, node: str, epoch: int) -> list[object]:
        if epoch < self.epoch or (epoch, node) == (self.epoch, self.owner):
            return []
        if epoch > self.epoch or node != self._last:
            self.life = 0
        self.owner = self._last = node
        self.epoch, self.open, self._asked = epoch, False, False
        return self.probe()

    def probe(self) -> list[object]:
        """Ask what the owner has: when something may be lost, and once in a while as long as anything waits."""
        if self.owner is None or self.clear:
            return []
        self._asked = True
        return [Probe(self.shard, self.epoch, self.node, self.sender, self.base, self.last)]

    def opened(self, frame: Open) -> list[object]:
        """An owner waits for a number: send from there on."""
        at = (frame.epoch, frame.life)
        if at < (self.epoch, self.life) or (frame.epoch == self.epoch and frame.node != self.owner):
            return []
        self.owner = self._last = frame.node
        (self.epoch, self.life), self.open = at, True
        for number, command in self.pending.items():
            if number >= frame.expected:
                break
            command.at = at
        self._next = max(self.base, frame.expected)
        return self._fill()

    def lost(self) -> None:
        """The link to the owner has broken: nothing is sent until it opens again."""
        self.open = self._asked = False


def redirect(owner: tuple[str, int] | None, here: str, epoch: int, shard: int, sender: str) -> Moved | None:
    """What a node that is not the owner says to a sender, who came under `epoch`: forwards only, to a higher epoch."""
    if owner is None or owner[0] == here or owner[1] <= epoch:
        return None
    return Moved(shard, sender, *owner)
