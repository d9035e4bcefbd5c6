"""Supervision trees out of a scenario: what families A and G share."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

from runtime import (
    IGNORE,
    CalleeExited,
    CallFailed,
    Exit,
    GenServer,
    NoProcess,
    Pid,
    StartFailed,
    Stop,
    cast_nowait,
    exit,
    exit_with,
    process_info,
    receive,
    self_pid,
    send_nowait,
    spawn,
    start_link,
    trap_exit,
)
from supervisors import (
    ChildRefused,
    ChildSpec,
    Supervisor,
    child,
    count_children,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)

from .reasons import Raised, reason_in, reason_out


@dataclass(slots=True)
class Instance:
    """One incarnation of a path; `above` is the supervisor's instance that started it."""

    path: str
    number: int
    pid: Pid
    above: Instance | None
    supervisor: bool
    cb: Any = None
    ended: bool = False


class Stage:
    """Who is where in one scenario; told by the workers and supervisors themselves."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}
        self.newest: dict[str, Instance] = {}
        self.by_pid: dict[Pid, Instance] = {}
        # The newest started instance of each dynamic child, by path.
        self.started: dict[str, Pid] = {}

    def event(self, event: list[Any]) -> None:
        """Something to show; a family overrides it."""
        raise NotImplementedError

    def attempt(self, path: str) -> int:
        self.attempts[path] = self.attempts.get(path, 0) + 1
        return self.attempts[path]

    def enter(self, path: str, number: int, supervisor: bool) -> Instance:
        above = self.newest.get(path.rpartition("/")[0])
        one = Instance(path, number, self_pid(), above, supervisor)
        self.newest[path] = self.by_pid[one.pid] = one
        return one


def killed_above(one: Instance) -> bool:
    """Whether a supervisor instance above this one has got a kill."""
    above = one.above
    while above is not None:
        info = process_info(above.pid)
        if info is None or info.state == "stopping":
            return True
        above = above.above
    return False


class Worker(GenServer):
    """A worker of a scenario: W."""

    stage: Stage
    one: Instance

    def begin(self, stage: Stage, path: str, plan: dict[str, Any]) -> Any:
        """What its init does, after any slow time."""
        self.stage, self.plan = stage, plan
        number = stage.attempt(path)
        if plan.get("trap"):
            trap_exit(True)
        if number in plan.get("fail_starts", ()):
            stage.event(["init_fail", path, number])
            match plan.get("fail_how", "stop"):
                case "raise":
                    raise Raised("bang")
                case "exit":
                    exit_with("gone")
                case _:
                    return Stop("boom")
        if number in plan.get("ignore_starts", ()):
            stage.event(["ignore", path, number])
            return IGNORE
        self.one = stage.enter(path, number, supervisor=False)
        stage.started[path] = self.one.pid
        stage.event(["start", path, number])
        return None

    def handle_cast(self, request: Any) -> Any:
        match request:
            case ("stop", reason):
                return Stop(reason)
            case _:
                raise Raised("bang")

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Exit):
            self.stage.event(["info", self.one.path, self.one.number, ["EXIT", reason_out(message.reason)]])


class Tree(Supervisor):
    """A supervisor of a scenario: SUP."""

    def init(self, stage: Stage, path: str, plan: dict[str, Any], worker: type[Worker]) -> Any:
        self.strategy = plan["strategy"]  # type: ignore[misc]  # the scenario says
        self.intensity = plan["intensity"]  # type: ignore[misc]  # the scenario says
        self.period = float(plan["period"])  # type: ignore[misc]  # the scenario says
        self.auto_shutdown = plan.get("auto_shutdown", "never")  # type: ignore[misc]  # the scenario says
        number = stage.attempt(path)
        stage.enter(path, number, supervisor=True)
        stage.event(["start", path, number])
        if self.strategy == "simple_one_for_one":
            return [template(stage, path, plan["template"], worker)]
        return [spec_of(stage, path, one, worker) for one in plan["children"]]


def shutdown_of(plan: dict[str, Any]) -> Any:
    match plan.get("shutdown"):
        case None:
            return None
        case "infinity":
            return math.inf
        case "brutal_kill":
            return "brutal_kill"
        case milliseconds:
            return milliseconds / 1000


def spec_of(stage: Stage, above: str, plan: dict[str, Any], worker: type[Worker]) -> ChildSpec:
    path = f"{above}/{plan['id']}"
    options: Any = {
        "restart": plan["restart"],
        "shutdown": shutdown_of(plan),
        "significant": plan.get("significant", False),
    }
    if plan.get("type", "worker") == "supervisor":
        return child(plan["id"], Tree, stage, path, plan["sup"], worker, **options)
    return child(plan["id"], worker, stage, path, plan["worker"], **options)


def template(stage: Stage, above: str, plan: dict[str, Any], worker: type[Worker]) -> ChildSpec:
    """The child of a simple_one_for_one supervisor; its key and plan come with start_child."""

    if inspect.iscoroutinefunction(worker.init):

        class Keyed(worker):  # type: ignore[misc,valid-type]  # a class made for one scenario
            async def init(self, key: str, own: dict[str, Any]) -> Any:
                return await super().init(stage, f"{above}/{key}", {**plan["worker"], **own})
    else:

        class Keyed(worker):  # type: ignore[misc,valid-type,no-redef]  # as above
            def init(self, key: str, own: dict[str, Any]) -> Any:
                return super().init(stage, f"{above}/{key}", {**plan["worker"], **own})

    options: Any = {
        "restart": plan["restart"],
        "shutdown": shutdown_of(plan),
        "significant": plan.get("significant", False),
    }
    return child("template", Keyed, **options)


# -- the parent of the root, and strangers -------------------------------------------------------------


async def parent(stage: Stage, plan: dict[str, Any], worker: type[Worker], said: list[Any]) -> None:
    """Starts the tree, and sends it exit signals when told to."""
    trap_exit(True)
    try:
        said.append(await start_link(Tree, stage, "root", plan, worker))
    except StartFailed as failed:
        said.append(failed)
    while True:
        match await receive():
            case ("exit", Pid() as pid, reason):
                exit(pid, reason)


async def stranger() -> None:
    """An unrelated process that sends exit signals."""
    while True:
        match await receive():
            case (Pid() as pid, reason):
                exit(pid, reason)


def spawn_stranger() -> Pid:
    return spawn(stranger)


def signal(by: Pid, pid: Pid, reason: Any) -> None:
    send_nowait(by, (pid, reason))


def tell(one: Instance, by: Pid, action: dict[str, Any]) -> None:
    """Have a worker stop or raise, or the stranger `by` send it an exit signal."""
    match action["op"]:
        case "stop":
            cast_nowait(one.pid, ("stop", reason_in(action["reason"])))
        case "raise":
            cast_nowait(one.pid, ("raise",))
        case "signal":
            signal(by, one.pid, reason_in(action["reason"]))


# -- operations on supervisors -------------------------------------------------------------------------


async def operate(stage: Stage, supervisor: Pid, action: dict[str, Any], worker: type[Worker]) -> Any:
    """One request to a supervisor; its reply as the traces write it."""
    path = action["sup"]
    try:
        match action["op"]:
            case "start_child" if "key" in action:
                return _started(await start_child(supervisor, [action["key"], action.get("plan", {})]))
            case "start_child":
                return _started(await start_child(supervisor, spec_of(stage, path, action["child"], worker)))
            case "terminate_child":
                await terminate_child(supervisor, _which(stage, path, action))
                return ["ok"]
            case "restart_child":
                return _started(await restart_child(supervisor, action["id"]))
            case "delete_child":
                await delete_child(supervisor, action["id"])
                return ["ok"]
            case "which_children":
                return await children_of(stage, supervisor)
            case "count_children":
                counts = await count_children(supervisor)
                return {
                    "specs": counts.specs,
                    "active": counts.active,
                    "supervisors": counts.supervisors,
                    "workers": counts.workers,
                }
    except ChildRefused as refused:
        # Only a static start_child wraps the reason (S43, S46, S49).
        return ["error", _refusal(refused, plain=action["op"] != "start_child" or "key" in action)]
    except NoProcess:
        return ["noproc"]
    except CalleeExited as ended:
        return ["exit", reason_out(ended.reason)]
    except CallFailed as failed:
        return ["failed", str(failed)]
    raise AssertionError(f"no such operation: {action}")


def _which(stage: Stage, path: str, action: dict[str, Any]) -> Any:
    if "key" not in action:
        return action["id"]
    # The pid of the newest started instance, dead or not; if none ever started, the key itself.
    return stage.started.get(f"{path}/{action['key']}", action["key"])


def _started(pid: Pid | None) -> list[Any]:
    return ["ok", "undefined" if pid is None else "pid"]


def _refusal(refused: ChildRefused, *, plain: bool) -> Any:
    match refused.why:
        case "start_failed":
            reason = reason_out(refused.detail)
            return reason if plain else ["start_failed", reason]
        case "not_offered":
            return "simple_one_for_one"
        case why:
            return why


def is_dynamic(pid: Pid) -> bool:
    process = pid._process
    return getattr(process.behaviour, "strategy", "") == "simple_one_for_one" if process is not None else False


async def children_of(stage: Stage, supervisor: Pid) -> list[Any]:
    """which_children, static in OTP's order, dynamic sorted by key."""
    children = await which_children(supervisor)
    if is_dynamic(supervisor):
        keys = {pid: path.rpartition("/")[2] for path, pid in stage.started.items()}
        keys.update({one.pid: one.path.rpartition("/")[2] for one in stage.by_pid.values()})
        return sorted([keys[one.pid] if one.pid is not None else "?", one.state, one.type] for one in children)
    return [[one.id, one.state, one.type] for one in children]
