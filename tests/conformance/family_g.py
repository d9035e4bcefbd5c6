"""Family G: supervisors in time; slow starts and stops, restart windows, requests that wait.

The clock runs by itself whenever nobody is runnable. Times are compared within 40 ms, order exactly.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
import trio.testing

from runtime import SHUTDOWN, Pid, StartFailed, is_alive, send_nowait, spawn
from supervisors import Node

from .reasons import Raised, reason_out
from .trees import Instance, Stage, Worker, is_dynamic, operate, parent, spawn_stranger, tell
from .witness import Witness

TOLERANCE = 40


class Timeline(Stage):
    """Collects events with their times, in ms since just before the start."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = trio.current_time()
        self.events: list[list[Any]] = []

    def now(self) -> int:
        return int((trio.current_time() - self.begun) * 1000 + 0.001) // 10 * 10

    def event(self, event: list[Any]) -> None:
        if event[0] != "info":
            self.events.append([self.now(), event])

    def died(self, pid: Pid, reason: Any) -> None:
        """Told in the instant of each death."""
        one = self.by_pid.get(pid)
        if one is not None:
            one.ended = True
            self.event(["exit", one.path, one.number, reason_out(reason), one.cb])


class Slow(Worker):
    """A worker whose init and terminate may take time."""

    stage: Timeline
    own_end = False

    async def init(self, stage: Timeline, path: str, plan: dict[str, Any]) -> Any:
        number = stage.attempts.get(path, 0) + 1
        stage.event(["attempt", path, number])
        slow = plan.get("slow_start")
        if slow is not None and number >= slow["from"]:
            # An instance counts from its attempt on, unless that attempt is one that fails.
            if number not in plan.get("fail_starts", ()):
                self.one = stage.enter(path, number, supervisor=False)
            await trio.sleep(slow["ms"] / 1000)  # virtual
        return self.begin(stage, path, plan)

    def handle_cast(self, request: Any) -> Any:
        self.own_end = True
        return super().handle_cast(request)

    async def terminate(self, reason: Any) -> None:
        self.stage.event(["terminate", self.one.path, self.one.number, reason_out(reason)])
        self.one.cb = reason_out(reason)
        if self.own_end:
            return
        match self.plan.get("on_stop", "ok"):
            case "error":
                raise Raised("bang_in_terminate")
            case "hang":
                await trio.sleep_forever()  # virtual
            case ["slow", milliseconds]:
                await trio.sleep(milliseconds / 1000)  # virtual


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    clock.autojump_threshold = 0
    witness = Witness()
    async with Node("g", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        by = spawn_stranger()
        stage = Timeline()
        witness.on_death = stage.died
        said: list[Any] = []
        top = spawn(parent, stage, scenario["tree"], Slow, said)
        replies: dict[int, list[Any]] = {}
        for index, action in enumerate(scenario["actions"]):
            spawn(partial(_act, stage, by, top, said, index, action, replies))
        await trio.sleep(scenario["end"] / 1000)  # virtual
        root = said[0] if said else None
        failed = isinstance(root, StartFailed)
        final = None
        if root is not None and not failed and is_alive(root):
            final = await _children(stage, root)
        events = list(stage.events)  # what the node's own end adds is not of the trace
        return {
            "start": ["error", reason_out(root.reason)] if failed else ["ok"],
            "events": events,
            "replies": [[index, *replies[index]] for index in sorted(replies)],
            "final": final,
        }


async def _act(
    stage: Timeline,
    by: Pid,
    top: Pid,
    said: list[Any],
    index: int,
    action: dict[str, Any],
    replies: dict[int, list[Any]],
) -> None:
    await trio.sleep_until(stage.begun + action["at"] / 1000)  # virtual
    answer = await _do(stage, by, top, said, action)
    if answer is not None:
        replies[index] = [stage.now(), answer]


async def _do(stage: Timeline, by: Pid, top: Pid, said: list[Any], action: dict[str, Any]) -> Any:
    if action["op"] == "shutdown_root":
        root = stage.newest.get("root")
        if root is not None:
            send_nowait(top, ("exit", root.pid, SHUTDOWN))
        return None
    if "path" in action:
        one: Instance | None = stage.newest.get(action["path"])
        if one is None or one.ended:
            return ["not_running"]
        tell(one, by, action)
        return ["sent"]
    one = stage.newest.get(action["sup"])
    if one is None or one.ended:
        return ["noproc"]
    if action["op"] == "which_children":
        return await _children(stage, one.pid)
    return await operate(stage, one.pid, action, Slow)


async def _children(stage: Timeline, pid: Pid) -> Any:
    dynamic = is_dynamic(pid)
    children = await operate(stage, pid, {"op": "which_children", "sup": "root"}, Slow)
    if children and isinstance(children[0], str):
        return children  # an error
    return ["dynamic" if dynamic and children else "static", children]


def align(wanted: dict[str, Any], came: dict[str, Any]) -> None:
    """Take the recorded time wherever the replayed one is near enough; order and all else stay."""
    pairs = [*zip(wanted["events"], came["events"], strict=False)]
    for one, other in pairs:
        if abs(one[0] - other[0]) <= TOLERANCE:
            other[0] = one[0]
    for one, other in zip(wanted["replies"], came["replies"], strict=False):
        if abs(one[1] - other[1]) <= TOLERANCE:
            other[1] = one[1]


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """Sort runs of dynamic children's events as the recording has."""
    events = trace["events"]
    if scenario["tree"]["strategy"] == "simple_one_for_one":
        events = _sort_runs(events)
    return {**trace, "events": events}


def _sort_runs(events: list[Any]) -> list[Any]:
    done: list[Any] = []
    run: list[Any] = []
    for event in events:
        child = event[1][1] != "root"
        if run and (not child or event[0] - run[0][0] > 25):
            done += sorted(run, key=lambda e: e[1][1])
            run = []
        (run if child else done).append(event)
    return done + sorted(run, key=lambda e: e[1][1])
