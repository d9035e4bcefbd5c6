"""Children that come and go, each restarted alone, stopped all at once.

Source: OTP `supervisor.erl`, simple_one_for_one; Elixir `DynamicSupervisor`; rules S16, S20, S42, S46, S48, S52.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any, final

from runtime.kernel.ids import Pid

from ..specs import BadCombination, ChildSpec, Flags, check_combination
from .events import Effect, Failed, HaltAll, Launch, Report, Started, Steps
from .machine import Child, Machine, is_odd
from .requests import (
    CountChildren,
    Gauge,
    GetChildSpec,
    Refusal,
    StartChild,
    StartWith,
    TerminateChild,
    WhichChildren,
)


@final
class DynamicMachine(Machine):
    """Children known by their pids.

    Args:
        template: with one, OTP's simple_one_for_one; without, each child brings its own spec.
        max_children: no more than these at once, those that wait for a restart included.
        extra_arguments: put before the arguments of each child.
    """

    def __init__(
        self,
        flags: Flags,
        template: ChildSpec | None = None,
        *,
        max_children: float = math.inf,
        extra_arguments: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(flags)
        self.template = template
        self.max_children = max_children
        self.extra_arguments = extra_arguments
        self._last = 0
        # Those that wait for a restart, by the pid they had: so that they can be told not to come back.
        self._between: dict[Pid, Child] = {}

    def _boot(self) -> Steps:
        yield Started()

    def _adopt_children(self, new: Machine) -> None:
        assert isinstance(new, DynamicMachine)
        self.template = new.template
        self.max_children, self.extra_arguments = new.max_children, new.extra_arguments
        if new.template is not None:
            for child in self.children.values():
                child.spec = replace(new.template, args=child.spec.args)

    def _settle(self, child: Child, outcome: object) -> bool:
        if child.before is not None and not isinstance(outcome, Failed):
            self._between.pop(child.before, None)
        return super()._settle(child, outcome)

    def _forget(self, child: Child) -> None:
        super()._forget(child)
        if child.before is not None and self._between:
            self._between.pop(child.before, None)

    def _restart(self, child: Child) -> Steps:
        child.restarting = False
        outcome = yield Launch(child.spec)
        if self._settle(child, outcome):
            if child.pid is None:
                self._forget(child)  # ignored at a restart: dropped, unlike OTP's quirk S68
            return
        assert isinstance(outcome, Failed)
        yield from self._postpone(child, outcome)

    def _postpone(self, child: Child, failed: Failed) -> Steps:
        self._stays_known(child)
        return super()._postpone(child, failed)

    def _stop_group(self, child: Child) -> Steps:
        self._stays_known(child)
        yield from ()

    def _stays_known(self, child: Child) -> None:
        assert child.before is not None
        self._between[child.before] = child

    def _gone(self, child: Child) -> None:
        self._forget(child)

    def _stop_all(self) -> Steps:
        up = [(child.pid, child.spec) for child in self.children.values() if child.pid is not None]
        if up:
            reasons = yield HaltAll(tuple(up))
            assert isinstance(reasons, list)
            for (_, spec), reason in zip(up, reasons, strict=True):
                if is_odd(spec, reason):
                    yield Report("shutdown_error", spec.id, reason)
        self.children.clear()
        self._by_pid.clear()
        self._between.clear()

    def _find(self, pid: object) -> Child | None:
        if not isinstance(pid, Pid):
            return None
        return self._by_pid.get(pid) or self._between.get(pid)

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        if type(request) is StartChild and self.template is None:
            spec = request.spec
            if self.extra_arguments:
                spec = replace(spec, args=(*self.extra_arguments, *spec.args))
            return (yield from self._start_child(spec))
        if type(request) is TerminateChild:
            return (yield from self._terminate_child(request.key))
        match request:
            case StartWith(args) if self.template is not None:
                spec = replace(self.template, args=(*self.template.args, *args))
                return (yield from self._start_child(spec))
            case WhichChildren():
                return [child.info for child in self.children.values()]
            case CountChildren():
                counted = self._count()
                return counted if self.template is None else replace(counted, specs=1)
            case GetChildSpec(pid):
                child = self._find(pid)
                return child.spec if child is not None else Refusal("not_found")
            case Gauge():
                return self.gauge(self._now)
            case _:
                return Refusal("not_offered", request)

    def _terminate_child(self, pid: object) -> Generator[Effect, object, object]:
        if not isinstance(pid, Pid):
            return Refusal("not_offered", "children of a dynamic supervisor are known by pid")
        child = self._find(pid)
        if child is None:
            return None if pid._process is None else Refusal("not_found")
        yield from self._halt(child)
        self._forget(child)
        return None

    def _start_child(self, spec: ChildSpec) -> Generator[Effect, object, object]:
        try:
            check_combination(spec, self.flags.auto_shutdown)
        except BadCombination as error:
            return Refusal("bad_combination", str(error))
        if len(self.children) >= self.max_children:
            return Refusal("max_children", self.max_children)
        outcome = yield Launch(spec)
        self._last += 1
        child = Child(self._last, spec)
        if not self._settle(child, outcome):
            assert isinstance(outcome, Failed)
            return Refusal("start_failed", outcome.reason)
        if child.pid is not None:
            self.children[child.key] = child
        return child.pid
