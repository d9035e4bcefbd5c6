"""The server of family D: its callbacks do what the tables of a scenario say. `family_d` is the chapter on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runtime import (
    IGNORE,
    NO_REPLY,
    TIMEOUT,
    BadReturn,
    Caller,
    Continue,
    Exit,
    GenServer,
    NoReply,
    Reply,
    Stop,
    call,
    cast_nowait,
    exit_with,
    reply,
    self_pid,
    send_nowait,
    trap_exit,
)

from .reasons import Raised, reason_in

if TYPE_CHECKING:
    from .family_d import Scene

# The name of all instances, in a scenario that names them.
NAME = "server"
# How many callbacks an instance may run.
FUEL = 40


class Server(GenServer):
    """The server of a scenario: its state is the number `n`."""

    async def init(self, scene: Scene, plan: dict[str, Any]) -> Any:
        self.n = 0
        self._scene = scene
        self._fuel = FUEL
        self._stored: list[Caller] = []
        trap_exit(scene.server["trap"])
        scene.newest, scene.instance = self_pid(), self
        scene.record("init")
        await self._act(plan.get("do", ()), None)
        return self._begin(plan["ret"])

    def _begin(self, ret: list[Any]) -> Any:
        match ret:
            case ["ok"]:
                return None
            case ["ok", ["continue", term]]:
                return Continue(term)
            case ["ok", timeout]:
                return NoReply(seconds(timeout))
            case ["ignore"]:
                return IGNORE
            case ["throw", thrown]:
                return self._begin(thrown)
            case ["stop", reason]:
                return Stop(reason_in(reason))
        return self._fail(ret)

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        return await self._callback("call", request, caller)

    async def handle_cast(self, request: Any) -> Any:
        return await self._callback("cast", request)

    async def handle_continue(self, term: Any) -> Any:
        return await self._callback("continue", term)

    async def handle_info(self, message: Any) -> Any:
        match message:
            case Exit(reason=reason):
                return await self._callback("info", "EXIT", shown=["EXIT", self._scene.reason_out(reason)])
            case _ if message is TIMEOUT:
                return await self._callback("info", "timeout")
        return await self._callback("info", message)

    async def terminate(self, reason: Any) -> None:
        self._scene.record("terminate", self._scene.reason_out(reason), self.n)
        match self._scene.server["terminate"]:
            case ["raise", _] | ["exit", _] as ret:
                self._fail(ret)

    async def _callback(self, kind: str, what: str, caller: Caller | None = None, shown: Any = None) -> Any:
        self._scene.record(kind, shown or what, self.n)
        if self._fuel == 0:
            self.n += 1
            return Stop("fuel")
        self._fuel -= 1
        default = {"ret": ["reply", "dflt"] if kind == "call" else ["noreply"]}
        plan = self._scene.server["table"].get(f"{kind}:{what}", default)
        await self._act(plan.get("do", ()), caller)
        return self._result(plan["ret"], is_call=kind == "call")

    def _result(self, ret: list[Any], *, is_call: bool) -> Any:
        """What a callback returns; the state moves on if that is what it may return."""
        result: Any
        match ret:
            case ["throw", thrown]:
                return self._result(thrown, is_call=is_call)
            case ["reply", value, *more]:
                if is_call and not more:
                    result = value
                else:
                    after = then(more)
                    result = Reply(value, after.timeout, after.then)
                misplaced = not is_call
            case ["noreply", *more]:
                result, misplaced = then(more), False
            case ["stop", reason]:
                result, misplaced = Stop(reason_in(reason)), False
            case ["stop", reason, value]:
                result, misplaced = Stop(reason_in(reason), value), not is_call
            case ["bad" | "throw_val", value] if is_call:
                return Stop(BadReturn(value))
            case _:
                return self._fail(ret)
        if not misplaced:
            self.n += 1
        return result

    @staticmethod
    def _fail(ret: list[Any]) -> Any:
        """A failure that every callback knows; a wrong return is the value that is returned."""
        match ret:
            case ["raise", error]:
                raise Raised(error)
            case ["exit", reason]:
                exit_with(reason_in(reason))
            case ["bad" | "throw_val", value]:
                return tuple(value) if isinstance(value, list) else value
        raise AssertionError(f"no such return: {ret}")

    async def _act(self, acts: list[Any], caller: Caller | None) -> None:
        for act in acts:
            match act:
                case ["reply", value]:
                    if caller is not None:
                        reply(caller, value)
                case ["store"]:
                    if caller is not None:
                        self._stored.append(caller)
                case ["answer", value]:
                    if self._stored:
                        reply(self._stored.pop(0), value)
                case ["send_self", message]:
                    send_nowait(self_pid(), message)
                case ["cast_self", message]:
                    cast_nowait(self_pid(), message)
                case ["call_self"]:
                    await call(self_pid(), "to myself")
                case ["sleep", milliseconds]:
                    await self._scene.sleep(milliseconds / 1000)
                case ["trap", on]:
                    trap_exit(on)
                case _:
                    raise AssertionError(f"no such act: {act}")


def seconds(milliseconds: Any) -> float:
    """A time of the scenario."""
    return math.inf if milliseconds == "infinity" else milliseconds / 1000


def then(more: list[Any]) -> NoReply:
    """What is to come after a callback: nothing, a timeout or a continue."""
    match more:
        case []:
            return NO_REPLY
        case [["continue", term]]:
            return NoReply(then=Continue(term))
        case [timeout]:
            return NoReply(seconds(timeout))
    raise AssertionError(f"what is to follow from {more}?")
