"""Family D: gen_server; callbacks and what they may return, calls, system messages, ends of server and parent.

The server is a `GenServer` whose callbacks do what the scenario's tables say; clients, parent and strangers are
processes; the driver is host code. The clock is moved by hand, from one deadline to the next, while a callback
sleeps and in `wait`; never otherwise.

Readings. Python has no throw: what OTP throws is returned (N2). Every value is a reply, so a wrong return of
`handle_call` has to be said: `Stop(BadReturn(value))`; in the other callbacks it is really returned. A misplaced
reply holds the state in OTP only, so that number is the adapter's: N+1 of the callback. A failed or ignored start
leaves no EXIT in the parent's mailbox: OTP 26's way (L3), so such a start's `parent` is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from runtime import (
    AlreadyStarted,
    BadReturn,
    CalleeExited,
    CallingSelf,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    NoProcess,
    Pid,
    Reply,
    StartFailed,
    StartIgnored,
    Stop,
    call,
    cast_nowait,
    exit,
    exit_with,
    is_alive,
    receive,
    send_nowait,
    spawn,
    start,
    start_link,
    sys,
    whereis,
)
from supervisors import Node

from .family_d_server import NAME, Server, seconds
from .reasons import Raised, reason_in
from .reasons import reason_out as plain_reason_out
from .replay import settle
from .witness import Witness

# So long nothing happens at the end of a `wait`, in seconds.
QUIET = 0.33


@dataclass(frozen=True, slots=True)
class Do:
    """The driver asks a process to do something; `rets` gets what came of it."""

    act: Callable[[], Awaitable[Any]]
    rets: list[Any]


class Scene:
    """Who is who in one scenario, and what has been seen in the present step."""

    def __init__(self, scenario: dict[str, Any], witness: Witness, clock: trio.testing.MockClock) -> None:
        self.server = scenario["server"]
        self.witness = witness
        self.clock = clock
        self.newest: Pid
        self.instance: Server
        self.starts = 0
        self.clients: dict[str, Pid] = {}
        # The label of the call in which a client waits.
        self.busy: dict[str, str] = {}
        self.parent: Pid
        self.asleep = 0
        self.callbacks: list[Any] = []
        self.replies: list[Any] = []
        self.messages: list[Any] = []
        self.leftovers: dict[str, list[Any]] = {}
        # Counts all that can be seen.
        self.happened = 0

    # -- what is seen ----------------------------------------------------------------------------------

    def record(self, *callback: Any) -> None:
        self.callbacks.append([*callback])
        self.happened += 1

    def reason_out(self, reason: Any) -> Any:
        """A reason as a trace writes it."""
        match reason:
            case BadReturn(value):
                return ["bad_return_value", self.return_out(value)]
            case Crash(CallingSelf()):
                return ["call", "calling_self"]
            case AlreadyStarted():
                return "already_started"
            case _:
                return plain_reason_out(reason)

    def return_out(self, value: Any) -> Any:
        """A wrong return as OTP shows it, with the new state in its place."""
        state = self.instance.n + 1
        match value:
            case Reply(what, timeout, after):
                return ["reply", what, state, *more_out(timeout, after)]
            case Stop(reason, what):
                return ["stop", self.reason_out(reason), what, state]
            case tuple():
                return list(value)
        return value

    # -- time ------------------------------------------------------------------------------------------

    async def sleep(self, duration: float) -> None:
        """A callback sleeps; the clock will be moved for it."""
        self.asleep += 1
        try:
            await trio.sleep(duration)  # virtual
        finally:
            self.asleep -= 1
            self.happened += 1

    async def settle(self) -> None:
        """Let all go quiet; time passes only as long as a callback sleeps."""
        await settle()
        while self.asleep:
            await self.to_next_deadline()

    async def wait(self) -> None:
        """Let time pass until nothing happens any more."""
        seen, since = self.happened, trio.current_time()
        while trio.current_time() < since + QUIET:
            await self.to_next_deadline(since + QUIET)
            if self.happened != seen:
                seen, since = self.happened, trio.current_time()

    async def to_next_deadline(self, limit: float = math.inf) -> None:
        """Move the clock to the next deadline, at most to `limit`, so that all fall due in their order."""
        ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
        self.clock.jump(max(0.0, min(ahead, limit - trio.current_time())))
        await settle()

    # -- processes -------------------------------------------------------------------------------------

    async def life(self, name: str) -> None:
        """A client, or the parent: keeps its messages, does what it is asked to."""
        while True:
            match await receive():
                case Do(act, rets):
                    rets.append(await act())
                case Exit(reason=reason) if name == "parent":
                    self.messages.append(["EXIT", self.reason_out(reason)])
                case message:
                    self.leftovers.setdefault(name, []).append(["msg", repr(message)])

    def new_parent(self) -> None:
        self.parent = spawn(self.life, "parent", trap=True)

    async def by(self, pid: Pid, act: Callable[[], Awaitable[Any]]) -> Any:
        rets: list[Any] = []
        send_nowait(pid, Do(act, rets))
        await self.settle()
        return rets[0] if rets else None

    async def other(self, reason: Any) -> None:
        """An unrelated process that sends an exit signal and lives on."""
        exit(self.newest, reason)
        await receive()

    # -- what is done ----------------------------------------------------------------------------------

    async def do(self, action: dict[str, Any]) -> Any:
        """One action; what it gives."""
        match action["op"]:
            case "start":
                return await self.start()
            case "send":
                return None if await self.event(*action["ev"]) else ["busy"]
            case "burst":
                return await self.burst(action["evs"])
            case "exit":
                return await self.exit(action["from"], reason_in(action["reason"]))
            case "parent_dies":
                await self.by(self.parent, lambda: self.die(reason_in(action["reason"])))
                self.new_parent()
                return None
            case "sys":
                return await self.or_exit(lambda: self.system(*action["what"]))
            case "stop":
                return await self.or_exit(lambda: self.stop(self.destination, reason_in(action["reason"])))
            case "ghost":
                return await self.or_exit(lambda: self.ghost(action["what"]))
            case "wait":
                return await self.wait()
        raise AssertionError(f"no such action: {action}")

    @property
    def destination(self) -> Pid | str:
        """Where calls, casts and `stop` go."""
        return NAME if self.server["by_name"] else self.newest

    async def start(self) -> Any:
        named = self.server["name"]
        if self.starts and not named and is_alive(self.newest):
            return ["skipped"]
        self.starts += 1
        inits = self.server["inits"]
        plan = inits[min(self.starts, len(inits)) - 1]
        starting = start_link if self.server["link"] else start
        name = NAME if named else None
        timeout = seconds(self.server.get("start_timeout", "infinity"))

        async def act() -> Any:
            try:
                await starting(Server, self, plan, name=name, timeout=timeout)
            except StartIgnored:
                return ["ignore"]
            except StartFailed as failed:
                return ["error", self.reason_out(failed.reason)]
            return ["ok"]

        return await self.by(self.parent, act)

    async def event(self, client: str, event: list[Any]) -> bool:
        """A client calls, casts or sends; False if it still waits in a call."""
        if client in self.busy:
            return False
        match event:
            case ["call", message, label, timeout]:
                self.busy[client] = label
                await self.by(self.clients[client], lambda: self.call(client, message, label, seconds(timeout)))
            case ["cast", message]:
                await self.by(self.clients[client], lambda: self.casts(message))
            case ["info", message]:
                await self.by(self.clients[client], lambda: self.sends(message))
            case _:
                raise AssertionError(f"no such event: {event}")
        return True

    async def call(self, client: str, message: Any, label: str, timeout: float) -> None:
        try:
            came = ["reply", await call(self.destination, message, timeout=timeout)]
        except NoProcess:
            came = ["exit", "noproc"]
        except CallTimeout:
            came = ["exit", "timeout"]
        except CalleeExited as exited:
            came = ["exit", self.reason_out(exited.reason)]
        del self.busy[client]
        self.replies.append([label, came])
        self.happened += 1

    async def casts(self, message: Any) -> None:
        cast_nowait(self.destination, message)

    async def sends(self, message: Any) -> None:
        send_nowait(self.newest, message)

    async def burst(self, events: list[Any]) -> Any:
        """Put events into the server's mailbox before the first is handled."""
        alive = is_alive(self.newest)
        if alive:
            await sys.suspend(self.newest)
        dropped = [event for event in events if not await self.event(*event)]
        if alive:
            await sys.resume(self.newest)
            await self.settle()
        return ["busy", len(dropped)] if dropped else None

    async def exit(self, source: str, reason: Any) -> None:
        if source == "parent":
            await self.by(self.parent, lambda: self.signal(reason))
        else:
            spawn(self.other, reason)

    async def signal(self, reason: Any) -> None:
        exit(self.newest, reason)

    @staticmethod
    async def die(reason: Any) -> None:
        exit_with(reason)

    async def system(self, what: str, *args: Any) -> Any:
        server = self.newest
        match what:
            case "suspend":
                await sys.suspend(server)
            case "resume":
                await sys.resume(server)
            case "terminate":
                await sys.terminate(server, reason_in(args[0]))
            case "get_state":
                return ["state", number(await sys.get_state(server))]
            case "replace_state":
                return ["state", number(await sys.replace_state(server, lambda _: {"n": args[0]}))]
            case "replace_raise":
                try:
                    await sys.replace_state(server, raises)
                except sys.CallbackFailed:
                    return ["error", "callback_failed"]
                raise AssertionError("the function's failure was not seen")
            case "change_code":
                try:
                    await sys.change_code(server, Server)
                except sys.NotSuspended:
                    return ["error", "unknown_system_msg"]
                except sys.CallbackFailed as failed:
                    return ["error", "undef" if isinstance(failed.__cause__, NotImplementedError) else repr(failed)]
                raise AssertionError("the code was changed without a code_change")
            case "status":
                return ["status", (await sys.get_status(server)).state]
            case _:
                raise AssertionError(f"no such system request: {what}")
        return ["ok"]

    @staticmethod
    async def stop(destination: Pid | str, reason: Any) -> Any:
        await sys.stop(destination, reason)
        return ["ok"]

    async def ghost(self, what: str) -> Any:
        match what:
            case "call":
                return ["reply", await call("nobody", "anything")]
            case "cast":
                cast_nowait("nobody", "anything")
                return ["ok"]
            case "stop":
                return await self.stop("nobody", "normal")
            case "whereis":
                found = whereis(NAME)
                return ["undefined"] if found is None else ["newest"] if found == self.newest else ["another"]
        raise AssertionError(f"no such ghost: {what}")

    async def or_exit(self, act: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await act()
        except NoProcess:
            return ["exit", "noproc"]
        except CalleeExited as exited:
            return ["exit", self.reason_out(exited.reason)]


def more_out(timeout: float | None, after: Continue | None) -> list[Any]:
    """What a wrong return said of what is to follow."""
    if after is not None:
        return [["continue", after.term]]
    if timeout is None:
        return []
    return ["infinity" if timeout == math.inf else round(timeout * 1000)]


def number(state: Any) -> int:
    """The state of a server."""
    n: int = state["n"]
    return n


def raises(_state: Any) -> Any:
    """A function for replace_state that fails."""
    raise Raised("no state")


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    async with Node("d", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        scene = Scene(scenario, witness, clock)
        for name in ("c1", "c2", "c3", "c4"):
            scene.clients[name] = spawn(scene.life, name)
        scene.new_parent()
        begun = await _step(scene, {"op": "start"})
        steps = [await _step(scene, action) for action in scenario["actions"]]
        if is_alive(scene.newest):
            status = await sys.get_status(scene.newest)
            final = ["alive", number(status.misc), status.state]
        else:
            final = ["dead", next(scene.reason_out(why) for pid, why in witness.deaths if pid == scene.newest)]
        return {
            "start": begun,
            "steps": steps,
            "final": final,
            "leftovers": [[name, scene.leftovers[name]] for name in sorted(scene.leftovers)],
            "open": sorted(scene.busy.values()),
        }


async def _step(scene: Scene, action: dict[str, Any]) -> dict[str, Any]:
    before = len(scene.witness.deaths)
    scene.callbacks, scene.replies, scene.messages = [], [], []
    ret = await scene.do(action)
    await scene.settle()
    step = {"cbs": scene.callbacks, "replies": sorted(scene.replies), "parent": scene.messages}
    died = [reason for pid, reason in scene.witness.deaths[before:] if pid == scene.newest]
    if died:
        step["died"] = scene.reason_out(died[0])
    if ret is not None:
        step["ret"] = ret
    return step


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """Without the EXIT that OTP 25 leaves behind after a failed or ignored start (L3)."""

    def without(step: dict[str, Any], op: str) -> dict[str, Any]:
        failed = op == "start" and step["ret"][0] in ("error", "ignore")
        return {**step, "parent": []} if failed else step

    steps = [without(step, action["op"]) for step, action in zip(trace["steps"], scenario["actions"], strict=True)]
    return {**trace, "start": without(trace["start"], "start"), "steps": steps}
