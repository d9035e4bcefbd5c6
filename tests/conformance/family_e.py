"""Family E: event managers and their handlers.

What the format leaves open, as the traces have it: a throw of a handler counts as its return, so that here it is
returned; a value that `handle_call` may not return, which in Python does not exist, is returned as a `Failed`. An
error that Banyan raises at the caller (NoHandler, HandlerFailed) stands for the one that OTP returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio.testing

from runtime import (
    HIBERNATE,
    BadReturn,
    EventHandler,
    EventHandlerExit,
    Exit,
    GenEvent,
    NoProcess,
    Pid,
    exit,
    exit_with,
    gen_event,
    is_alive,
    receive,
    send,
    send_nowait,
    spawn,
    start,
    start_link,
    sys,
)
from supervisors import Node

from .reasons import Raised, reason_in, reason_out
from .replay import settle
from .witness import Witness


@dataclass(frozen=True, slots=True)
class Do:
    """The driver asks a process to do something; `rets` gets what came of it."""

    act: Callable[[], Awaitable[Any]]
    rets: list[Any]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """What `init` returns as {error, V}: a reason that nobody but the trace looks into."""

    value: Any


@dataclass(frozen=True, slots=True)
class Given:
    """The argument of a handler's `init`: who it is in the scenario, and the scenario's own argument."""

    scene: Scene
    name: str
    arg: str


class Handler(EventHandler):
    """A handler that does what its table says; its state is `n`."""

    def init(self, argument: Any) -> Any:
        match argument:
            case gen_event.Inherited(Given() as given, result):
                shown: Any = ["swap", given.arg, result_out(result)]
            case Given() as given:
                shown = given.arg
            case other:
                raise AssertionError(f"what is {other!r}?")
        self.n = 0
        self._scene, self._name = given.scene, given.name
        self._plan = given.scene.handlers[given.name]
        self._record("init", shown)
        match self._plan["init"].get(given.arg, ["ok"]):
            case ["ok"] | ["throw_ok"]:
                # There is no throw: what OTP throws is returned.
                return None
            case ["hibernate"]:
                return HIBERNATE
            case ["error", value]:
                return gen_event.Failed(Verbatim(["error", value]))
            case plan:
                return self._fail(plan)

    def handle_event(self, event: Any) -> Any:
        self._record("event", event, self.n)
        return self._act(self._plan["table"].get(f"event:{event}", ["ok"]))

    def handle_info(self, message: Any) -> Any:
        if isinstance(message, Exit):
            self._record("info", ["EXIT", self._scene.name_of(message.source), reason_out(message.reason)], self.n)
            return self._act(self._plan["table"].get("info:EXIT", ["ok"]))
        self._record("info", message, self.n)
        return self._act(self._plan["table"].get(f"info:{message}", ["ok"]))

    def handle_call(self, request: Any) -> Any:
        self._record("call", request, self.n)
        match self._plan["table"].get(f"call:{request}", ["ok", "dflt"]):
            case ["ok", value]:
                self.n += 1
                return value
            case ["remove", value]:
                return gen_event.Remove(value)
            case ["swap", value, *swap]:
                return self._swap(*swap, reply=value)
            case ["bad" | "throw_val", value]:
                # In Python every value is a reply: that it is a bad one has to be said.
                return gen_event.Failed(BadReturn(value))
            case plan:
                return self._fail(plan)

    def terminate(self, reason: Any) -> Any:
        self._record("terminate", ending_out(reason), self.n)
        match self._plan.get("terminate", ["val", "tv"]):
            case ["val" | "bad" | "throw", value]:
                return value
            case plan:
                return self._fail(plan)

    def _record(self, *what: Any) -> None:
        self._scene.callbacks.append([self._name, *what])

    def _act(self, plan: list[Any]) -> Any:
        """What an event or a message brings about."""
        match plan:
            case ["ok"]:
                self.n += 1
                return None
            case ["hibernate"]:
                self.n += 1
                return HIBERNATE
            case ["remove"]:
                return gen_event.Remove()
            case ["swap", *swap]:
                return self._swap(*swap)
        return self._fail(plan)

    def _swap(self, old_arg: str, new: str, new_arg: str, **reply: Any) -> gen_event.Swap:
        self.n += 1
        return gen_event.Swap(id_of(new), old_arg, Given(self._scene, new, new_arg), **reply)

    @staticmethod
    def _fail(plan: list[Any]) -> Any:
        """A failure that every callback knows; a wrong return is the value that is returned."""
        match plan:
            case ["raise", error]:
                raise Raised(error)
            case ["exit", reason]:
                exit_with(reason_in(reason))
            case ["bad" | "throw_val", value]:
                return value
        raise AssertionError(f"no such plan: {plan}")


def id_of(name: str) -> gen_event.HandlerId:
    """The id of a handler: h1, h2, h3 are told apart by name, "bare" is the plain class."""
    return Handler if name == "bare" else (Handler, name)


def name_in(handler: gen_event.HandlerId) -> Any:
    """A handler's name in the scenario."""
    return handler[1] if isinstance(handler, tuple) else "bare"


def why_out(why: Any) -> Any:
    """Why a handler failed, as a trace writes it."""
    match why:
        case Verbatim(value) | BadReturn(value):
            return value
        case _:
            return ["EXIT", reason_out(why)]


def result_out(result: Any) -> Any:
    """What `terminate` gave, as the next `init` or the client of a delete sees it."""
    match result:
        case gen_event.Failed(why):
            return why_out(why)
        case _:
            return "error" if result is gen_event.NO_HANDLER else result


def ending_out(reason: Any) -> Any:
    """The argument of `terminate`."""
    match reason:
        case gen_event.Removed():
            return "remove_handler"
        case gen_event.Stopped():
            return "stop"
        case gen_event.ClientExited(why):
            return ["stop", reason_out(why)]
        case gen_event.Failed(why):
            return ["error", why_out(why)]
        case _:
            return reason


class Scene:
    """Who is who in one scenario, and what has been seen in the present step."""

    def __init__(self, scenario: dict[str, Any], witness: Witness) -> None:
        self.handlers = scenario["handlers"]
        self.witness = witness
        self.clients: dict[str, Pid] = {}
        self.parent: Pid
        self.manager: Pid
        self.callbacks: list[Any] = []
        self.messages: dict[str, list[Any]] = {}

    def name_of(self, pid: Pid) -> str:
        if pid == self.parent:
            return "parent"
        return next((name for name, known in self.clients.items() if known == pid), "other")

    async def process(self, name: str) -> None:
        """The life of a client, or of the parent: shows its messages, does what it is asked to."""
        while True:
            match await receive():
                case Do(act, rets):
                    rets.append(await act())
                case message:
                    self.messages.setdefault(name, []).append(self.message_out(message))

    def message_out(self, message: Any) -> Any:
        match message:
            case EventHandlerExit(handler, gen_event.Swapped(new, client)):
                supervisor = self.name_of(client) if client is not None else "false"
                return ["gen_event_EXIT", name_in(handler), ["swapped", name_in(new), supervisor]]
            case EventHandlerExit(handler, gen_event.Failed(why)):
                return ["gen_event_EXIT", name_in(handler), why_out(why)]
            case EventHandlerExit(handler, reason):
                return ["gen_event_EXIT", name_in(handler), reason_out(reason)]
            case Exit(source, reason) if source == self.manager:
                return ["EXIT", "mgr", reason_out(reason)]
        raise AssertionError(f"what is {message!r}?")

    # -- what is done ----------------------------------------------------------------------------------

    async def do(self, action: dict[str, Any]) -> Any:
        """One action; what it gives."""
        match action["op"]:
            case "burst":
                return await self.burst(action["evs"])
            case "stop":
                return await self.or_noproc(self.stop, reason_in(action["reason"]))
            case "get_state":
                return await self.or_noproc(self.states)
            case "replace_state":
                return await self.or_noproc(self.replace_state, id_of(action["h"]))
            case "exit":
                reason = reason_in(action["reason"])
                if action["from"] == "parent":
                    await self.by(self.parent, lambda: self.signal(reason))
                else:
                    spawn(self.other, reason)
                    await settle()
                return None
        client = self.clients[action["by"]]
        if not is_alive(client):
            return ["skipped"]
        if action["op"] == "client_dies":
            return await self.by(client, lambda: self.die(reason_in(action["reason"])))
        return await self.by(client, lambda: self.ask(action))

    @staticmethod
    async def by(pid: Pid, act: Callable[[], Awaitable[Any]]) -> Any:
        rets: list[Any] = []
        send_nowait(pid, Do(act, rets))
        await settle()
        return rets[0] if rets else None

    async def ask(self, action: dict[str, Any]) -> Any:
        """What a client does."""
        op = action["op"]
        try:
            return ["is", await self.asked(op, action)]
        except NoProcess:
            return ["exit", "noproc"]
        except gen_event.NoHandler:
            return ["is", ["error", "bad_module" if op == "call" else "module_not_found"]]
        except gen_event.HandlerFailed as failed:
            why = why_out(failed.reason)
            return ["is", why if op in ("add", "add_sup", "delete") else ["error", why]]

    async def asked(self, op: str, action: dict[str, Any]) -> Any:
        manager, name = self.manager, action.get("h", "")
        match op:
            case "add":
                await gen_event.add_handler(manager, id_of(name), Given(self, name, action["arg"]))
            case "add_sup":
                await gen_event.add_sup_handler(manager, id_of(name), Given(self, name, action["arg"]))
            case "delete":
                return await gen_event.delete_handler(manager, id_of(name), action["arg"])
            case "swap" | "swap_sup":
                swap = gen_event.swap_handler if op == "swap" else gen_event.swap_sup_handler
                new = Given(self, action["h2"], action["arg2"])
                await swap(manager, id_of(name), id_of(new.name), old_argument=action["arg"], new_argument=new)
            case "notify":
                await gen_event.notify(manager, action["ev"])
            case "sync_notify":
                await gen_event.sync_notify(manager, action["ev"])
            case "info":
                await send(manager, action["ev"])
            case "call":
                return await gen_event.call(manager, id_of(name), action["q"])
            case "which":
                return [name_in(handler) for handler in await gen_event.which_handlers(manager)]
            case _:
                raise AssertionError(f"no such operation: {op}")
        return "ok"

    async def burst(self, events: list[Any]) -> Any:
        try:
            await sys.suspend(self.manager)
        except NoProcess:
            return ["noproc"]
        for kind, what in events:
            await (gen_event.notify if kind == "notify" else send)(self.manager, what)
        await sys.resume(self.manager)
        return None

    async def stop(self, reason: Any) -> Any:
        await sys.stop(self.manager, reason)
        return ["ok"]

    async def states(self) -> Any:
        return self.states_out(await sys.get_state(self.manager))

    @staticmethod
    def states_out(states: Any) -> Any:
        return ["state", [[name_in(one.handler), one.state["n"]] for one in states]]

    async def replace_state(self, handler: gen_event.HandlerId) -> Any:
        def replace(one: gen_event.HandlerState) -> gen_event.HandlerState:
            if one.handler != handler:
                raise Raised("another handler")
            return gen_event.HandlerState(handler, {"n": 100})

        states = await sys.replace_state(self.manager, replace)
        return self.states_out(states)

    @staticmethod
    async def or_noproc(act: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        try:
            return await act(*args)
        except NoProcess:
            return ["exit", "noproc"]

    async def signal(self, reason: Any) -> None:
        exit(self.manager, reason)

    async def other(self, reason: Any) -> None:
        """An unrelated process that sends an exit signal and lives on."""
        exit(self.manager, reason)
        await receive(timeout=float("inf"))

    @staticmethod
    async def die(reason: Any) -> None:
        exit_with(reason)


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    async with Node("e", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        scene = Scene(scenario, witness)
        for one in scenario["clients"]:
            scene.clients[one["name"]] = spawn(scene.process, one["name"], trap=one["trap"])
        scene.parent = spawn(scene.process, "parent", trap=True)
        starting = start_link if scenario["link"] else start
        scene.manager = await scene.by(scene.parent, lambda: starting(GenEvent))
        steps = [await _step(scene, action) for action in scenario["actions"]]
        if is_alive(scene.manager):
            final = ["alive", (await scene.states())[1]]
        else:
            final = ["dead", next(reason_out(why) for pid, why in witness.deaths if pid == scene.manager)]
        alive = [name for name, pid in scene.clients.items() if is_alive(pid)]
        return {"steps": steps, "final": final, "alive": alive}


async def _step(scene: Scene, action: dict[str, Any]) -> dict[str, Any]:
    before = len(scene.witness.deaths)
    scene.callbacks, scene.messages = [], {}
    ret = await scene.do(action)
    await settle()
    died = {pid: reason_out(reason) for pid, reason in scene.witness.deaths[before:]}
    parent = [message[::2] for message in scene.messages.pop("parent", [])]
    step = {
        "cbs": scene.callbacks,
        "msgs": [[name, scene.messages[name]] for name in sorted(scene.messages)],
        "deaths": sorted([name, died[pid]] for name, pid in scene.clients.items() if pid in died),
        "parent": parent,
    }
    if ret is not None:
        step["ret"] = ret
    if scene.manager in died:
        step["died"] = died[scene.manager]
    return step


def normal(trace: dict[str, Any], _scenario: dict[str, Any]) -> Any:
    """The format leaves nothing of this family open."""
    return trace
