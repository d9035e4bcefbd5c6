"""What this node does for another one that asks: start what was declared for that, look up and give names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import BanyanError, Misuse
from ..kernel.exits import NORMAL
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import Asker, Caller
from ..kernel.table import ProcessTable, context_of
from . import terms
from .peer import Link, Peer
from .wire import Frame

if TYPE_CHECKING:
    from .dist import Dist

F = TypeVar("F", bound=Callable[..., Awaitable[object]])

_functions: dict[str, Callable[..., Awaitable[object]]] = {}


def spawnable(name: str) -> Callable[[F], F]:
    """Let other nodes start an async function, under a name. Its arguments and result must be able to travel.

    Raises Misuse if the name belongs to another function.
    """
    if type(name) is not str or not name:
        raise Misuse(f"a name is a non-empty string, got {name!r}")

    def declare(function: F) -> F:
        other: Any = _functions.get(name)
        mine: Any = function
        if other is not None and (other.__module__, other.__qualname__) != (mine.__module__, mine.__qualname__):
            raise Misuse(f"the name {name!r} belongs to {other.__module__}.{other.__qualname__}: choose another")
        _functions[name] = function
        return function

    return declare


def serve(dist: Dist, peer: Peer, link: Link, frame: Frame) -> None:
    """Do what another node asks of this one, and reply."""
    table, port = dist.table, cast("Process", peer.port)
    try:
        asked = cast("tuple[Any, ...]", terms.decode(dist, frame.payload))
        asker = Asker(asked, port, f"node {table.node}", port, frame.number)
    except BanyanError as error:
        Asker(None, port, f"node {table.node}", port, frame.number).refuse(error)
        return
    try:
        match asked:
            case ("spawn", str(name), tuple(args), int(owner), int(tie), int(number)):
                process, begin = made(table, name, args)
                if tie:
                    stand = dist.stand(link.node, link.creation, owner)
                    process.parent = stand.pid
                    stand.ties[process.pid] = (0, tie)
                    peer.tied[stand] = None
                    process.add_link(stand.pid)
                if number:
                    dist.inbound.watch(peer, link, process, owner, number)
                asker.answer(process.pid)
                begin()
            case ("run", str(name), tuple(args)):
                process, begin = made(table, name, args, asker)
                begin()
            case ("whereis", str(name)):
                found = table.names.get(name)
                asker.answer(found.pid if found is not None else None)
            case ("register", str(name), Pid() as pid):
                holder = table.own(pid)
                if holder is None:
                    raise Misuse(f"cannot give {pid!r} the name {name!r}: it is dead")
                table.register(name, holder)
                asker.answer(None)
            case ("unregister", str(name)):
                table.unregister(name)
                asker.answer(None)
            case ("global", str(what), name, int(token), more):
                asker.answer(dist.agreement.serve(link.node, what, name, token, more))
            case _:
                raise Misuse("a node is asked for spawn, run, whereis, register, unregister or global, with arguments")
    except BanyanError as error:
        asker.refuse(error)


def made(
    table: ProcessTable, name: str, args: tuple[object, ...], caller: Caller | None = None
) -> tuple[Process, Callable[[], None]]:
    """A process for a declared function, and what lets it run; its result goes to `caller`, who learns of its end."""
    function = _functions.get(name)
    if function is None:
        raise Misuse(f"nothing is declared here as {name!r}: import the module that does it, with @spawnable")
    process = table.create(name)
    if caller is not None:
        process.deferred = {caller: None}

    async def body(_process: Process, _argument: object) -> object:
        if caller is None:
            await function(*args)
            return NORMAL
        try:
            result = await function(*args)
        except Exception as error:  # raised where it is waited for
            caller.refuse(error)
        else:
            caller.answer(result)
        return NORMAL

    return process, lambda: table.begin(process, context_of(process), body)


__all__ = ["made", "serve", "spawnable"]
