"""Family F: local and global names, process groups and timers.

The driver is host code beside the node; what a process must do itself, it is asked to by a message. The clock
moves in `wait` only, by the hand of the replay, in steps of 200 ms: no two timers of a line are due at once, so the
steps matter to nobody.

Two things that the format leaves to a runtime: several dead entries of one joined list leave in the order of the
list here, and the members of a group, which a trace shows sorted, are in the order of joining.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio.testing

from runtime import (
    KILL,
    AlreadyStarted,
    Caller,
    GenServer,
    Misuse,
    Name,
    NoProcess,
    Pid,
    Ref,
    StartFailed,
    Timeout,
    Timer,
    Via,
    call,
    cancel_timer,
    cast,
    exit,
    exit_with,
    global_name,
    global_names,
    is_alive,
    pg,
    read_timer,
    receive,
    register,
    send_after,
    send_nowait,
    spawn,
    start,
    start_timer,
    sys,
    unregister,
    whereis,
)
from supervisors import Node

from .reasons import reason_in, reason_out
from .replay import settle
from .witness import Witness

STEP = 200


@dataclass(frozen=True, slots=True)
class Do:
    """The driver asks a process to do something; `rets` gets what came of it."""

    act: Callable[[], list[Any]]
    rets: list[Any]


class Scene:
    """Who is who in one scenario."""

    def __init__(self, witness: Witness, clock: trio.testing.MockClock) -> None:
        self.witness = witness
        self.clock = clock
        self.plain: dict[str, Pid] = {}
        self.servers: dict[str, Pid] = {}
        self.shown: dict[str, list[Any]] = {}
        self.labels: dict[str, Ref] = {}
        self.timers: dict[str, Timer] = {}
        self.timeouts: dict[Ref, str] = {}

    # -- who is who ----------------------------------------------------------------------------------

    @property
    def everybody(self) -> dict[str, Pid]:
        return {**self.plain, **self.servers}

    def name_of(self, pid: Pid) -> str:
        return next(name for name, known in self.everybody.items() if known == pid)

    def names_of(self, pids: Any) -> list[str]:
        return sorted(self.name_of(pid) for pid in pids)

    def found(self, pid: Pid | None) -> list[Any]:
        return ["is", self.name_of(pid)] if pid is not None else ["undefined"]

    # -- the cast ------------------------------------------------------------------------------------

    async def process(self, name: str) -> None:
        """The life of a plain process: shows its messages, does what it is asked to."""
        while True:
            match await receive():
                case Do(act, rets):
                    rets.append(act())
                case message:
                    self.show(name, message)

    def show(self, name: str, message: Any) -> None:
        self.shown.setdefault(name, []).append(message)

    async def by(self, name: str, act: Callable[[], list[Any]]) -> list[Any]:
        """Let a process do something; ["noproc"] if it is dead."""
        if not is_alive(self.plain[name]):
            return ["noproc"]
        rets: list[Any] = []
        send_nowait(self.plain[name], Do(act, rets))
        await settle()
        return rets[0] if rets else ["ok"]  # it has died of it

    def written(self, message: Any) -> list[Any]:
        """A message as the trace writes it."""
        match message:
            case pg.Join(ref, group, pids) | pg.Leave(ref, group, pids):
                what = "join" if isinstance(message, pg.Join) else "leave"
                return ["pg", self.label_of(ref), what, group, self.names_of(pids)]
            case Timeout(ref, text):
                return ["timeout", self.timeouts[ref], text]
            case ("cast", text):
                return ["cast", text]
        return ["msg", message]

    def label_of(self, ref: Ref) -> str:
        return next(label for label, known in self.labels.items() if known is ref)


class Server(GenServer):
    """A server of the scenario: says who it is, and shows whatever else comes."""

    def init(self, scene: Scene, name: str) -> None:
        self.scene, self.name = scene, name

    def handle_call(self, request: Any, caller: Caller) -> str:
        return self.name

    def handle_cast(self, request: Any) -> None:
        self.scene.show(self.name, ("cast", request))

    def handle_info(self, message: Any) -> None:
        self.scene.show(self.name, message)


# -- the operations -----------------------------------------------------------------------------------


async def run(scene: Scene, action: list[Any]) -> list[Any]:
    """One operation; what came of it."""
    op, *args = action
    for family in (_local, _global, _groups):
        done = family(scene, op, args)
        if done is not None:
            return done
    for waiting in (_server, _processes, _monitors, _timers):
        begun = waiting(scene, op, args)
        if begun is not None:
            return await begun
    raise AssertionError(f"no such operation: {action}")


def _local(scene: Scene, op: str, args: list[Any]) -> list[Any] | None:
    match op, args:
        case "register", [name, p]:
            return _or_badarg(lambda: register(name, scene.plain[p]))
        case "unregister", [name]:
            return _or_badarg(lambda: unregister(name))
        case "whereis", [name]:
            return scene.found(whereis(name))
        case "send", [name, text]:
            try:
                send_nowait(name, text)
            except NoProcess:
                return ["badarg"]
            return ["ok"]
    return None


def _or_badarg(act: Callable[[], None]) -> list[Any]:
    try:
        act()
    except Misuse:
        return ["badarg"]
    return [True]


def _global(scene: Scene, op: str, args: list[Any]) -> list[Any] | None:
    match op, args:
        case "g_register", [name, p]:
            return ["yes" if global_names.register_name(name, scene.plain[p]) else "no"]
        case "g_reregister", [name, p]:
            return ["yes" if global_names.re_register_name(name, scene.plain[p]) else "no"]
        case "g_unregister", [name]:
            global_names.unregister_name(name)
            return ["done"]
        case "g_whereis", [name]:
            return scene.found(global_names.whereis_name(name))
        case "g_send", [name, text]:
            try:
                return ["is", scene.name_of(global_names.send(name, text))]
            except NoProcess:
                return ["exit", "badarg"]
    return None


def _groups(scene: Scene, op: str, args: list[Any]) -> list[Any] | None:
    match op, args:
        case "join", [scope, group, who]:
            pg.join(group, _pids(scene, who), scope=scope)
            return ["ok"]
        case "leave", [scope, group, who]:
            return ["ok" if pg.leave(group, _pids(scene, who), scope=scope) else "not_joined"]
        case "members", [scope, group]:
            return [scene.names_of(pg.get_members(group, scope=scope))]
        case "local_members", [scope, group]:
            return [scene.names_of(pg.get_local_members(group, scope=scope))]
        case "groups", [scope]:
            return [sorted(pg.which_groups(scope=scope), key=str)]
    return None


def _pids(scene: Scene, who: str | list[str]) -> Pid | list[Pid]:
    return scene.plain[who] if isinstance(who, str) else [scene.plain[one] for one in who]


def _server(scene: Scene, op: str, args: list[Any]) -> Awaitable[list[Any]] | None:
    if not op.startswith("srv_"):
        return None
    kind, plain, *rest = args
    name: Name = {"local": plain, "global": global_name(plain), "via": Via(global_names, plain)}[kind]
    if op == "srv_start":
        return _start(scene, name, rest[0])
    if whereis(name) in scene.plain.values():
        return _said(["not_srv"])
    match op:
        case "srv_call":
            return _call(name)
        case "srv_cast":
            return _cast(name, rest[0])
    return _stop(name)


async def _said(ret: list[Any]) -> list[Any]:
    return ret


async def _start(scene: Scene, name: Name, who: str) -> list[Any]:
    try:
        scene.servers[who] = await start(Server, scene, who, name=name)
    except StartFailed as failed:
        match failed.reason:
            case AlreadyStarted(pid):
                return ["error", ["already_started", scene.name_of(pid)]]
        return ["error", reason_out(failed.reason)]
    return ["ok"]


async def _call(name: Name) -> list[Any]:
    try:
        return ["reply", await call(name, "who")]
    except NoProcess:
        return ["exit", "noproc"]


async def _cast(name: Name, text: str) -> list[Any]:
    await cast(name, text)
    return ["ok"]


async def _stop(name: Name) -> list[Any]:
    try:
        await sys.stop(name)
    except NoProcess:
        return ["exit", "noproc"]
    return ["ok"]


def _processes(scene: Scene, op: str, args: list[Any]) -> Awaitable[list[Any]] | None:
    match op, args:
        case "kill", [p]:
            exit(scene.plain[p], KILL)
            return _said(["ok"])
        case "die", [p, reason]:
            return scene.by(p, lambda: exit_with(reason_in(reason)))
        case "wait", [times]:
            return _wait(scene, times)
    return None


async def _wait(scene: Scene, times: int) -> list[Any]:
    for _ in range(0, 400 * times, STEP):
        scene.clock.jump(STEP / 1000)
        await settle()
    return ["ok"]


def _monitors(scene: Scene, op: str, args: list[Any]) -> Awaitable[list[Any]] | None:
    match op, args:
        case "monitor", [p, scope, group, label]:

            def watch() -> list[Any]:
                scene.labels[label], members = pg.monitor(group, scope=scope)
                return ["snapshot", scene.names_of(members)]

            return scene.by(p, watch)
        case "monitor_scope", [p, scope, label]:

            def watch_all() -> list[Any]:
                scene.labels[label], groups = pg.monitor_scope(scope=scope)
                return ["snapshot", _written_groups(scene, groups)]

            return scene.by(p, watch_all)
        case "demonitor", [p, scope, label]:
            if label not in scene.labels:
                return _said(["no_ref"])
            return scene.by(p, lambda: ["ok" if pg.demonitor(scene.labels[label], scope=scope) else "false"])
    return None


def _written_groups(scene: Scene, groups: dict[Any, list[Pid]]) -> list[Any]:
    return [[group, scene.names_of(groups[group])] for group in sorted(groups)]


def _timers(scene: Scene, op: str, args: list[Any]) -> Awaitable[list[Any]] | None:
    match op, args:
        case "send_after", [milliseconds, to, text, label]:
            scene.timers[label] = send_after(milliseconds / 1000, _destination(scene, to), text)
            return _said(["ref"])
        case "start_timer", [milliseconds, to, text, label]:
            return _said(_start_timer(scene, milliseconds, to, text, label))
        case "owner_timer", [p, milliseconds, to, text, label]:
            return scene.by(p, lambda: _start_timer(scene, milliseconds, to, text, label))
        case (("cancel" | "read"), [label]):
            if label not in scene.timers:
                return _said(["no_ref"])
            left = (cancel_timer if op == "cancel" else read_timer)(scene.timers[label])
            return _said(["left", round(left * 1000)] if left is not None else [False])
    return None


def _start_timer(scene: Scene, milliseconds: int, to: Any, text: str, label: str) -> list[Any]:
    timer, ref = start_timer(milliseconds / 1000, _destination(scene, to), text)
    scene.timers[label], scene.timeouts[ref] = timer, label
    return ["ref"]


def _destination(scene: Scene, to: Any) -> Pid | str:
    return scene.plain[to] if isinstance(to, str) else str(to[1])


# -- the replay ---------------------------------------------------------------------------------------


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    async with Node("f", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        scene = Scene(witness, clock)
        for scope in scenario["scopes"]:
            await start(pg.Scope, name=scope)
        for name in scenario["procs"]:
            scene.plain[name] = spawn(scene.process, name)
        await settle()
        steps = [await _step(scene, action) for action in scenario["actions"]]
        groups = []
        for scope in scenario["scopes"]:
            members = {group: pg.get_members(group, scope=scope) for group in pg.which_groups(scope=scope)}
            groups.append([scope, _written_groups(scene, members)])
        alive = sorted(name for name, pid in scene.everybody.items() if is_alive(pid))
        return {"steps": steps, "alive": alive, "groups": groups}


async def _step(scene: Scene, action: list[Any]) -> dict[str, Any]:
    scene.shown.clear()
    scene.witness.deaths.clear()
    ret = await run(scene, action)
    await settle()
    names = {pid: name for name, pid in scene.everybody.items()}
    deaths = sorted([names[pid], reason_out(reason)] for pid, reason in scene.witness.deaths if pid in names)
    messages = [[name, _in_order([scene.written(one) for one in scene.shown[name]])] for name in sorted(scene.shown)]
    return {"ret": ret, "deaths": deaths, "msgs": messages}


def _in_order(messages: list[list[Any]]) -> list[list[Any]]:
    """First all but the events of groups, then these by label and group; else as they came."""
    events = [message for message in messages if message[0] == "pg"]
    others = [message for message in messages if message[0] != "pg"]
    return others + sorted(events, key=lambda event: (event[1], event[3]))


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """The traces of this family leave nothing open."""
    return trace
