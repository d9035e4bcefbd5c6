"""What others ask a supervisor about its children; each call waits until what it asks for is done.

Source: OTP `supervisor.erl`, its client functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runtime.errors import BanyanError
from runtime.kernel.api import call
from runtime.kernel.exits import shown
from runtime.kernel.ids import Pid
from runtime.kernel.table import Destination

from . import strategy as machines
from .specs import ChildSpec, check_spec

# What to do about each refusal.
_ADVICE = {
    "already_started": "a child with this id is running; use it, stop it first, or choose another id",
    "already_present": "a child with this id is there and down; use restart_child, or delete_child first",
    "bad_combination": "mend the child's spec or the supervisor's auto_shutdown",
    "start_failed": "the reason is what its start ended with; nothing was kept",
    "max_children": "it has as many children as it may have; wait until one has ended",
    "not_found": "it has no such child; which_children shows those it has",
    "running": "the child is running; stop it first with terminate_child",
    "restarting": "the child is about to be restarted; wait, or stop it with terminate_child",
    "not_offered": "this kind of supervisor does not do that",
}


class ChildRefused(BanyanError):
    """A supervisor refused a request about a child.

    `why` is one of already_started, already_present, bad_combination, start_failed, max_children, not_found,
    running, restarting, not_offered; `detail` the pid or reason that goes with it.
    """

    def __init__(self, request: object, refusal: machines.Refusal) -> None:
        detail = f" ({shown(refusal.detail)})" if refusal.detail is not None else ""
        advice = _ADVICE.get(refusal.why, "see its docs")
        super().__init__(f"the supervisor refused {shown(request)}: {refusal.why}{detail}: {advice}")
        self.why = refusal.why
        self.detail = refusal.detail


async def _ask(supervisor: Destination, request: object, timeout: float) -> Any:
    answer = await call(supervisor, request, timeout=timeout)
    if type(answer) is machines.Refusal:
        raise ChildRefused(request, answer)
    return answer


async def start_child(
    supervisor: Destination, spec: ChildSpec | Sequence[Any], *, timeout: float = math.inf
) -> Pid | None:
    """Start one more child, after all others (S43-S46); its pid, or None if it asked to be ignored.

    Args:
        spec: the child's spec; for a simple_one_for_one supervisor the list of arguments that follow those
            of its template.
        timeout: seconds, here and below; one that is busy with starting or stopping a child answers after that.

    Raises:
        BadSpec: the spec cannot work.
        ChildRefused: already_started, already_present, bad_combination, max_children, or start_failed; nothing
            is kept.
        CallFailed: as of any `call`, here and below.
    """
    request: object
    if isinstance(spec, (list, tuple)):
        request = machines.StartWith(tuple(spec))
    else:
        request = machines.StartChild(check_spec(spec))
    pid: Pid | None = await _ask(supervisor, request, timeout)
    return pid


async def terminate_child(supervisor: Destination, which: str | Pid, *, timeout: float = math.inf) -> None:
    """Stop a child, by id (under a dynamic supervisor by pid); its spec stays, unless it is temporary (S47).

    Raises ChildRefused: not_found.
    """
    await _ask(supervisor, machines.TerminateChild(which), timeout)


async def restart_child(supervisor: Destination, child_id: str, *, timeout: float = math.inf) -> Pid | None:
    """Start a child again that is down (S49). Raises ChildRefused: not_found, running, restarting, start_failed."""
    pid: Pid | None = await _ask(supervisor, machines.RestartChild(child_id), timeout)
    return pid


async def delete_child(supervisor: Destination, child_id: str, *, timeout: float = math.inf) -> None:
    """Forget the spec of a child that is down (S50). Raises ChildRefused: not_found, running, restarting."""
    await _ask(supervisor, machines.DeleteChild(child_id), timeout)


async def which_children(supervisor: Destination, *, timeout: float = 5.0) -> list[machines.ChildInfo]:
    """All children, last started first (S51)."""
    children: list[machines.ChildInfo] = await _ask(supervisor, machines.WhichChildren(), timeout)
    return children


async def count_children(supervisor: Destination, *, timeout: float = 5.0) -> machines.Counts:
    """How many specs, living children, supervisors and workers (S52)."""
    counts: machines.Counts = await _ask(supervisor, machines.CountChildren(), timeout)
    return counts


async def get_childspec(supervisor: Destination, which: str | Pid, *, timeout: float = 5.0) -> ChildSpec:
    """The spec of a child (S53). Raises ChildRefused: not_found."""
    spec: ChildSpec = await _ask(supervisor, machines.GetChildSpec(which), timeout)
    return spec
