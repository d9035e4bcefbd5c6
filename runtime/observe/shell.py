"""What a typed line finds in its session: ways to look, to call and send, and to end a process.

Whoever may run lines may do anything; these are the ways that are short to type. Where a process is wanted,
its registered name, its pid, or the pid's text (`"<1.88>"`) will do. State is shown as the process itself
allows (`format_status`). Source: IEx's helpers (`h`, `i`, `pid`); OTP `sys`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, final

import msgspec

from ..behaviours import gen_server, sys
from ..kernel import api
from ..kernel.exits import KILL, NORMAL, SHUTDOWN, Shutdown
from ..kernel.ids import Pid
from ..kernel.info import ProcessInfo, process_info
from ..kernel.names import whereis
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from . import export, inside, past, text, tracing
from .doctor import doctor as diagnose
from .facts import Facts, node_json
from .processes import Listing, ps, subtree
from .protocol import Level, Refusal
from .queries import TreeNode
from .recorder import recorder_of
from .repl import Text
from .shown import formatted
from .steering import Steering
from .targets import resolve

# Types whose values are shown by their `str`: a tree as a tree, a list of processes as a table.
AS_TEXT: tuple[type, ...] = (TreeNode, Listing)

HELP = """\
tree()  tree("name")          the supervision tree, or the part below a supervisor
ps()  ps(50)  top(3)          the processes, those with the longest mailboxes first
info()  info("name")          the node, or one process
await state("name")           the state of a process, as it allows it to be shown
mailbox("name")               the messages that wait for it; stack("name"): where it is
log("name")                   the last journal entries of a durable process
await at("name", 10_230)      its state at a position of its journal, and what changed there
await trace("name", "other*") what comes and goes (messages=100, seconds=10.0)
crashes()  crashes("name")    the last crashes, with state and last messages
await doctor()                what seems wrong
whereis("name")  pid("<1.88>")
await call("name", request)   ask, and wait for the reply (timeout=5.0)
await send("name", message)   also: await cast("name", request)
exit_process("name")          send an exit signal; by default KILL, else exit_process("name", SHUTDOWN)
await replace_state("name", f) give it the state that f makes of its present one
await suspend("name")         hold a process, await resume("name") lets it go on
await moves()                 moves of shards; await move(17, "node"), await abort("id")
await drain("node")           have it give its shards away; await drain("node", undo=True)
_                             the last value; help(thing) explains a thing
Ctrl-C interrupts the line, Ctrl-D leaves. A pid or its text "<1.88>" does wherever a name does."""


def _clock(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@final
class Helper:
    """A function of the session: named without a call, it says what it does."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __call__(self, *args: object, **options: object) -> object:
        return self._function(*args, **options)

    def __repr__(self) -> str:
        said = (self.__doc__ or "").partition("\n")[0]
        name = self._function.__name__
        waits = "await " if inspect.iscoroutinefunction(self._function) else ""
        return f"{waits}{name}{inspect.signature(self._function)}  {said}"


@final
class Shell:
    """The helpers of one session."""

    def __init__(self, table: ProcessTable, root: Pid, facts: Facts) -> None:
        self._table = table
        self._root = root
        self._facts = facts

    def names(self, more: Mapping[str, object]) -> dict[str, object]:
        """All that a session starts with; `more` comes from whoever runs the node, and wins."""
        look: list[Callable[..., object]] = [self.h, self.tree, self.ps, self.top, self.info, self.state, self.pid]
        look += [self.mailbox, self.stack, self.log, self.at, self.trace, self.crashes, self.doctor]
        act: list[Callable[..., object]] = [self.call, self.send, self.cast, self.suspend, self.resume]
        act.append(self.replace_state)
        return {
            **{one.__name__: Helper(one) for one in [*look, *act, self.exit_process, whereis]},
            "Pid": Pid,
            "KILL": KILL,
            "NORMAL": NORMAL,
            "SHUTDOWN": SHUTDOWN,
            "Shutdown": Shutdown,
            **more,
        }

    def h(self) -> Text:
        """What there is here."""
        return Text(HELP)

    def pid(self, target: str | Pid) -> Pid:
        """The pid of a living process; raises LookupError if there is none, or more than one fits."""
        return self._meant(target).pid

    def tree(self, of: str | Pid | None = None) -> TreeNode:
        """The supervision tree, or the part below one supervisor."""
        found = subtree(self._table, self._root, of)
        if found is None:
            raise LookupError(f"no process is called {of!r}: tree() shows all")
        return found

    def ps(self, limit: int = 100) -> Listing:
        """The processes, at most `limit`, those with the longest mailboxes first."""
        return ps(self._table, limit)

    def top(self, limit: int = 10) -> Listing:
        """The processes with the longest mailboxes."""
        return ps(self._table, limit)

    def mailbox(self, of: str | Pid, limit: int = 20) -> Text:
        """The messages that wait for a process; none is taken out."""
        return self._shown(text.mailbox, inside.mailbox(self._meant(of), limit))

    def stack(self, of: str | Pid) -> Text:
        """Where a process is, outermost call first."""
        return self._shown(text.frames, inside.stack(self._meant(of)))

    def log(self, of: str, limit: int = 10, before: int | None = None) -> Text:
        """The last journal entries of a durable process."""
        return self._shown(self._timed(text.log), past.log(self._table, of, limit, before))

    async def at(self, of: str, position: int | None = None) -> Text:
        """The state of a durable process at a position of its journal, and what changed there."""
        return self._shown(self._timed(text.at), await past.at(self._table, of, position))

    async def trace(self, *of: str | Pid, messages: int = 100, seconds: float = 10.0) -> Text:
        """What comes to and leaves processes, until enough has passed or time is up."""
        watched = [process for target in of for process in self._watched(target)]
        found = await tracing.trace(self._table, watched, messages, seconds)
        return self._shown(export.lines, found.events)

    def crashes(self, of: str | None = None, limit: int = 5) -> Text:
        """The last crashes, newest first, with state and last messages."""
        recorder = recorder_of(self._table)
        said = {"total": recorder.crashed, "recording": recorder.kept, "crashes": recorder.crashes(of, limit)}
        return self._shown(self._timed(text.crashes), said)

    async def doctor(self) -> Text:
        """What seems wrong, the worst first."""
        return self._shown(text.doctor, await diagnose(self._table))

    def _meant(self, of: str | Pid) -> Process:
        try:
            return resolve(self._table, of)
        except Refusal as refusal:
            if isinstance(of, Pid) or "fit" not in refusal.why:
                raise LookupError(f"no living process is called {of!r}: ps() lists them") from None
            raise LookupError(f"{refusal.what}: {refusal.why}") from None

    def _watched(self, target: str | Pid) -> list[Process]:
        if isinstance(target, str) and target.endswith("*"):
            return [one for name, one in self._table.names.items() if name.startswith(target[:-1])]
        return [self._meant(target)]

    @staticmethod
    def _shown(render: Callable[[Any], Iterable[str]], found: object) -> Text:
        return Text("\n".join(render(msgspec.to_builtins(found))))

    @staticmethod
    def _timed(render: Callable[[Any, text.Clock], Iterable[str]]) -> Callable[[Any], Iterable[str]]:
        def rendered(said: Any) -> Iterable[str]:
            return render(said, _clock)

        return rendered

    def info(self, of: str | Pid | None = None) -> ProcessInfo | dict[str, Any]:
        """The node, or one process."""
        if of is None:
            return node_json(self._table, self._facts, Level.EVAL)
        found = process_info(self.pid(of))
        assert found is not None
        return found

    async def state(self, of: str | Pid, *, timeout: float = 5.0) -> object:
        """The state of a process, as its own `format_status` lets it be shown."""
        pid = self.pid(of)
        behaviour = pid._process.behaviour if pid._process is not None else None
        return formatted(behaviour, await sys.get_state(pid, timeout=timeout))

    async def call(self, to: str | Pid, request: object, *, timeout: float = 5.0) -> object:
        """Ask a process and wait for its reply, at most `timeout` seconds."""
        return await api.call(self.pid(to), request, timeout=timeout)

    async def send(self, to: str | Pid, message: object, *, timeout: float = 5.0) -> None:
        """Send a message; while the mailbox is full, wait for room at most `timeout` seconds."""
        await api.send(self.pid(to), message, timeout=timeout)

    async def cast(self, to: str | Pid, request: object, *, timeout: float = 5.0) -> None:
        """Give a server something to do, without a reply."""
        await gen_server.cast(self.pid(to), request, timeout=timeout)

    async def suspend(self, of: str | Pid) -> None:
        """Hold a process: it serves system messages only."""
        await sys.suspend(self.pid(of))

    async def resume(self, of: str | Pid) -> None:
        """Let a suspended process go on."""
        await sys.resume(self.pid(of))

    async def replace_state(self, of: str | Pid, change: Callable[[Any], object], *, timeout: float = 5.0) -> object:
        """Give a process the state that `change` makes of its present one; shown as it allows."""
        pid = self.pid(of)
        after = await sys.replace_state(pid, change, timeout=timeout)
        return formatted(pid._process.behaviour if pid._process is not None else None, after)

    def exit_process(self, target: str | Pid, reason: object = KILL) -> None:
        """Send an exit signal; KILL cannot be trapped."""
        api.exit(self.pid(target), reason)


def steering_verbs(steering: Steering) -> dict[str, Helper]:
    """What a typed line says of moves of shards, by its name."""

    async def moves(of: str | None = None) -> Text:
        """The moves that are under way, and the last ones; of one node, or all."""
        said = await steering.moves(of)
        return Text("\n".join(text.moves(said, _clock)))

    async def move(shard: int, node: str) -> Text:
        """Begin to move a shard to another node; moves() tells how it goes."""
        said = await steering.move(shard, node)
        return Text(f"{said['move']}: shard {shard} goes from {said['source']} to {node}; await moves() tells how far")

    async def abort(move: str) -> Text:
        """Give up a move, as long as its shard is not sealed."""
        said = await steering.abort(move)
        return Text(f"the move of shard {said['shard']} is given up; {said['source']} serves it as before")

    async def drain(node: str | None = None, *, undo: bool = False) -> Text:
        """Have a node give all its shards to others; this one, if none is named. With undo it takes part again."""
        said = await steering.drain(node, on=not undo)
        does = "takes part again" if undo else "gives its shards away"
        return Text(f"{said['node']} {does}, and has {said['owned']}; await moves() tells how far")

    return {verb.__name__: Helper(verb) for verb in (moves, move, abort, drain)}
