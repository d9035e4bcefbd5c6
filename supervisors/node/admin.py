"""A node's admin server, and who keeps it alive.

It stands under the node's System supervisor, in a supervisor of its own. If that one cannot keep it up (the
socket's directory is gone for good), it gives up in order, and because it is transient nobody starts it
again: the node then lives on without its door, and its log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import trio

import runtime
from runtime.kernel.exits import KILL, SHUTDOWN
from runtime.kernel.process import Process
from runtime.observe.admin import AdminServer
from runtime.observe.door import Door
from runtime.observe.facts import Facts
from runtime.observe.places import BACK
from runtime.observe.protocol import Code, Level, Refusal
from runtime.observe.shell import steering_verbs
from runtime.observe.targets import name_of

from ..children import count_children, get_childspec, restart_child, start_child, terminate_child, which_children
from ..dynamic import DynamicSupervisor
from ..shards import shard_facts
from ..specs import child
from ..supervisor import Supervisor
from .applications import wait_for_end
from .node import Node
from .steering import ShardSteering

SERVER = "admin.server"


@final
class Admin(Supervisor):
    """Keeps the admin server alive."""

    strategy, intensity, period = "one_for_one", 5, 10.0

    def init(self, door: Door) -> Any:
        return [child("server", AdminServer, door, name=SERVER)]


async def open_door(
    node: Node,
    path: Path,
    facts: Facts,
    *,
    allow_eval: bool = False,
    level: Level = Level.ACT,
    stop: Callable[[], None] | None = None,
    names: Mapping[str, object] | None = None,
    interrupt: Callable[[], str | None] | None = None,
) -> None:
    """Start a node's admin server at a unix socket; returns when it listens.

    Args:
        path: of the socket, in a directory that only its owner may enter (`runtime.observe.places.claim`).
        facts: what it tells of the node.
        allow_eval: whether it runs typed lines. Whoever may connect can then do all that the node can.
        level: the most that may be done, if no typed lines are allowed: VIEW, TRACE or ACT.
        stop: asks the host to drain the node; None if nobody may from there.
        names: what a typed line finds beside the helpers, `node`, and the packages.
        interrupt: breaks what holds the loop (`interrupts.Interrupter`); None if nobody may from there.

    Raises:
        ChildRefused: start_failed, with the reason as its `detail`: it cannot listen there.
    """
    steering = ShardSteering(node.table)
    found = {
        "node": node,
        "runtime": runtime,
        "trio": trio,
        **{verb.__name__: verb for verb in (which_children, restart_child, terminate_child, start_child, child)},
        **steering_verbs(steering),
        **(names or {}),
    }
    door = Door(
        f"unix:{path}",
        node.root,
        facts,
        allow_eval,
        found,
        stop,
        most=level,
        restart=restart,
        back=path.with_suffix(BACK),
        interrupt=interrupt,
        regions=shard_facts,
        steering=steering,
    )
    (system,) = [one.pid for one in await which_children(node.root) if one.id == "system"]
    assert system is not None  # the root could not live without it
    await start_child(system, child("admin", Admin, door, restart="transient"))


async def restart(process: Process) -> str:
    """End a process in order and wait until its supervisor has started it again; the text of its new pid.

    It is a restart like any other: the supervisor's strategy says who goes along, and it is counted.

    Raises:
        Refusal: code 5, if it would not come back: it has no supervisor, is temporary, or one more restart
            would make its supervisor give up; code 1, if it did not start again.
    """
    parent, who = process.parent, name_of(process)
    supervisor = parent._process if parent is not None else None
    behaviour = supervisor.behaviour if supervisor is not None else None
    view = behaviour.overview() if isinstance(behaviour, Supervisor) else None
    own = [one for one in view.children if one.pid == process.pid] if view is not None else []
    if parent is None or view is None or not own:
        raise _kept(who, "no supervisor has it among its children")
    if view.used >= view.intensity:
        why = f"its supervisor has used {view.used} of {view.intensity} restarts in {view.period:g} s: it would give up"
        raise _kept(who, why)
    (child_view,) = own
    place = view.children.index(child_view)
    static = view.strategy != "simple_one_for_one" and not isinstance(behaviour, DynamicSupervisor)
    spec = await get_childspec(parent, child_view.id if static else process.pid)
    if spec.restart == "temporary":
        raise _kept(who, "its spec says temporary, so nobody would start it again")
    # A transient child comes back only after an end that is no order.
    process.exit_signal(parent, SHUTDOWN if spec.restart == "permanent" else KILL)
    await wait_for_end(process)
    # It is answered when the supervisor has healed what it was told of before.
    await count_children(parent)
    after = behaviour.overview() if isinstance(behaviour, Supervisor) else None
    found = after.children[place].pid if after is not None and place < len(after.children) else None
    if found is None or found._process is None:
        raise Refusal(
            f"{who!r} is not up again", "it did not start, or not yet", "banyan crashes tells why", Code.FAILED
        )
    return repr(found)


def _kept(who: str, why: str) -> Refusal:
    return Refusal(f"{who!r} was not restarted", why, "banyan kill ends it all the same", Code.REFUSED)
