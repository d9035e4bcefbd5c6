"""A fixed order of children: one_for_one, one_for_all, rest_for_one.

Source: OTP `supervisor.erl`; rules S6-S15, S27, S43-S54, S61.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import final

from runtime.kernel.exits import Shutdown

from ..specs import BadCombination, ChildSpec, Flags, check_combination
from .events import Effect, Failed, Launch, Report, Started, Steps
from .machine import Child, Machine
from .requests import (
    CountChildren,
    DeleteChild,
    FailedToStart,
    Gauge,
    GetChildSpec,
    Refusal,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)


@final
class StaticMachine(Machine):
    """Children in start order.

    Args:
        fixed: nobody may add or remove children: those of a partition supervisor.
    """

    def __init__(self, flags: Flags, specs: Iterable[ChildSpec], *, fixed: bool = False) -> None:
        super().__init__(flags)
        self.fixed = fixed
        for spec in specs:
            self.children[spec.id] = Child(spec.id, spec)

    def _boot(self) -> Steps:
        for child in list(self.children.values()):
            outcome = yield Launch(child.spec)
            if not self._settle(child, outcome):
                assert isinstance(outcome, Failed)
                yield Report("start_error", child.key, outcome.reason)
                yield from self._close(Shutdown(FailedToStart(child.spec.id, outcome.reason)))
                return
            if child.pid is None and child.spec.restart == "temporary":
                self._forget(child)
        yield Started()

    def _adopt_children(self, new: Machine) -> None:
        """By id (S61): known ones take their new spec, new ones are down, those no longer named come after."""
        children: dict[object, Child] = {}
        for key, fresh in new.children.items():
            child = self.children.pop(key, fresh)
            temporary = fresh.spec.restart == "temporary" and child.pid is not None
            child.spec = replace(fresh.spec, args=()) if temporary else fresh.spec
            children[key] = child
        self.children = {**children, **self.children}

    def _group(self, child: Child) -> list[Child]:
        """Who is restarted when `child` dies, in start order."""
        match self.flags.strategy:
            case "one_for_all":
                return list(self.children.values())
            case "rest_for_one":
                everyone = list(self.children.values())
                return everyone[everyone.index(child) :]
            case _:
                return [child]

    def _stop_group(self, child: Child) -> Steps:
        for member in reversed(self._group(child)):
            if member is not child:
                yield from self._halt(member)

    def _restart(self, child: Child) -> Steps:
        group = self._group(child)
        child.restarting = False
        if len(group) > 1:
            yield from self._stop_group(child)
        for member in group:
            if member.key not in self.children:
                continue  # a temporary sibling does not come back (S15)
            outcome = yield Launch(member.spec)
            if not self._settle(member, outcome):
                assert isinstance(outcome, Failed)
                yield from self._postpone(member, outcome)
                return

    def _stop_all(self) -> Steps:
        for child in reversed(list(self.children.values())):
            yield from self._halt(child)

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        match request:
            case StartChild() | DeleteChild() if self.fixed:
                return Refusal("not_offered", "the children are fixed")
            case StartChild(spec):
                return (yield from self._start_child(spec))
            case TerminateChild(key):
                child = self.children.get(key)
                if child is None:
                    return Refusal("not_found")
                yield from self._halt(child)
                return None
            case RestartChild(key):
                return (yield from self._restart_child(key))
            case DeleteChild(key):
                child = self.children.get(key)
                if child is None or child.state != "down":
                    return _refused(child)
                self._forget(child)
                return None
            case WhichChildren():
                return [child.info for child in reversed(list(self.children.values()))]
            case CountChildren():
                return self._count()
            case GetChildSpec(key):
                child = self.children.get(key)
                return child.spec if child is not None else Refusal("not_found")
            case Gauge():
                return self.gauge(self._now)
            case _:
                return Refusal("not_offered", request)

    def _start_child(self, spec: ChildSpec) -> Generator[Effect, object, object]:
        try:
            check_combination(spec, self.flags.auto_shutdown)
        except BadCombination as error:
            return Refusal("bad_combination", str(error))
        present = self.children.get(spec.id)
        if present is not None:
            if present.state == "down":
                return Refusal("already_present")
            return Refusal("already_started", present.pid)
        child = Child(spec.id, spec)
        outcome = yield Launch(spec)
        if not self._settle(child, outcome):
            assert isinstance(outcome, Failed)
            return Refusal("start_failed", outcome.reason)
        if child.pid is not None or spec.restart != "temporary":
            self.children[spec.id] = child
        return child.pid

    def _restart_child(self, key: object) -> Generator[Effect, object, object]:
        child = self.children.get(key)
        if child is None or child.state != "down":
            return _refused(child)
        outcome = yield Launch(child.spec)
        if not self._settle(child, outcome):
            assert isinstance(outcome, Failed)
            return Refusal("start_failed", outcome.reason)
        return child.pid


def _refused(child: Child | None) -> Refusal:
    """Why what needs a child that is down cannot be done (S28, S49, S50)."""
    if child is None:
        return Refusal("not_found")
    return Refusal("running" if child.state == "up" else "restarting", child.pid)
