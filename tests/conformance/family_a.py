"""Family A: supervision trees; strategies, restarts, intensity, shutdown, significant children.

`unordered` are deaths of processes above which a supervisor instance was killed: they may fall anywhere in
the step. Which instance that was is asked of the instances, not of the paths.
"""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from runtime import SHUTDOWN, Pid, StartFailed, is_alive, send_nowait, spawn
from supervisors import Node, which_children

from .reasons import Raised, reason_out
from .replay import settle
from .trees import (
    Instance,
    Stage,
    Worker,
    is_dynamic,
    killed_above,
    operate,
    parent,
    spawn_stranger,
    tell,
)
from .witness import Witness


class Recorder(Stage):
    """Collects the events of one step."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[list[Any]] = []
        self.unordered: list[list[Any]] = []
        self.hanging: set[Pid] = set()

    def event(self, event: list[Any]) -> None:
        self.events.append(event)

    def died(self, pid: Pid, reason: Any) -> None:
        """Told in the instant of each death."""
        self.hanging.discard(pid)
        one = self.by_pid.get(pid)
        if one is None:
            return  # a worker whose init failed or ignored has no exit event
        one.ended = True
        event = ["exit", one.path, one.number, reason_out(reason), one.cb]
        (self.unordered if killed_above(one) else self.events).append(event)

    def take(self, dynamic: set[str]) -> dict[str, Any]:
        """The events since the last take, as the traces order them."""
        events, self.events = self.events, []
        unordered, self.unordered = self.unordered, []
        found: dict[str, Any] = {"events": _sort_runs(events, dynamic)}
        if unordered:
            found["unordered"] = sorted(unordered, key=lambda e: (e[1], e[2]))
        return found


def _sort_runs(events: list[list[Any]], dynamic: set[str]) -> list[list[Any]]:
    """Sort each run of deaths of dynamic children of one supervisor: their order is free."""
    done: list[list[Any]] = []
    run: list[list[Any]] = []
    above = ""
    for event in [*events, None]:
        mine = ""
        if event is not None and event[0] == "exit":
            mine = event[1].rpartition("/")[0]
        if run and mine != above:
            done += sorted(run, key=lambda e: (e[1], e[2]))
            run = []
        if event is None:
            break
        if mine in dynamic and mine:
            run.append(event)
            above = mine
        else:
            done.append(event)
    return done


class Hanger(Worker):
    """A worker whose terminate may raise, or never return."""

    stage: Recorder

    def init(self, stage: Recorder, path: str, plan: dict[str, Any]) -> Any:
        return self.begin(stage, path, plan)

    def handle_cast(self, request: Any) -> Any:
        self.own_end = True
        return super().handle_cast(request)

    async def terminate(self, reason: Any) -> None:
        self.one.cb = reason_out(reason)
        match self.plan.get("on_stop", "ok"):
            case "error":
                raise Raised("bang_in_terminate")
            case "hang" if not getattr(self, "own_end", False):
                self.stage.hanging.add(self.one.pid)
                await trio.sleep_forever()


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    stage = Recorder()
    witness.on_death = stage.died
    dynamic = _dynamic_paths(scenario)
    async with Node("a", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        by = spawn_stranger()
        said: list[Any] = []
        top = spawn(parent, stage, scenario["tree"], Hanger, said)
        await _quiet(stage, clock)
        root = said[0]
        failed = isinstance(root, StartFailed)
        reply = ["error", reason_out(root.reason)] if failed else ["ok"]
        trace: dict[str, Any] = {"start": {"reply": reply, **stage.take(dynamic)}, "steps": []}
        for action in scenario["actions"]:
            answer = await _act(stage, by, action, clock)
            trace["steps"].append({"reply": answer, **stage.take(dynamic)})
        alive = not failed and is_alive(root)
        trace["final_tree"] = await _tree(stage, root) if alive else None
        if not alive:
            trace["shutdown_root"] = {"reply": ["noproc"]}
            return trace
        send_nowait(top, ("exit", root, SHUTDOWN))
        await _quiet(stage, clock)
        reason = next(reason for pid, reason in reversed(witness.deaths) if pid == root)
        trace["shutdown_root"] = {"reply": ["down", reason_out(reason)], **stage.take(dynamic)}
        return trace


def _dynamic_paths(scenario: dict[str, Any]) -> set[str]:
    found: set[str] = set()

    def look(path: str, plan: dict[str, Any]) -> None:
        if plan["strategy"] == "simple_one_for_one":
            found.add(path)
        for one in plan.get("children", ()):
            if "sup" in one:
                look(f"{path}/{one['id']}", one["sup"])

    look("root", scenario["tree"])
    for action in scenario["actions"]:
        if "sup" in action.get("child", {}):
            look(f"{action['sup']}/{action['child']['id']}", action["child"]["sup"])
    return found


async def _quiet(stage: Recorder, clock: trio.testing.MockClock) -> None:
    """Settle; time passes only while a terminate hangs, so that its supervisor kills it."""
    await settle()
    while stage.hanging:
        clock.jump(0.5)
        await settle()


async def _act(stage: Recorder, by: Pid, action: dict[str, Any], clock: trio.testing.MockClock) -> Any:
    if "path" in action:
        one = stage.newest.get(action["path"])
        if one is None or one.ended:
            return ["not_running"]
        tell(one, by, action)
        await _quiet(stage, clock)
        return ["sent"]
    one = stage.newest.get(action["sup"])
    if one is None or one.ended:
        return ["noproc"]
    answers: list[Any] = []

    async def ask(supervisor: Instance) -> None:
        answers.append(await operate(stage, supervisor.pid, action, Hanger))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, one)
        await _quiet(stage, clock)
    return answers[0]


async def _tree(stage: Recorder, root: Pid) -> Any:
    async def look(path: str, pid: Pid) -> Any:
        children = await which_children(pid)
        if is_dynamic(pid):
            keys = {one.pid: one.path.rpartition("/")[2] for one in stage.by_pid.values()}
            rows = sorted([keys.get(c.pid, "?") if c.pid else "?", c.state, c.type] for c in children)
            return {"dynamic": rows} if rows else []
        found = []
        for one in reversed(children):
            entry: dict[str, Any] = {"id": one.id, "state": one.state}
            if one.type == "supervisor" and one.pid is not None:
                entry["children"] = await look(f"{path}/{one.id}", one.pid)
            found.append(entry)
        return found

    return await look("root", root)


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """Nothing is left open but what the recording has sorted already."""
    return trace
