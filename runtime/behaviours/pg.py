"""Process groups: who belongs together, for whoever wants to reach all of them.

A complete example:

    >>> import trio.testing
    >>> from runtime import pg, receive, self_pid, send_nowait, spawn
    >>> from supervisors import Node
    >>> async def listener():
    ...     pg.join("lobby", self_pid())
    ...     print("heard", await receive())
    >>> async def main():
    ...     async with Node("docs") as node:
    ...         await node.start(pg.Scope)
    ...         spawn(listener)
    ...         await trio.testing.wait_all_tasks_blocked()
    ...         for pid in pg.get_members("lobby"):
    ...             send_nowait(pid, "news")
    ...         await trio.testing.wait_all_tasks_blocked()
    >>> trio.run(main)
    heard news

A group is there as long as it has a member; any hashable value is its name. Groups live in *scopes*, which know
nothing of each other. Each is kept by a process of its own, whose local name is the scope's; the default one is
`pg`, and none is started by itself: `child("pg", pg.Scope)`, or `child("chat", pg.Scope, name="chat")`.

A process may join a group several times: it is then a member several times, and each leave removes one. A death
removes all its memberships in the same instant. Whoever monitors a group, or a whole scope, gets what it is now,
and from then on each change once, in order: `pg.Join(ref, group, pids)` and `pg.Leave(ref, group, pids)`, which no
bound of a mailbox counts or refuses.

Reading and writing happen in the scope's memory, without a message to it and without waiting, so that a plain
callback may do it; what this node's processes join and leave is this node's word alone. Scopes of one name on
several nodes find each other when the nodes are linked, and each tells the others what its own processes join and
leave: so all members are seen everywhere, a little later (G5). A lost node takes its members with it; when it is
back, all that it has is told anew (G7). A group that others are to see has a name that can travel. If the scope's
process ends, its groups and monitors are gone and members are not told: whoever needs them stands after it in the
tree, under rest_for_one.

Not for a process of which there is one (give it a name), nor for values beside the members (that is a `Registry`
with duplicate keys). Source: OTP `pg.erl`; rules G1-G9.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, cast, final

from ..errors import Misuse, NoProcess
from ..kernel import process as mechanism
from ..kernel.elsewhere import RemoteProcess, peers_if_any
from ..kernel.ids import Pid, Ref
from ..kernel.messages import message
from ..kernel.names import register
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.signals import Down, content
from ..kernel.table import ProcessTable, current_process, current_table
from .gen_server import GenServer, Raise

DEFAULT = "pg"

logger = logging.getLogger("banyan")

K = TypeVar("K")
V = TypeVar("V")


@final
@dataclass(frozen=True, slots=True)
class Join:
    """To who monitors: `pids` have joined `group`, in one go, each as often as it stands there."""

    ref: Ref
    group: Hashable
    pids: tuple[Pid, ...]


@final
@dataclass(frozen=True, slots=True)
class Leave:
    """To who monitors: `pids` have left `group`, or died."""

    ref: Ref
    group: Hashable
    pids: tuple[Pid, ...]


# What scopes of one name tell each other; `scope` is who says it.


@message("banyan.pg.discover")
class _Discover:
    """I am here: tell me what you have, and from now on what changes."""

    scope: Pid


@message("banyan.pg.sync")
class _Sync:
    """All that my node's processes have joined, as pairs of a group and its pids."""

    scope: Pid
    groups: tuple[object, ...]


@message("banyan.pg.changed")
class _Changed:
    """Processes of my node have joined a group, or left it."""

    scope: Pid
    joined: bool
    group: object
    pids: tuple[Pid, ...]


@final
class _All:
    """What a monitor of a whole scope watches."""

    __slots__ = ()


_ALL = _All()


@final
class Scope(GenServer):
    """The process of one scope; its local name, `pg` if it was given none, is the scope's."""

    def init(self) -> None:
        # Invariant: no empty group; members in the order of joining, as often as they have joined.
        self.__groups: dict[Hashable, list[Pid]] = {}
        # Invariant: the same turned round: how often each living process is in each group.
        self.__joined: dict[Process, dict[Hashable, int]] = {}
        # The monitors: each with who watches and what (a group, or _ALL); by what; and by who.
        self.__monitors: dict[Ref, tuple[Process, object]] = {}
        self.__watchers: dict[object, dict[Ref, Process]] = {}
        self.__watching: dict[Process, dict[Ref, None]] = {}
        # The scopes of this name on other nodes, each with the members that it told of, and our monitors of them.
        self.__peers: dict[Pid, dict[Hashable, list[Pid]]] = {}
        self.__me = current_process()
        self.__table: ProcessTable = self.__me.table
        if not self.__me.names:
            register(DEFAULT)
        self.__table.keep(self.__me, self)
        peers = peers_if_any(self.__table)
        if peers is not None:
            peers.listeners.append(self._linked)
            for node in peers.nodes():
                self._linked(node, True)

    def handle_call(self, request: Any, caller: Caller) -> Raise:
        """Nobody has anything to ask: its functions read its memory."""
        return Raise(Misuse(f"a scope of process groups answers no calls, got {request!r}: use the functions of pg"))

    def handle_cast(self, request: Any) -> None:
        """Nothing is for it; what comes is dropped."""

    def handle_info(self, message: Any) -> None:
        """What the scopes of other nodes tell."""
        match message:
            case _Discover(scope):
                self._meet(scope)
                self._say_all(scope)
            case _Sync(scope, groups):
                self._meet(scope)
                self._synced(scope, dict(cast("Any", groups)))
            case _Changed(scope, joined, group, pids) if scope in self.__peers:
                self._elsewhere(scope, joined, group, pids)
            case Down(_, Pid() as scope, _) if scope in self.__peers:
                self._synced(scope, {})
                del self.__peers[scope]

    def state(self) -> object:
        """The members by group, as `sys.get_state` shows them."""
        return {group: list(members) for group, members in self.__groups.items()}

    def summary(self) -> str:
        return f"{len(self.__groups)} groups, {sum(map(len, self.__groups.values()))} members"

    # -- the books; called in the instant of the change ---------------------------------------------

    def release(self, process: Process) -> None:
        """A process has ended: its monitors first, so that it hears nothing of itself, then its memberships."""
        if process is self.__me:
            peers = peers_if_any(self.__table)
            if peers is not None and self._linked in peers.listeners:
                peers.listeners.remove(self._linked)
            for one in [*self.__joined, *self.__watching]:
                self.__table.keep_no_more(one, self)
            self.__groups, self.__joined, self.__monitors, self.__watchers, self.__watching = {}, {}, {}, {}, {}
        for ref in [*self.__watching.get(process, ())]:
            self._unwatch(ref)
        for group, times in self.__joined.pop(process, {}).items():
            for _ in range(times):
                self._remove(group, process.pid)
                self._tell(Leave, group, (process.pid,))
            try:
                self._tell_peers(False, group, (process.pid,) * times)
            except Misuse:  # its name cannot travel: they never saw it
                pass

    def _members(self, group: Hashable) -> list[Pid]:
        return list(self.__groups.get(group, ()))

    def _groups(self) -> list[Hashable]:
        return list(self.__groups)

    def _local_members(self, group: Hashable) -> list[Pid]:
        return [pid for pid in self.__groups.get(group, ()) if pid.node == self.__table.node]

    def _local_groups(self) -> list[Hashable]:
        return [group for group in self.__groups if self._local_members(group)]

    def _join(self, group: Hashable, pids: tuple[Pid, ...]) -> None:
        self._tell_peers(True, group, tuple(pid for pid in pids if pid._process is not None))
        self.__groups.setdefault(group, []).extend(pids)
        for pid in pids:
            process = pid._process
            if process is not None:
                joined = self.__joined.setdefault(process, {})
                joined[group] = joined.get(group, 0) + 1
                self.__table.keep(process, self)
        self._tell(Join, group, pids)
        for pid in pids:
            if pid._process is None:  # as if it had died right after (G6)
                self._remove(group, pid)
                self._tell(Leave, group, (pid,))

    def _leave(self, group: Hashable, pids: tuple[Pid, ...]) -> bool:
        left = []
        for pid in pids:
            process = pid._process
            joined = self.__joined.get(process, {}) if process is not None else {}
            if process is None or group not in joined:
                continue
            joined[group] -= 1
            if joined[group] == 0:
                del joined[group]
            if not joined:
                del self.__joined[process]
                self._let_go(process)
            self._remove(group, pid)
            left.append(pid)
        if left:
            self._tell_peers(False, group, tuple(left))
            self._tell(Leave, group, tuple(left))
        return bool(left)

    def _remove(self, group: Hashable, pid: Pid) -> None:
        members = self.__groups[group]
        members.remove(pid)
        if not members:
            del self.__groups[group]

    # -- the scopes of other nodes ------------------------------------------------------------------

    def _linked(self, node: str, up: bool) -> None:
        peers = peers_if_any(self.__table)
        if up and peers is not None and self.__me.names:
            peers.named(node, self.__me.names[0]).post(_Discover(self.__me.pid))

    def _meet(self, scope: Pid) -> None:
        process = scope._process
        if scope not in self.__peers and process is not None:
            self.__peers[scope] = {}
            mechanism.monitor(self.__me, self.__table.new_ref(), scope, process)
            self._say(scope, _Discover(self.__me.pid))

    def _say(self, scope: Pid, what: object) -> None:
        process = scope._process
        if isinstance(process, RemoteProcess):
            process.peers.offer(process, what, bounded=False)

    def _tell_peers(self, joined: bool, group: Hashable, pids: tuple[Pid, ...]) -> None:
        if pids:
            for scope in self.__peers:
                self._say(scope, _Changed(self.__me.pid, joined, group, pids))

    def _say_all(self, scope: Pid) -> None:
        me = self.__me.pid
        own = [(group, tuple(self._local_members(group))) for group in self._local_groups()]
        try:
            self._say(scope, _Sync(me, tuple(own)))
        except Misuse:  # too much for one message, or a name that only this node understands
            self._say(scope, _Sync(me, ()))
            for group, pids in own:
                try:
                    self._say(scope, _Changed(me, True, group, pids))
                except Misuse as error:
                    logger.warning("other nodes do not see the group %r: %s", group, error)

    def _synced(self, scope: Pid, groups: dict[Hashable, tuple[Pid, ...]]) -> None:
        had = self.__peers[scope]
        for group in [*had, *(group for group in groups if group not in had)]:
            before, after = had.get(group, ()), groups.get(group, ())
            self._elsewhere(scope, False, group, _without(before, after))
            self._elsewhere(scope, True, group, _without(after, before))

    def _elsewhere(self, scope: Pid, joined: bool, group: Hashable, pids: tuple[Pid, ...]) -> None:
        had = self.__peers[scope]
        if not joined:  # what is told between two discoveries may be known already, or not be known yet
            unknown = _without(pids, had.get(group, ()))
            pids = _without(pids, unknown)
        if not pids:
            return
        if joined:
            had.setdefault(group, []).extend(pids)
            self.__groups.setdefault(group, []).extend(pids)
        else:
            for pid in pids:
                had[group].remove(pid)
                self._remove(group, pid)
            if not had[group]:
                del had[group]
        self._tell(Join if joined else Leave, group, pids)

    def _watch(self, process: Process, what: object) -> Ref:
        ref = self.__table.new_ref()
        self.__monitors[ref] = (process, what)
        self.__watchers.setdefault(what, {})[ref] = process
        self.__watching.setdefault(process, {})[ref] = None
        self.__table.keep(process, self)
        return ref

    def _unwatch(self, ref: Ref) -> bool:
        if ref not in self.__monitors:
            return False
        process, what = self.__monitors.pop(ref)
        _drop(self.__watchers, what, ref)
        _drop(self.__watching, process, ref)
        self._let_go(process)
        return True

    def _let_go(self, process: Process) -> None:
        if process not in self.__joined and process not in self.__watching:
            self.__table.keep_no_more(process, self)

    def _tell(self, what: type[Join] | type[Leave], group: Hashable, pids: tuple[Pid, ...]) -> None:
        for watched in (group, _ALL):
            for ref, process in self.__watchers.get(watched, {}).items():
                process.post(what(ref, group, pids))


def _without(pids: Iterable[Pid], others: Iterable[Pid]) -> tuple[Pid, ...]:
    """The pids that are left when the others are taken away, each as often as it is given."""
    left = list(pids)
    for pid in others:
        if pid in left:
            left.remove(pid)
    return tuple(left)


def _drop(books: dict[K, dict[Ref, V]], key: K, ref: Ref) -> None:
    entries = books[key]
    del entries[ref]
    if not entries:
        del books[key]


def join(group: Hashable, pids: Pid | Iterable[Pid], *, scope: str = DEFAULT) -> None:
    """Let processes of this node join a group, in one go; each as often as it is given (G2).

    A dead one joins too and leaves in the same instant (G6). Raises Misuse for a pid of another node (G4), and,
    like all functions here, NoProcess if the scope is not running.
    """
    books, given = _books(scope), _given(pids)
    if given:
        books._join(group, given)


def leave(group: Hashable, pids: Pid | Iterable[Pid], *, scope: str = DEFAULT) -> bool:
    """Let processes leave a group, once for each time they are given; False if none of them was a member (G3).

    Of a list of which only some are members, these leave, and only they are reported; OTP reports all.
    """
    return _books(scope)._leave(group, _given(pids))


def get_members(group: Hashable, *, scope: str = DEFAULT) -> list[Pid]:
    """All members, in the order of joining, each as often as it has joined; none if there is no such group (G8)."""
    return _books(scope)._members(group)


def get_local_members(group: Hashable, *, scope: str = DEFAULT) -> list[Pid]:
    """The members on this node (G8)."""
    return _books(scope)._local_members(group)


def which_groups(*, scope: str = DEFAULT) -> list[Hashable]:
    """The groups that have a member, in the order of their beginning (G3)."""
    return _books(scope)._groups()


def which_local_groups(*, scope: str = DEFAULT) -> list[Hashable]:
    """The groups that have a member on this node."""
    return _books(scope)._local_groups()


def monitor(group: Hashable, *, scope: str = DEFAULT) -> tuple[Ref, list[Pid]]:
    """Watch one group: a reference and its members now; each later change comes to the calling process (G9).

    It ends with the caller, or by `demonitor`. Each monitor is told for itself.
    """
    process, books = current_process(), _books(scope)
    return books._watch(process, group), books._members(group)


def monitor_scope(*, scope: str = DEFAULT) -> tuple[Ref, dict[Hashable, list[Pid]]]:
    """Watch all groups of a scope: a reference, and the members of each group now (G9). As `monitor`."""
    process, books = current_process(), _books(scope)
    return books._watch(process, _ALL), {group: books._members(group) for group in books._groups()}


def demonitor(ref: Ref, *, scope: str = DEFAULT) -> bool:
    """End a monitor, whoever made it, and drop what it has put into the calling process's mailbox.

    False if it is none of this scope, or no more (G9).
    """
    process = current_process()
    if not _books(scope)._unwatch(ref):
        return False
    mailbox = process.mailbox
    for index in reversed(range(len(mailbox or ()))):
        assert mailbox is not None
        message = content(mailbox[index])
        if isinstance(message, Join | Leave) and message.ref is ref:
            raw = mailbox[index]
            del mailbox[index]
            process.took(raw)
    return True


def _given(pids: Pid | Iterable[Pid]) -> tuple[Pid, ...]:
    given = (pids,) if isinstance(pids, Pid) else tuple(pids)
    table = current_table()
    for pid in given:
        table.own(pid)
    return given


def _books(scope: str) -> Scope:
    """The scope that is meant; raises NoProcess if it is none."""
    process = current_table().find(scope)
    if process is None or type(process.behaviour) is not Scope:
        what = "it is not running" if process is None else f"that is a {process.label}"
        raise NoProcess(f"there is no scope {scope!r}: {what}; declare it with child({scope!r}, pg.Scope, ...)", scope)
    return process.behaviour
