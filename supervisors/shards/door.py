"""The door of an entity: a destination that is good wherever the entity is, and whether or not it runs.

`Via(doors, (region, key))` is a destination like any other. What is sent to it goes straight into the mailbox of
an entity that runs here, if nothing goes before it and a crash could not leave its sender in doubt; all else goes
to the region's router.

A door stands in for a process, like the stand-in of a process of another node: a message that is offered to it
is passed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, cast, final

import trio

from runtime.behaviours.gen_server import CastEnvelope
from runtime.durable.commands import Numbered, Query
from runtime.errors import Misuse
from runtime.kernel.exits import NOPROC
from runtime.kernel.ids import Pid, Ref, Via
from runtime.kernel.process import DEFAULT_LIMIT, Process
from runtime.kernel.requests import Caller, Sender, mailbox_full
from runtime.kernel.table import ProcessTable, current_table

from .entities import RegionSpec
from .failures import BadKey, UnknownRegion
from .outward import Routed, StartEntity, routed
from .post import Owner
from .router import Router, router_of

# The number of a door's pid when nobody runs behind it.
NOBODY = -1
# Of a key, as UTF-8.
MOST_BYTES = 200


class Door(Process):
    """What stands for an entity while something is sent to it."""

    __slots__ = ("_key", "_process", "_router", "_shard")

    def __init__(self, router: Router, process: Process, key: str) -> None:
        post = router.post
        self._router = router
        self._process = process
        self._key = key
        self._shard = router.outward.shard_of(key)
        name = post.spec.name_of(key)
        running = post.table.names.get(name)
        number = running.pid.number if running is not None else NOBODY
        pid = Pid(post.node, post.table.creation, number, self)
        super().__init__(post.table, pid, name, parent=None, limit=DEFAULT_LIMIT, trap_exit=False, scoped=False)
        # To links and monitors it is the process that runs here, or nobody.
        if running is None:
            self.exiting = NOPROC
        else:
            self.task = running.task  # an entity that calls itself is told so

    def offer(self, message: object) -> bool:
        router = self._router
        near = self._near(message)
        if near is not None:
            if isinstance(message, Caller):
                message.callee = near
                message.destination = self.label
            elif near.senders is None:
                near.senders = deque()
            self.senders = near.senders  # whoever must wait for room waits there
            return near.offer(message)
        outward = router.outward
        if not isinstance(message, Caller) and outward.crowded(self._shard):
            self.senders = cast("Any", _Crowd(router, self._key))
            return False
        asked = routed(self._key, message, trio.lowlevel.current_task())
        if isinstance(message, Caller):
            message.callee = self._process
            message.destination = self.label
        if not self._process.offer(asked):
            return False
        outward.entering(self._shard)
        return True

    def _near(self, message: object) -> Process | None:
        router = self._router
        if isinstance(message, Caller):
            request = message.request
            if isinstance(request, StartEntity):
                return None
            plain = not router.post.spec.durable or isinstance(request, (Numbered, Query))
        else:
            plain = not router.post.spec.numbered or not isinstance(message, CastEnvelope)
        if not plain or not router.outward.clear(self._shard):
            return None
        return router.inward.near(self._shard, self._key)

    def post(self, message: object, *, first: bool = False) -> None:
        """A timer's message, which no bound counts. Raises Misuse for a system message."""
        if isinstance(message, Caller):
            raise Misuse(
                f"{self.label!r} may be anywhere, and system messages are for processes of this node: "
                f"give the pid, which whereis({self.label!r}) tells on the node where it runs"
            )
        self._router.outward.entering(self._shard)
        self._process.post(routed(self._key, message, None))

    def signal(self, source: Pid, reason: object, linked: bool) -> None:
        """An exit signal for an entity that is elsewhere: it keeps its place among the messages."""
        self._router.outward.entering(self._shard)
        self._process.post(Routed(self._key, "exit", (source, reason, linked), None))

    def owner(self) -> Owner | None:
        """Who has the entity's shard, and under which epoch; None if nobody is known to."""
        return self._router.post.owner(self._shard)

    def _running(self) -> Process | None:
        return self.table.names.get(self._router.post.spec.name_of(self._key))

    def add_link(self, peer: Pid) -> None:
        running = self._running()
        if running is not None:
            running.add_link(peer)

    def drop_link(self, peer: Pid) -> None:
        running = self._running()
        if running is not None:
            running.drop_link(peer)

    def add_watcher(self, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        running = self._running()
        if running is not None:
            running.add_watcher(ref, watcher, monitored)

    def drop_watcher(self, ref: Ref) -> None:
        running = self._running()
        if running is not None:
            running.drop_watcher(ref)

    def exit_signal(self, source: Pid, reason: object, *, linked: bool = False) -> None:
        running = self._running()
        if running is not None:
            running.exit_signal(source, reason, linked=linked)


@final
class _Crowd(deque[Any]):
    """In the place of a door's waiting senders: they wait at their shard."""

    def __init__(self, router: Router, key: str) -> None:
        super().__init__()
        self._router = router
        self._key = key

    def append(self, sender: Sender, /) -> None:
        self._router.outward.wait_for_room(sender, self._key)


def check_key(region: str, key: object) -> str:
    """A key, if an entity can have it; raises BadKey."""
    try:
        if type(key) is str and 0 < len(key.encode()) <= MOST_BYTES:
            return key
    except UnicodeEncodeError:  # half of a character: it has no bytes
        pass
    raise BadKey(region, key)


def find_router(table: ProcessTable, region: str) -> tuple[Router, Process]:
    """A region's router on a node; raises UnknownRegion."""
    process = table.names.get(RegionSpec.router_of(region))
    router = router_of(process)
    if router is None or process is None:
        known = [name.split("/")[1] for name in table.names if name.startswith("region/") and name.count("/") == 1]
        raise UnknownRegion(region, known)
    return router, process


@final
class Doors:
    """The registry behind an entity as a destination: it only looks up. There is one, `doors`."""

    def __repr__(self) -> str:
        return "doors"

    def register_name(self, name: Hashable, pid: Pid, /) -> bool:
        """Entities get their names from their region: every name is taken."""
        return False

    def unregister_name(self, name: Hashable, /) -> object:
        """Nothing to do: see `register_name`."""
        return None

    def whereis_name(self, name: Hashable, /) -> Pid | None:
        """The entity's door, which is always there if its region is."""
        try:
            return _door(name).pid
        except UnknownRegion:
            return None

    def send(self, name: Hashable, message: object, /) -> object:
        """Pass a message on. Raises UnknownRegion, and MailboxFull."""
        door = _door(name)
        if not door.offer(message):
            raise mailbox_full(door, "full")
        return door.pid


doors = Doors()


def _of(name: Hashable) -> tuple[str, str]:
    return cast("tuple[str, str]", name)  # made by Region.entity


def _door(name: Hashable) -> Door:
    region, key = _of(name)
    return Door(*find_router(current_table(), region), key)
