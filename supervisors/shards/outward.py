"""The sender's half of a router: what this node's processes ask of entities, on its way to the shards' owners."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, final

from runtime.behaviours.gen_server import CastEnvelope
from runtime.cluster.placement import shard_of
from runtime.durable.commands import Numbered
from runtime.errors import Busy, Misuse
from runtime.kernel.ids import Pid
from runtime.kernel.messages import Call
from runtime.kernel.requests import Caller, Sender, SystemCaller, Waiting

from .failures import error_of
from .frames import Done, Kind, Moved, Open
from .post import Owner, Post
from .window import HELD, Command, Window


@final
@dataclass(frozen=True, slots=True)
class StartEntity(Call[Pid]):
    """To an entity's door: see to it that it runs."""

    args: tuple[Any, ...] = ()


@final
@dataclass(slots=True, eq=False)
class Routed(Waiting):
    """A request in the router's mailbox: what was sent to the entity `key`, by whose task."""

    key: str
    kind: Kind
    request: object
    who: object
    token: Caller | None = None

    def fail(self, reason: object) -> None:
        if self.token is not None:
            self.token.fail(reason)


def routed(key: str, message: object, who: object) -> Routed:
    """What was sent to an entity, for the router."""
    if isinstance(message, CastEnvelope):
        return Routed(key, "cast", message.request, who)
    if not isinstance(message, Caller):
        return Routed(key, "send", message, who)
    if isinstance(message, SystemCaller):
        raise Misuse(f"system messages are for processes of this node, and {message.destination!r} may be elsewhere")
    request = message.request
    if isinstance(request, StartEntity):
        return Routed(key, "start", request.args, who, message)
    return Routed(key, "call", request, who, message)


@final
class Outward:
    """A window for each shard that is sent to, and those who wait for room in one."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self.windows: dict[int, Window] = {}
        # How many requests for a shard lie in the router's mailbox.
        self._entering: dict[int, int] = {}
        self._crowd: dict[int, deque[tuple[Sender, str]]] = {}
        # Shards that are frozen here: what this node sends there goes to nobody else until that is over. With what
        # the next owner has said meanwhile.
        self._pinned: dict[int, Open | None] = {}

    def shard_of(self, key: str) -> int:
        """The shard of a key."""
        return shard_of(self._post.spec.name, key, self._post.shards)

    # -- what doors ask, from the tasks of callers -----------------------------------------------------

    def crowded(self, shard: int) -> bool:
        """Whether a cast must wait: what is held back for a shard has reached its bound."""
        window = self.windows.get(shard)
        return (window.held if window is not None else 0) + self._entering.get(shard, 0) >= HELD

    def clear(self, shard: int) -> bool:
        """Whether nothing is on its way to a shard."""
        window = self.windows.get(shard)
        return not self._entering.get(shard) and (window is None or window.clear)

    def entering(self, shard: int) -> None:
        """A request for a shard is put into the router's mailbox."""
        self._entering[shard] = self._entering.get(shard, 0) + 1

    def wait_for_room(self, sender: Sender, key: str) -> None:
        """Let a cast wait until its shard has room."""
        self._crowd.setdefault(self.shard_of(key), deque()).append((sender, key))

    # -- requests ------------------------------------------------------------------------------------

    def enter(self, asked: Routed) -> None:
        """A request comes out of the router's mailbox."""
        shard = self.shard_of(asked.key)
        left = self._entering.pop(shard) - 1
        if left:
            self._entering[shard] = left
        token = asked.token
        if token is not None and not token.waiting:
            return
        window = self.window(shard)
        if window.full and token is not None:
            token.refuse(self._busy(asked, window))
            return
        if shard not in self._pinned:
            self.send(window, window.placed(self._post.owner(shard)))
        self.send(window, window.submit(self.command(asked)))

    def command(self, asked: Routed) -> Command:
        """A request as a window takes it; who waits for it is told if this router ends."""
        request: object = asked.request
        own: tuple[object, ...] = ()
        if isinstance(request, Numbered):
            own = (request.sender, request.number, request.since, request.lasting, request.remembered)
            request = request.command
        if asked.token is not None:
            self._keep(asked.token)
        return Command(asked.key, asked.kind, request, asked.who, own, asked.token)

    def _busy(self, asked: Routed, window: Window) -> Busy:
        name = self._post.spec.name_of(asked.key)
        return Busy(
            f"{name!r} lies in shard {window.shard}, for which {window.held} requests of this node wait, and no more "
            "are taken: wait a moment and try again",
            name,
            asked.request,
        )

    def window(self, shard: int) -> Window:
        """The window of a shard."""
        window = self.windows.get(shard)
        if window is None:
            post = self._post
            window = self.windows[shard] = Window(shard, post.node, post.id, post.since)
        return window

    def send(self, window: Window, frames: list[object]) -> None:
        """Send what a window says to where it says."""
        owner = window.owner
        if owner is not None:
            for frame in frames:
                self._post.to(owner, frame)

    # -- frames --------------------------------------------------------------------------------------

    def take(self, frame: Done | Open | Moved) -> None:
        """An owner's word; nothing, if it is for another incarnation of this region."""
        if frame.sender != self._post.id:
            return
        window = self.window(frame.shard)
        if frame.shard in self._pinned and frame.epoch > window.epoch:
            if isinstance(frame, Open):
                self._pinned[frame.shard] = frame
            return
        match frame:
            case Done():
                self._done(window, frame)
            case Open():
                self._take_back(window)
                self.send(window, window.opened(frame))
            case Moved(node=node, epoch=epoch):
                self.send(window, window.moved(node, epoch))

    def _done(self, window: Window, frame: Done) -> None:
        command = window.done(frame.number, frame.epoch, frame.life)
        if command is None:
            return
        token = command.token
        if token is not None:
            error = error_of(frame.outcome)
            self._release(token)
            if error is None:
                token.answer(frame.outcome[1])
            else:
                token.refuse(error)
        self.send(window, window.more())
        self._admit(window)

    def _admit(self, window: Window) -> None:
        """Let in who waits for room."""
        crowd = self._crowd.get(window.shard)
        while crowd and not self.crowded(window.shard):
            sender, key = crowd.popleft()
            if sender.waiting:
                taken: deque[object] = deque()
                sender.admit(taken)
                self.entering(window.shard)
                self.enter(routed(key, taken.popleft(), getattr(sender, "task", None)))
        if crowd is not None and not crowd:
            del self._crowd[window.shard]

    def _keep(self, token: Caller) -> None:
        # So that whoever waits is told if the router ends.
        process = self._post.process
        if process.deferred is None:
            process.deferred = {}
        process.deferred[token] = None

    def _release(self, token: Caller) -> None:
        if self._post.process.deferred:
            self._post.process.deferred.pop(token, None)

    def _take_back(self, window: Window) -> None:
        """Forget callers who have left, and what was not sent for them."""
        for command in list(window.commands()):
            token = command.token
            if token is not None and not token.waiting:
                self._release(token)
                command.token = None
                window.withdraw(command)

    # -- time ----------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Take back what nobody waits for any more, and ask owners again; whether anything is on its way."""
        waiting = False
        for window in list(self.windows.values()):
            self._take_back(window)
            self.send(window, window.more())
            self._admit(window)
            if not window.clear:
                waiting = True
                self.send(window, window.probe())
        return waiting

    def placed(self, shard: int | None = None) -> None:
        """The placement may have changed, of one shard or of any."""
        windows = self.windows.values() if shard is None else filter(None, [self.windows.get(shard)])
        for window in windows:
            if not window.clear and window.shard not in self._pinned:
                self._take_back(window)
                self.send(window, window.placed(self._post.owner(window.shard)))

    # -- a shard of this node that moves ---------------------------------------------------------------

    def pin(self, shard: int) -> None:
        """It is frozen here: believe nobody who says that it is elsewhere."""
        self._pinned.setdefault(shard)

    def unpin(self, shard: int) -> None:
        """It goes on here, or is lost: believe all again."""
        if shard in self._pinned:
            del self._pinned[shard]
            self.placed(shard)

    def pass_on(self, shard: int, owner: Owner, begun: set[int], queues: dict[str, list[Command]]) -> None:
        """It has gone to another node: what waits goes there; see `Window.number_anew`.

        A shard that was lost before is pinned no more, and nobody is left here with anything of its senders: what its
        window has may have been sent to the next owner already, and keeps its numbers.
        """
        if shard not in self._pinned:
            window = self.windows.get(shard)
            if window is not None:
                self.send(window, window.moved(*owner))
            return
        opened = self._pinned.pop(shard)
        if queues or shard in self.windows:
            window = self.window(shard)
            window.number_anew(begun, queues)
            self.send(window, window.moved(*owner))
            if opened is not None:
                self.send(window, window.opened(opened))

    def put_first(self, shard: int, queues: dict[str, list[Command]]) -> None:
        """What has come to an entity here and was not begun is asked again, before all else of its key."""
        queues = {key: [one for one in queue if not one.number] for key, queue in queues.items()}
        if queues:
            window = self.window(shard)
            window.number_anew(set(window.pending), queues)
            self.send(window, window.more())

    def lost(self, node: str) -> None:
        """The link to a node has broken."""
        for window in self.windows.values():
            if window.owner == node:
                window.lost()
