"""What each request of the admin protocol means: the queries that answer it, and the acts that carry it out.

A connection asks for one answer at a time. What is returned goes over the wire as it is: dataclasses and plain
values. An act is told to a process as a message or a signal, so that it takes its turn like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import msgspec
import trio

from ..behaviours import sys
from ..errors import CallFailed, CallTimeout
from ..kernel.exits import KILL, NORMAL, SHUTDOWN
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from . import cluster, inside, past, protocol, set_aside
from .doctor import doctor
from .door import Door
from .facts import config_json, node_json
from .pieces import in_pieces
from .processes import listing_json, ps_in_pieces
from .protocol import Code, Refusal
from .queries import missing, tree_json
from .recorder import recorder_of
from .repl import MATCHES_LIMIT, matching
from .steering import steering_of
from .targets import child_view, find, missing_child, name_of, names, nobody, resolve, resolve_in_pieces
from .tracing import trace

_REASONS: dict[str, object] = {"kill": KILL, "shutdown": SHUTDOWN, "normal": NORMAL}

# Everything but typed lines, which belong to a connection.
Answerable = (
    protocol.Info
    | protocol.Tree
    | protocol.Ps
    | protocol.State
    | protocol.Mailbox
    | protocol.Stack
    | protocol.Timers
    | protocol.Crashes
    | protocol.Stalls
    | protocol.Log
    | protocol.At
    | protocol.Store
    | protocol.Config
    | protocol.Nodes
    | protocol.Shards
    | protocol.Moves
    | protocol.Plan
    | protocol.Doctor
    | protocol.Names
    | protocol.Complete
    | protocol.Poison
    | protocol.Poisoned
    | protocol.Trace
    | protocol.Record
    | protocol.Kill
    | protocol.Suspend
    | protocol.Resume
    | protocol.Restart
    | protocol.Replay
    | protocol.Drop
    | protocol.Move
    | protocol.Abort
    | protocol.Drain
    | protocol.Adopt
    | protocol.Rebalance
    | protocol.Stop
)


@final
@dataclass
class Answers:
    """Answers the requests of one connection.

    Attributes:
        door: what the node tells, and what it lets be done.
        server: the admin server's own process.
        afterwards: to be done when the reply in hand is on its way: an end that would take the reply along.
    """

    door: Door
    server: Process
    afterwards: Callable[[], None] | None = field(default=None, init=False)

    @property
    def _table(self) -> ProcessTable:
        return self.server.table

    async def answer(self, request: Answerable) -> object:
        """The answer to a request that was allowed. Waits only for requests whose class `waits`.

        Raises: Refusal.
        """
        request = await self._pinned(request)
        match request:
            case protocol.Ps(limit=limit, sort=sort, window=window):
                return await listing_json(await ps_in_pieces(self._table, limit, sort, window))
            case protocol.Tree(of=of):
                return await self._tree(of)
            case protocol.Names(prefix=prefix, limit=limit):
                return {"names": await names(self._table, prefix, limit)}
            case protocol.Complete(text=text):
                return await self._complete(text)
            case protocol.Timers(of=of, limit=limit):
                one = resolve(self._table, of) if of is not None else None
                return await inside.timers(self._table, one, limit)
            case protocol.Record(messages=messages):
                return {"recording": messages, "told": await recorder_of(self._table).keep(messages)}
            case protocol.At(of=of, position=position):
                return await past.at(self._table, of, position)
            case protocol.Doctor():
                return await doctor(self._table)
            case protocol.Trace(of=of, messages=messages, seconds=seconds):
                return await trace(self._table, await self._watched(of), messages, seconds)
            case protocol.Suspend(target=target, timeout=timeout):
                return await self._told("suspended", target, partial(sys.suspend, timeout=timeout))
            case protocol.Resume(target=target, timeout=timeout):
                return await self._told("resumed", target, partial(sys.resume, timeout=timeout))
            case protocol.Restart(target=target, timeout=timeout):
                return await self._restart(target, timeout)
            case protocol.Replay(position=position, relaxed=relaxed, timeout=timeout):
                return await set_aside.replay(self._table, position, timeout, relaxed=relaxed)
            case (
                protocol.Moves()
                | protocol.Plan()
                | protocol.Move()
                | protocol.Abort()
                | protocol.Drain()
                | protocol.Adopt()
                | protocol.Rebalance()
            ):
                return await self._steered(request)
            case other:
                return self._at_once(other)

    async def _steered(self, request: Any) -> object:
        """What is about moves of shards, and adoption."""
        steering = steering_of(self.door.steering)
        match request:
            case protocol.Moves(of=of):
                return await steering.moves(of)
            case protocol.Plan(shard=int(shard), node=str(node)):
                return await steering.forecast(shard, node)
            case protocol.Plan(shard=None, node=None):
                return await steering.plan()
            case protocol.Plan():
                why = "a move is of a shard, and to a node"
                raise Refusal("this is no plan", why, "name both, or neither", Code.USAGE)
            case protocol.Move(shard=shard, node=node):
                return await steering.move(shard, node)
            case protocol.Abort(move=move):
                return await steering.abort(move)
            case protocol.Drain(node=node, undo=undo):
                return await steering.drain(node, on=not undo)
            case protocol.Adopt(node=node, undo=undo):
                return await steering.adopt(node, undo=undo)
            case _:
                return await steering.rebalance()

    async def _pinned(self, request: Answerable) -> Answerable:
        """The request with the pid of who is meant in place of a name that has to be looked for."""
        field = next((name for name in ("of", "target") if hasattr(request, name)), "")
        target = getattr(request, field, None)
        if not isinstance(target, str) or isinstance(
            request, protocol.Tree | protocol.Crashes | protocol.Shards | protocol.Moves
        ):
            return request
        table = self._table
        if find(table, target) is not None or (
            isinstance(request, protocol.Log | protocol.At) and past.is_key(table, target)
        ):
            return request
        process = await resolve_in_pieces(table, target)
        return msgspec.structs.replace(request, **{field: repr(process.pid)})

    def _at_once(self, request: Any) -> object:
        """What is answered without waiting."""
        table = self._table
        match request:
            case protocol.Info(of=None):
                return node_json(table, self.door.facts, self.door.level)
            case protocol.Info(of=str(of)):
                return inside.about(resolve(table, of)).to_json()
            case protocol.State(of=of):
                return inside.state(resolve(table, of))
            case protocol.Mailbox(of=of, limit=limit):
                return inside.mailbox(resolve(table, of), limit)
            case protocol.Stack(of=of):
                process = resolve(table, of)
                return {"pid": repr(process.pid), "name": name_of(process), "stack": inside.stack(process)}
            case protocol.Crashes(of=of, limit=limit):
                recorder = recorder_of(table)
                return {
                    "total": recorder.crashed,
                    "recording": recorder.kept,
                    "crashes": recorder.crashes(of, limit),
                }
            case protocol.Stalls(limit=limit):
                return {"stalls": recorder_of(table).stalls(limit)}
            case protocol.Log(of=of, limit=limit, before=before):
                return past.log(table, of, limit, before)
            case protocol.Store(prefix=prefix, limit=limit):
                return past.store(table, prefix, limit)
            case protocol.Poison(closed=closed, limit=limit):
                return set_aside.waiting(table, closed=closed, limit=limit)
            case protocol.Poisoned(position=position, relaxed=relaxed):
                return set_aside.context(table, position, relaxed=relaxed)
            case protocol.Drop(position=position, relaxed=relaxed):
                return set_aside.drop(table, position, relaxed=relaxed)
            case protocol.Nodes():
                return cluster.nodes(table)
            case protocol.Shards(of=of):
                return cluster.shards(table, self.door.regions, of)
            case protocol.Config():
                return config_json(table, self.door.facts, self.door.level)
            case protocol.Kill(target=target, reason=reason):
                return self._kill(resolve(table, target), reason)
            case protocol.Stop():
                return self._stop()
            case other:
                raise AssertionError(other)

    # -- looking -------------------------------------------------------------------------------------

    async def _tree(self, of: str | None) -> object:
        table = self._table
        if of is None:
            return await tree_json(table, self.door.root)
        try:
            process = await resolve_in_pieces(table, of)
        except Refusal:
            child = await missing_child(table, of)  # one that is not there now has its line all the same
            if child is None:
                raise
            return missing(child).to_json()
        view = await child_view(process)
        if view is not None:
            return await tree_json(table, process.pid, view.id, view.type)
        if process.pid == self.door.root:
            return await tree_json(table, process.pid)
        return await tree_json(table, process.pid, process.label, "worker")

    async def _complete(self, text: str) -> dict[str, Any]:
        """Without typed lines: a word and the name of a process."""
        before, space, word = text.rpartition(" ")
        start = len(before) + len(space)
        if not space:
            return {"start": start, "matches": matching(word, list(protocol.WORDS))}
        return {"start": start, "matches": await names(self._table, word, MATCHES_LIMIT)}

    async def _watched(self, targets: list[str]) -> list[Process]:
        """Those that are meant, each once; `NAME*` means all whose name begins so."""
        found: dict[Process, None] = {}
        for target in targets:
            if target.endswith("*"):
                names = self._table.names
                fitting = [name async for name in in_pieces(list(names)) if name.startswith(target[:-1])]
                if not fitting:
                    raise nobody(target)
                found |= {names[name]: None for name in fitting if name in names}
            else:
                found[await resolve_in_pieces(self._table, target)] = None
        if len(found) > TRACED:
            why = f"{len(found)} fit, and a trace watches {TRACED} at most"
            raise Refusal("the trace was not begun", why, "name fewer", Code.REFUSED)
        return list(found)

    # -- changing ------------------------------------------------------------------------------------

    def _kill(self, process: Process, reason: str) -> dict[str, Any]:
        signal = _REASONS.get(reason, reason)
        told = {"pid": repr(process.pid), "name": name_of(process), "reason": reason}
        if process in self._storeys():
            self.afterwards = partial(process.exit_signal, self.server.pid, signal)
        else:
            process.exit_signal(self.server.pid, signal)
        return told

    def _storeys(self) -> list[Process]:
        """This server and those above it: their end is ours."""
        found = [self.server]
        while (parent := found[-1].parent) is not None and parent._process is not None:
            found.append(parent._process)
        return found

    def _stop(self) -> dict[str, Any]:
        if self.door.stop is None:
            raise Refusal(
                "this node cannot be stopped from here",
                "it is embedded in another program, which alone ends it",
                "stop that program",
                Code.REFUSED,
            )
        self.door.stop()
        return {"stopping": True}

    async def _told(self, done: str, target: str, act: Callable[[Any], Any]) -> dict[str, Any]:
        process = resolve(self._table, target)
        self._not_us(process, target)
        told = {"pid": repr(process.pid), "name": name_of(process), "state": done}
        try:
            await act(process.pid)
        except CallTimeout as error:
            raise Refusal(
                f"{name_of(process)!r} was not {done} in time",
                f"it did not take the message within {error.timeout:g} s: it is busy, or a plain function",
                f"banyan stack {told['pid']!r} tells where it is; the message stays and is done later",
                Code.TIMEOUT,
            ) from None
        except CallFailed as error:
            raise Refusal(f"{name_of(process)!r} was not {done}", str(error), "ps lists those there are", 4) from None
        return told

    async def _restart(self, target: str, timeout: float) -> dict[str, Any]:
        process = resolve(self._table, target)
        self._not_us(process, target)
        if self.door.restart is None or process.parent is None or process.parent._process is None:
            why = "no supervisor has it among its children" if process.parent is None else "nobody here can ask for it"
            raise Refusal(f"{name_of(process)!r} cannot be restarted", why, "kill ends it", Code.REFUSED)
        name, before = name_of(process), repr(process.pid)
        with trio.move_on_after(timeout) as waiting:
            after = await self.door.restart(process)
            return {"pid": after, "before": before, "name": name}
        assert waiting.cancelled_caught
        raise Refusal(
            f"{name!r} was not restarted in time",
            f"it did not end and start again within {timeout:g} s",
            "ps tells whether it is there; its supervisor goes on",
            Code.TIMEOUT,
        )

    def _not_us(self, process: Process, target: str) -> None:
        if process in self._storeys():
            what = f"{target!r} carries this connection"
            why = "if it were held or ended, nobody could be told"
            raise Refusal(what, why, "kill does it: the reply comes first", Code.REFUSED)


# Processes that one trace watches at most.
TRACED = 100
