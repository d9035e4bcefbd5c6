"""What a process asks another node, instead of one of its processes: start this, run that, who has this name.

Nothing that comes over a link names code: what another node may start or run was declared here, under a name, with
`spawnable`.

    >>> @spawnable("docs.add")
    ... async def add(a: int, b: int) -> int:
    ...     return a + b

`spawn_on("node-b", "docs.add", 1, 2)` starts it there as a process, `call_on("node-b", "docs.add", 1, 2)` is its
result. Source: OTP `erpc`, `erlang:spawn_request`; rules D1, D6, P31.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, final, overload

import trio

from ..kernel import process as mechanism
from ..kernel.elsewhere import peers_of
from ..kernel.exits import NOPROC
from ..kernel.ids import Pid, Ref
from ..kernel.parking import park
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.table import current_process, current_table
from . import terms
from .serving import made, spawnable
from .wire import Frame, Kind

if TYPE_CHECKING:
    from .dist import Dist


@final
class _Spawning(Caller):
    """Waits for a process that starts elsewhere, and ties it to its owner in the instant in which it is known.

    Its reply counts also when its task has left: the process is there, and knows of its owner.
    """

    __slots__ = ("dist", "known", "monitored", "owner", "tie")

    dist: Dist
    # Whom the new process is tied to: by which of our links, 0 for none; and by which monitor's reference.
    owner: Process | None
    tie: int
    monitored: Ref | None
    known: bool

    @property
    def waiting(self) -> bool:
        return not self.known

    def answer(self, value: object) -> None:
        self.known = True
        if type(value) is Pid and value._process is not None:
            self._tie(cast("Any", value._process))
        super().answer(value)

    def _tie(self, stand: Any) -> None:
        owner, peer = self.owner, self.dist.peer(stand.pid.node)
        if owner is None:
            return
        if self.tie:
            stand.ties[owner.pid] = (self.tie, 0)
            peer.tied[stand] = None
            if owner.alive:
                owner.add_link(stand.pid)
            else:  # it was not linked yet when it ended, and told nobody
                stand.link_ended(owner.pid, NOPROC)
        if self.monitored is not None:
            ref = self.monitored
            peer.watching[ref.number] = (ref, stand, owner, stand.pid)
            if owner.monitors is None:
                owner.monitors = {}
            if owner.alive and super().waiting:
                owner.monitors[ref] = stand
            else:
                self.dist.drop_watcher(stand, ref)


async def ask(node: str, what: str, *args: object, timeout: float, spawning: _Spawning | None = None) -> Any:
    """Ask another node and wait for its reply: see `serving` for what it knows."""
    table = current_table()
    task = trio.lowlevel.current_task()
    dist = cast("Dist", peers_of(table))
    caller: Caller = spawning or Caller((what, *args), task, dist.named(node, "rex"), f"node {node}")
    peer, number = dist.peer(node), dist.new_number()
    payload = terms.encode(dist, (what, *args))
    peer.expect(number, caller)
    peer.carry(0, Frame(Kind.ASK, 0, number, payload), lambda reason: peer.unsent(number, reason))
    caller.timeout = timeout
    table.timers.watch(caller, timeout)
    task.custom_sleep_data = caller
    return await park()


@overload
async def spawn_on(node: str, name: str, *args: object, link: bool = False, timeout: float = 5.0) -> Pid: ...
@overload
async def spawn_on(
    node: str, name: str, *args: object, link: bool = False, monitor: Literal[True], timeout: float = 5.0
) -> tuple[Pid, Ref]: ...
async def spawn_on(
    node: str, name: str, *args: object, link: bool = False, monitor: bool = False, timeout: float = 5.0
) -> Pid | tuple[Pid, Ref]:
    """Start a function on another node, or on this one, as a process; its pid. It is unsupervised, as by `spawn`.

    Args:
        name: what the function was declared as by `spawnable`, there.
        link, monitor: tie it to the caller before it takes its first step (P31); with `monitor` the monitor's
            reference comes too.
        timeout: seconds to wait for the pid.

    Raises:
        RemoteError: nothing is declared there under that name.
        CalleeExited: the node cannot be reached, or was lost (NOCONNECTION).
        CallTimeout: it did not answer in time; the process may be started all the same.
    """
    table = current_table()
    if node == table.node:
        return _spawn_here(name, args, link, monitor)
    dist = cast("Dist", peers_of(table))
    task = trio.lowlevel.current_task()
    caller = _Spawning((name, *args), task, dist.named(node, "rex"), f"node {node}")
    caller.dist, caller.known = dist, False
    caller.tie, caller.monitored = dist.new_number() if link else 0, None
    caller.owner = current_process() if link or monitor else None
    owner = caller.owner.pid.number if caller.owner is not None else 0
    if monitor:
        caller.monitored = table.new_ref()
    number = caller.monitored.number if caller.monitored is not None else 0
    pid: Pid = await ask(node, "spawn", name, args, owner, caller.tie, number, timeout=timeout, spawning=caller)
    return (pid, caller.monitored) if caller.monitored is not None else pid


def _spawn_here(name: str, args: tuple[object, ...], link: bool, monitor: bool) -> Pid | tuple[Pid, Ref]:
    table = current_table()
    process, begin = made(table, name, args)
    if link:
        mechanism.join(current_process(), process)
    ref = table.new_ref() if monitor else None
    if ref is not None:
        mechanism.monitor(current_process(), ref, process.pid, process)
    begin()
    return process.pid if ref is None else (process.pid, ref)


async def call_on(node: str, name: str, *args: object, timeout: float = 5.0) -> object:
    """Run a function on another node, in a process of its own, and wait for its result (OTP: `erpc:call`, D6).

    It runs at most once. Between nodes its arguments and its result are copies.

    Args:
        name: what the function was declared as by `spawnable`, there.
        timeout: seconds to wait for the result; math.inf: for ever.

    Raises:
        RemoteError: the function raised, or nothing is declared there under that name.
        CalleeExited: its process was ended, or the node was lost (NOCONNECTION).
        CallTimeout: there was no result in time; it may go on.
    """
    if node == current_table().node:
        table, task = current_table(), trio.lowlevel.current_task()
        process, begin = made(table, name, args, caller := Caller((name, *args), task, cast("Any", None), name))
        caller.callee, caller.timeout = process, timeout
        begin()
        table.timers.watch(caller, timeout)
        task.custom_sleep_data = caller
        return cast("object", await park())
    return cast("object", await ask(node, "run", name, args, timeout=timeout))


async def whereis_on(node: str, name: str, *, timeout: float = 5.0) -> Pid | None:
    """The pid under a local name of another node, or None.

    `timeout` is in seconds. Raises CalleeExited and CallTimeout as `call_on`.
    """
    return cast("Pid | None", await ask(node, "whereis", name, timeout=timeout))


async def register_on(node: str, name: str, pid: Pid, *, timeout: float = 5.0) -> None:
    """Give a process its local name on the node where it lives.

    `timeout` is in seconds. Raises RemoteError where `register` there is Misuse; CalleeExited and CallTimeout as
    `call_on`.
    """
    await ask(node, "register", name, pid, timeout=timeout)


async def unregister_on(node: str, name: str, *, timeout: float = 5.0) -> None:
    """Free a local name of another node.

    `timeout` is in seconds. Raises RemoteError (Misuse there) if nobody has it; CalleeExited and CallTimeout as
    `call_on`.
    """
    await ask(node, "unregister", name, timeout=timeout)


__all__ = ["ask", "call_on", "register_on", "spawn_on", "spawnable", "unregister_on", "whereis_on"]
