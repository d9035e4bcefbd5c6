"""What a typed line finds in its session: ways to look, to call and send, and to end a process.

Whoever may run lines may do anything; these are the ways that are short to type. Where a process is wanted,
its registered name, its pid, or the pid's text (`"<1.88>"`) will do. State is shown as the process itself
allows (`format_status`). Source: IEx's helpers (`h`, `i`, `pid`); OTP `sys`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, final

from ..behaviours import gen_server, sys
from ..kernel import api
from ..kernel.api import ProcessInfo, process_info
from ..kernel.exits import KILL, NORMAL, SHUTDOWN, Shutdown
from ..kernel.ids import Pid
from ..kernel.table import ProcessTable
from .facts import Facts, node_json
from .processes import Listing, find, ps, subtree
from .protocol import Level
from .queries import TreeNode
from .repl import Text

# Types whose values are shown by their `str`: a tree as a tree, a list of processes as a table.
AS_TEXT: tuple[type, ...] = (TreeNode, Listing)

HELP = """\
tree()  tree("name")          the supervision tree, or the part below a supervisor
ps()  ps(50)                  the processes, those with the longest mailboxes first
info()  info("name")          the node, or one process
await state("name")           the state of a process, as it allows it to be shown
whereis("name")  pid("<1.88>")
await call("name", request)   ask, and wait for the reply (timeout=5.0)
await send("name", message)   also: await cast("name", request)
exit_process("name")          send an exit signal; by default KILL, else exit_process("name", SHUTDOWN)
await suspend("name")         hold a process, await resume("name") lets it go on
_                             the last value; help(thing) explains a thing
Ctrl-C interrupts the line, Ctrl-D leaves. A pid or its text "<1.88>" does wherever a name does."""


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
        look: list[Callable[..., object]] = [self.h, self.tree, self.ps, self.info, self.state, self.pid]
        act: list[Callable[..., object]] = [self.call, self.send, self.cast, self.suspend, self.resume]
        return {
            **{one.__name__: Helper(one) for one in [*look, *act, self.exit_process, api.whereis]},
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
        """The pid of a living process; raises LookupError if there is none."""
        process = find(self._table, target)
        if process is None:
            raise LookupError(f"no living process is called {target!r}: ps() lists them")
        return process.pid

    def tree(self, of: str | Pid | None = None) -> TreeNode:
        """The supervision tree, or the part below one supervisor."""
        found = subtree(self._table, self._root, of)
        if found is None:
            raise LookupError(f"no process is called {of!r}: tree() shows all")
        return found

    def ps(self, limit: int = 100) -> Listing:
        """The processes, at most `limit`, those with the longest mailboxes first."""
        return ps(self._table, limit)

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
        raw = await sys.get_state(pid, timeout=timeout)
        formatter = getattr(behaviour, "format_status", None)
        return formatter(raw) if formatter is not None else raw

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

    def exit_process(self, target: str | Pid, reason: object = KILL) -> None:
        """Send an exit signal; KILL cannot be trapped."""
        api.exit(self.pid(target), reason)
