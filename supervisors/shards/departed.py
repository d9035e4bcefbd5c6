"""Those who were here: a stand-in for each process that has gone to another node with its shard.

A pid is held by many, and they cannot be told that its process lives elsewhere under another. So from the moment in
which it leaves, its pid leads to a `StandIn`:

    a message, a request       goes to the entity through its region, and so in order with all that goes that way
    an exit signal             likewise
    links and monitors         are kept here; the stand-in monitors the process that goes on, and ends with it
    a request that it had      is answered here, when the process that goes on has answered there
      taken and not answered

So a move raises no Down and no Exit, and the end of the process is told with its true reason. If the way to the node
where it goes on is lost, links and monitors are told NOCONNECTION, as for any process of another node; but if it was
only the way by which it left, and its shard is elsewhere by now, the stand-in finds out who goes on there.

A stand-in stays while somebody hangs on it, and at least `GRACE` seconds; then the pid is dead. Source: the
forwarding addresses of process migration (Sprite, MOSIX); rules P16, P24.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final, cast, final

from runtime.errors import MailboxFull, Misuse, NoProcess
from runtime.kernel.exits import KILL, KILLED, NOCONNECTION, NOPROC
from runtime.kernel.ids import Pid, Ref, Via
from runtime.kernel.process import DEFAULT_LIMIT, Process, demonitor, monitor
from runtime.kernel.requests import Asker, Caller
from runtime.kernel.signals import Answer
from runtime.kernel.table import ProcessTable

from .failures import UnknownRegion, error_of, unpacked
from .frames import Replied
from .outward import StartEntity

if TYPE_CHECKING:
    from .door import Door

SERVICE: Final = "departed"

# Seconds for which a pid leads to its entity though nobody hangs on it.
GRACE: Final = 60.0
# Seconds after which a stand-in that somebody hangs on asks who goes on, if nobody has said so.
UNTOLD: Final = 1.0
# Seconds for which it asks when the node is lost that the process went to, and the shard is another's by now.
LOST: Final = 10.0

logger = logging.getLogger("banyan")

_WHO: Final = object()


@final
class StandIn(Process):
    """Stands for a process that has gone; made by `Departed.stand_for`.

    Attributes:
        key, region, shard: of the entity.
        since: when it began, by the node's clock.
    """

    departed: ClassVar[bool] = True

    __slots__ = ("_following", "_lost_at", "_successor", "key", "region", "shard", "since")

    def __init__(self, process: Process, region: str, shard: int, key: str) -> None:
        super().__init__(
            process.table,
            process.pid,
            f"{region}/{key}, moved",
            parent=None,
            limit=DEFAULT_LIMIT,
            trap_exit=False,
            scoped=False,
        )
        self.region = region
        self.shard = shard
        self.key = key
        self.since = self.table.timers.clock()
        self._successor: Pid | None = None
        self._following: Ref | None = None
        # When it is lost, unless somebody says who goes on.
        self._lost_at: float | None = None

    def __repr__(self) -> str:
        return f"<StandIn {self.pid} {self.region}/{self.key}>"

    @property
    def needed(self) -> bool:
        """Whether somebody hangs on it."""
        return bool(self.links or self.watchers or self.deferred)

    # -- what is sent to it ----------------------------------------------------------------------------

    def _door(self) -> Door | None:
        from .door import Door, find_router  # doors know routers, and those know this

        try:
            return Door(*find_router(self.table, self.region), self.key)
        except UnknownRegion:
            return None

    def offer(self, message: object) -> bool:
        """Pass it on. Raises NoProcess for a call while the region is away: its caller does not wait yet."""
        door = self._door()
        if door is None:
            if type(message) is Caller:
                text = f"{message.destination!r} has moved, and its region {self.region!r} is away"
                raise NoProcess(f"{text}: try again when it is back", message.destination, message.request)
            if isinstance(message, Caller):
                message.fail(NOCONNECTION)
            return True
        taken = door.offer(message)
        if not taken:
            self.senders = door.senders
        return taken

    def post(self, message: object, *, first: bool = False) -> None:
        """What the runtime sends, which no bound counts. Raises Misuse for a system message."""
        if isinstance(message, Answer) and message.label is _WHO:
            self._following = None
            if isinstance(message.value, Pid):
                self.follow(message.value)
            return
        door = self._door()
        if door is not None:
            door.post(message)

    def exit_signal(self, source: Pid, reason: object, *, linked: bool = False) -> None:
        door = self._door()
        if door is not None:
            door.signal(source, KILLED if linked and reason is KILL else reason, linked)

    def interrupt(self, reason: object) -> None:
        """Nothing here can be interrupted."""

    # -- who hangs on it -------------------------------------------------------------------------------

    def add_link(self, peer: Pid) -> None:
        super().add_link(peer)
        self._watch()

    def add_watcher(self, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        super().add_watcher(ref, watcher, monitored)
        self._watch()

    def follow(self, pid: Pid) -> None:
        """That process goes on: this one ends with it."""
        if self._following is None and pid != self.pid:
            self._successor, self._lost_at = pid, None
            self.told(pid.node)
            self._watch()

    def told(self, node: str) -> None:
        """Where its process goes on: lists of processes say so."""
        if node != self.table.node:
            self.label = f"{self.region}/{self.key}, moved to {node}"

    def _watch(self) -> None:
        pid = self._successor
        if pid is not None and self._following is None and self.needed:
            self._following = self.table.new_ref()
            monitor(self, self._following, pid, pid._process)

    def ask(self) -> None:
        """Find out who goes on, if somebody hangs on it and nobody has said so."""
        door = self._door()
        if door is None or self._successor is not None or self._following is not None or not self.needed:
            return
        self._following = self.table.new_ref()
        asker = Asker(StartEntity(), self, door.label, self, _WHO)
        try:
            taken = door.offer(asker)
        except (Misuse, MailboxFull):
            taken = False
        if not taken:
            self._following = None

    def look(self, now: float) -> None:
        """It is needed: look whether it knows who goes on."""
        if self._lost_at is not None and now >= self._lost_at:
            self.lost()
        elif now - self.since >= UNTOLD:
            self.ask()

    def watch_ended(self, ref: Ref, monitored: Pid | str | Via, reason: object) -> None:
        if ref is not self._following:
            return
        self.monitors = None
        self._following = None
        door, gone = self._door(), self._successor
        owner = door.owner() if door is not None else None
        if reason is not NOCONNECTION:
            self.end(reason)
        elif gone is None or door is None or (owner is not None and owner[0] == gone.node):
            self.lost()
        else:
            # It has gone on from there. What it owes would have come back by that node.
            self._successor, self._lost_at = None, self.table.timers.clock() + LOST
            self.forsake()
            self.ask()

    def forsake(self) -> None:
        """Nobody will answer what the process had taken."""
        self._fail_callers(NOCONNECTION)

    def lost(self) -> None:
        """The way to who goes on is lost, which may go on all the same: messages still lead there."""
        self._unfollow()
        self._successor = self._lost_at = None
        self.forsake()
        self._tell_kin(NOCONNECTION)

    def _unfollow(self) -> None:
        if self._successor is not None and self._following is not None:
            demonitor(self, self._following)
            self._following = None

    def end(self, reason: object) -> None:
        """The process has ended, or nobody needs this any more. Its end was reported where it was."""
        if self.pid._process is not self:
            return
        self.exiting = reason
        self.pid._process = None
        self.table.processes.pop(self.pid.number, None)
        departed_of(self.table).forget(self)
        self._fail_callers(reason)
        self._tell_kin(reason)
        self._unfollow()


@final
class Departed:
    """All stand-ins of a node, and the requests that are answered for those who have gone; see `departed_of`."""

    def __init__(self) -> None:
        self._stands: dict[tuple[str, int], dict[StandIn, None]] = {}
        # Who may be answered from elsewhere, also before it is known here that the process has gone.
        self._callers: dict[int, tuple[StandIn | None, Caller]] = {}
        self._numbers = 0

    def owe(self, caller: Caller) -> int:
        """A request may be answered from elsewhere: the number by which it is known there."""
        self._numbers += 1
        self._callers[self._numbers] = (None, caller)
        return self._numbers

    def owe_no_more(self, numbers: Iterable[int]) -> None:
        """Requests are answered by those who have taken them, who stay."""
        for number in numbers:
            self._callers.pop(number, None)

    def stand_for(self, process: Process, region: str, shard: int, key: str, owed: dict[int, Caller]) -> StandIn:
        """Put a stand-in into the place of a process that is quietly ended by the caller right after.

        Args:
            owed: requests that it has taken and will answer from elsewhere, by number.
        """
        stand = StandIn(process, region, shard, key)
        self._stands.setdefault((region, shard), {})[stand] = None
        parent = process.parent
        links = {peer: None for peer in process.links or () if peer != parent}
        process.links = {parent: None} if parent is not None and parent in (process.links or ()) else None
        stand.links = links or None
        stand.watchers, process.watchers = process.watchers, None
        for ref, (watcher, _) in (stand.watchers or {}).items():
            if watcher.monitors is not None and ref in watcher.monitors:
                watcher.monitors[ref] = stand
        stand.deferred, process.deferred = process.deferred, None
        for number, caller in owed.items():
            if number in self._callers:
                self._callers[number] = (stand, caller)
                if stand.deferred is None:
                    stand.deferred = {}
                stand.deferred[caller] = None
            elif stand.deferred is not None:
                stand.deferred.pop(caller, None)  # it was answered already
        return stand

    def of(self, region: str, shard: int) -> list[StandIn]:
        """Who was here."""
        return list(self._stands.get((region, shard), ()))

    def forget(self, stand: StandIn) -> None:
        """It is none any more."""
        stands = self._stands.get((stand.region, stand.shard))
        if stands is not None:
            stands.pop(stand, None)
            if not stands:
                del self._stands[stand.region, stand.shard]
        for number in [one for one, (owner, _) in self._callers.items() if owner is stand]:
            del self._callers[number]

    def replied(self, frame: Replied) -> None:
        """One of those who have gone has answered."""
        found = self._callers.pop(frame.number, None)
        if found is None:
            return
        stand, caller = found
        if stand is not None and stand.deferred:
            stand.deferred.pop(caller, None)
        error = error_of(unpacked(frame.outcome))
        if error is None:
            caller.answer(frame.outcome[1])
        else:
            caller.refuse(error)

    def under_another_router(self, region: str, router: Process) -> bool:
        """A region was restarted, and has this router; whether anybody stands for one of it.

        What those who have gone have answered meanwhile is lost: nobody waits for that any more.
        """
        stands = [stand for (name, _), there in self._stands.items() if name == region for stand in there]
        for stand in stands:
            for caller in stand.deferred or ():
                if type(caller) is Asker and caller.owner is not None and caller.owner.label == router.label:
                    caller.owner = router  # who waits is elsewhere, and was to be told by the former one
            stand.forsake()
        return bool(stands or self._callers)

    def look(self, region: str, now: float) -> bool:
        """Let go those whom nobody needs; whether there are any left of this region."""
        left = False
        # Of one who has ended after he was packed, or whose router has.
        for number in [one for one, (stand, caller) in self._callers.items() if stand is None and not caller.waiting]:
            del self._callers[number]
        for (name, _), stands in list(self._stands.items()):
            if name != region:
                continue
            for stand in list(stands):
                if stand.needed:
                    stand.look(now)
                elif now - stand.since >= GRACE:
                    stand.end(NOPROC)
            left = left or bool(stands)
        return left


def departed_of(table: ProcessTable) -> Departed:
    """The stand-ins of a node; they outlive the routers of their regions."""
    found = table.services.get(SERVICE)
    if found is None:
        found = table.services[SERVICE] = Departed()
    return cast("Departed", found)


__all__ = ["GRACE", "Departed", "StandIn", "departed_of"]
