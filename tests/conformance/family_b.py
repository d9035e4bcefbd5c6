"""Family B: processes, signals, links, monitors, names and aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio.testing

from runtime import (
    Down,
    Exit,
    Misuse,
    NoProcess,
    Pid,
    Ref,
    alias,
    demonitor,
    exit,
    exit_with,
    is_alive,
    link,
    monitor,
    receive,
    register,
    send_nowait,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exit,
    unalias,
    unlink,
    unregister,
    whereis,
)
from supervisors import Node

from .reasons import Raised, Thrown, reason_in, reason_out
from .replay import settle
from .witness import Witness


@dataclass(frozen=True, slots=True)
class Do:
    """The driver asks a process to run operations; `rets` gets one entry for each."""

    ops: list[Any]
    rets: list[Any]


@dataclass(frozen=True, slots=True)
class Lend:
    """A process is asked to send `text` to an alias."""

    to: Ref
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A message of the scenario."""

    sender: str
    text: str


class Scene:
    """Who is who in one scenario."""

    def __init__(self, witness: Witness) -> None:
        self.pids: dict[str, Pid] = {}
        self.labels: dict[str, dict[str, Ref]] = {}
        self.plain: set[Ref] = set()
        self.shown: dict[str, list[Any]] = {}
        self.witness = witness

    def name_of(self, pid: Pid) -> str:
        return next((name for name, known in self.pids.items() if known == pid), "?")

    async def process(self, name: str) -> None:
        """The life of one process: shows its messages, runs what it is asked to."""
        while True:
            match await receive():
                case Do(ops, rets):
                    for op in ops:
                        rets.append(self.run(name, op))
                case Lend(to, text):
                    send_nowait(to, Text(name, text))
                case message:
                    self.shown.setdefault(name, []).append(message)

    def run(self, me: str, op: list[Any]) -> list[Any]:
        mine = self.labels.setdefault(me, {})
        match op:
            case ["link", p]:
                try:
                    link(self.pid(p))
                except NoProcess:
                    return ["noproc"]
                return [True]
            case ["unlink", p]:
                unlink(self.pid(p))
                return [True]
            case ["monitor", p, label]:
                mine[label] = monitor(self.pid(p))
                return ["ref"]
            case ["monitor_name", name, label]:
                mine[label] = monitor(name)
                return ["ref"]
            case ["monitor_alias", p, label, mode]:
                mine[label] = monitor(self.pid(p), alias=mode)
                return ["ref"]
            case ["demonitor", label, opts]:
                if label not in mine:
                    return ["no_ref"]
                active = demonitor(mine[label], flush="flush" in opts)
                return [active if "info" in opts else True]
            case ["trap", on]:
                return [trap_exit(on)]
            case ["exit2", p, reason]:
                exit(self.pid(p), reason_in(reason))
                return [True]
            case ["exit1", reason]:
                exit_with(reason_in(reason))
            case ["throw", reason]:
                raise Thrown(reason)
            case ["raise"]:
                raise Raised("bang")
            case ["send", p, text]:
                send_nowait(self.pid(p), Text(me, text))
                return ["ok"]
            case ["send_name", name, text]:
                try:
                    send_nowait(name, Text(me, text))
                except NoProcess:
                    return ["badarg"]
                return ["ok"]
            case ["register", name, p]:
                return self._or_badarg(lambda: register(name, self.pid(p)))
            case ["unregister", name]:
                return self._or_badarg(lambda: unregister(name))
            case ["whereis", name]:
                found = whereis(name)
                return ["is", self.name_of(found)] if found is not None else ["undefined"]
            case ["is_alive", p]:
                return [is_alive(self.pid(p))]
            case ["spawn", new, trap, how]:
                self.spawn(new, trap, how, mine)
                return ["pid"]
            case ["spawn_dead", how, reason]:
                self.spawn_dead(how, reason_in(reason), mine)
                return ["pid"]
            case ["alias", label]:
                mine[label] = alias()
                return ["alias"]
            case ["unalias", label]:
                return [unalias(mine[label])] if label in mine else ["no_ref"]
            case ["lend_alias", label, p, text]:
                if label not in mine:
                    return ["no_ref"]
                send_nowait(self.pid(p), Lend(mine[label], text))
                return ["ok"]
        raise AssertionError(f"no such operation: {op}")

    def pid(self, name: str) -> Pid:
        if name not in self.pids:
            # A process that was never spawned: the recorder's process ended with error({badkey, Name}).
            raise Raised(["badkey", name])
        return self.pids[name]

    def spawn(self, new: str, trap: bool, how: Any, mine: dict[str, Ref]) -> None:
        # Names always mean the first process of that name.
        if how == "link":
            pid = spawn_link(self.process, new, trap=trap)
        elif how == "plain":
            pid = spawn(self.process, new, trap=trap)
        else:
            pid, mine[how[1]] = spawn_monitor(self.process, new, trap=trap)
        self.pids.setdefault(new, pid)

    @staticmethod
    def spawn_dead(how: Any, reason: Any, mine: dict[str, Ref]) -> None:
        async def dying() -> None:
            exit_with(reason)

        if how == "link":
            spawn_link(dying)
        else:
            _, mine[how[1]] = spawn_monitor(dying)

    @staticmethod
    def _or_badarg(act: Any) -> list[Any]:
        try:
            act()
        except Misuse:
            return ["badarg"]
        return [True]

    def show(self, name: str, message: Any) -> tuple[str, list[Any]]:
        """A message as the trace writes it, with the sender it is sorted by."""
        match message:
            case Text(sender, text):
                return sender, ["msg", sender, text]
            case Exit(source, reason):
                return self.name_of(source), ["EXIT", self.name_of(source), reason_out(reason)]
            case Down(ref, monitored, reason):
                label = next(label for label, known in self.labels[name].items() if known is ref)
                if isinstance(monitored, str):
                    return "~", ["DOWN", label, ["name", monitored], reason_out(reason)]
                who = self.name_of(monitored)
                return who, ["DOWN", label, who, reason_out(reason)]
        raise AssertionError(f"what is {message!r}?")


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    async with Node("b", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        scene = Scene(witness)
        for one in scenario["procs"]:
            scene.pids[one["name"]] = spawn(scene.process, one["name"], trap=one["trap"])
        await settle()
        steps = [await _step(scene, action) for action in scenario["actions"]]
        alive = sorted(name for name, pid in scene.pids.items() if is_alive(pid))
        return {"steps": steps, "alive": alive, "links": await _links(scene, alive)}


async def _step(scene: Scene, action: dict[str, Any]) -> dict[str, Any]:
    by = scene.pids.get(action["by"])
    if by is None or not is_alive(by):
        return {"skipped": True}
    scene.shown.clear()
    scene.witness.deaths.clear()
    rets: list[Any] = []
    send_nowait(by, Do(action["ops"], rets))
    await settle()
    names = {pid: name for name, pid in reversed(list(scene.pids.items()))}
    deaths = sorted([names[pid], reason_out(reason)] for pid, reason in scene.witness.deaths if pid in names)
    messages = []
    for name in sorted(scene.shown):
        shown = [scene.show(name, message) for message in scene.shown[name]]
        messages.append([name, [text for _, text in sorted(shown, key=lambda pair: pair[0])]])
    return {"rets": rets, "deaths": deaths, "msgs": messages}


async def _links(scene: Scene, alive: list[str]) -> list[list[str]]:
    """The links between living processes: told by who dies of whom is too much; each is asked."""
    found = set()
    for name in alive:
        process = scene.pids[name]._process
        for peer in (process.links or {}) if process is not None else {}:
            other = scene.name_of(peer)
            if other in alive:
                found.add(tuple(sorted((name, other))))
    return [list(pair) for pair in sorted(found)]


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """What a process got in the step in which it dies is left open."""
    steps = []
    for step in trace["steps"]:
        if "deaths" in step:
            dead = {name for name, _ in step["deaths"]}
            step = {**step, "msgs": [entry for entry in step["msgs"] if entry[0] not in dead]}
        steps.append(step)
    return {**trace, "steps": steps}
