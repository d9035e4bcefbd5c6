"""What static and dynamic supervisors have in common: one door, and the moves that every strategy makes.

Source: OTP `supervisor.erl`; rules S17-S28, S35, S55-S59.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import final

from runtime.errors import InternalError
from runtime.kernel.exits import KILLED, NORMAL, SHUTDOWN, Shutdown, is_orderly
from runtime.kernel.ids import Pid

from ..backoff import Backoff
from ..intensity import Intensity
from ..specs import BadSpec, ChildSpec, Flags
from .events import (
    BLOCKING,
    Answer,
    Ask,
    Boot,
    Close,
    Done,
    Effect,
    Event,
    Exited,
    Failed,
    Finish,
    Halt,
    Report,
    Retry,
    Steps,
    TryAgain,
    Wait,
    Wake,
)
from .requests import ChildInfo, Counts, GaugeReading


@final
class Pause:
    """How far the back-off of one child has got."""

    __slots__ = ("attempt", "since", "ticket")

    def __init__(self) -> None:
        # Restarts in a row, since it was last up for long.
        self.attempt = 0
        # When it was last started, in seconds.
        self.since = 0.0
        # Invariant: not 0 exactly while it waits; the Wake that ends the wait bears the same number.
        self.ticket = 0


@final
class Child:
    """One child: its spec, and who it is now. `key` is its id, or a number under a dynamic supervisor."""

    __slots__ = ("before", "key", "pause", "pid", "restarting", "spec")

    def __init__(self, key: object, spec: ChildSpec) -> None:
        self.key = key
        self.spec = spec
        self.pid: Pid | None = None
        # Who it was when it last lived: how a dynamic child is known while it waits for a restart.
        self.before: Pid | None = None
        # Invariant: True only while a failed restart waits for its next try; then pid is None.
        self.restarting = False
        # Made at the first restart that a back-off delays.
        self.pause: Pause | None = None

    @property
    def state(self) -> str:
        """up, down, restarting, or waiting (for a back-off)."""
        if self.restarting:
            return "restarting"
        if self.pid is not None:
            return "up"
        return "waiting" if self.pause is not None and self.pause.ticket else "down"

    @property
    def info(self) -> ChildInfo:
        """Its line of `which_children`."""
        return ChildInfo(self.spec.id, self.pid, self.state, self.spec.type)


class Machine:
    """What static and dynamic supervisors have in common. Time comes in with each event, in seconds."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.intensity = Intensity(flags.intensity, flags.period)
        self.children: dict[object, Child] = {}
        self._by_pid: dict[Pid, Child] = {}
        self._now = 0.0
        self._tickets = 0
        self._steps: Steps | None = None
        self.finished = False
        # How many restarts were ever allowed.
        self.restarts = 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; returns what to do, a blocking effect last if there is one."""
        self._now = now
        value: object = None
        if type(event) is Done:
            if self._steps is None:
                raise InternalError("a supervisor got an outcome it had not asked for: please report this")
            value = event.outcome
        elif self._steps is not None:
            raise InternalError(f"a supervisor got {event!r} while it waits for an outcome: please report this")
        else:
            self._steps = self._react(event)
        effects: list[Effect] = []
        while True:
            try:
                effect = self._steps.send(value)
            except StopIteration:
                self._steps = None
                return effects
            value = None
            effects.append(effect)
            if type(effect) in BLOCKING:
                return effects

    def _react(self, event: Event) -> Steps:
        if type(event) is Ask:
            return self._answer(event.token, event.request)
        match event:
            case Exited(pid, reason):
                return self._exited(pid, reason)
            case Boot():
                return self._boot()
            case Retry(key):
                return self._retry(key)
            case Wake(key, ticket):
                return self._wake(key, ticket)
            case Close(reason):
                return self._close(reason)
            case _:
                raise InternalError("unreachable")

    def adopt(self, new: Machine) -> None:
        """Take on the flags and specs of a machine just made of new code; who runs goes on running (S61).

        Raises BadSpec, with nothing changed, if the two are not of one kind.
        """
        if type(new) is not type(self):
            raise BadSpec(
                f"a supervisor cannot change from {self.flags.strategy} to {new.flags.strategy} while it runs: "
                "stop it and start it anew"
            )
        self.flags = new.flags
        self.intensity.limit, self.intensity.period = new.flags.intensity, new.flags.period
        self._adopt_children(new)

    # What a subclass decides.

    def _boot(self) -> Steps:
        raise NotImplementedError

    def _restart(self, child: Child) -> Steps:
        raise NotImplementedError

    def _stop_all(self) -> Steps:
        raise NotImplementedError

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        raise NotImplementedError

    def _adopt_children(self, new: Machine) -> None:
        raise NotImplementedError

    def _stop_group(self, child: Child) -> Steps:
        """Stop whoever is restarted together with `child`; nobody, unless the strategy says so."""
        yield from ()

    # Common moves.

    def _settle(self, child: Child, outcome: object) -> bool:
        """Book what became of a launch; whether the child counts as started."""
        if isinstance(outcome, Failed):
            return False
        child.restarting = False
        child.pid = outcome  # type: ignore[assignment]  # a Pid, or None when ignored
        if child.pid is not None:
            self._by_pid[child.pid] = child
        pause = child.pause
        if pause is not None:
            pause.ticket, pause.since = 0, self._now
        if child.spec.restart == "temporary" and child.spec.args:
            child.spec = replace(child.spec, args=())  # never needed again, and perhaps large (S62)
        return True

    def _forget(self, child: Child) -> None:
        self.children.pop(child.key, None)
        if child.pid is not None:
            self._by_pid.pop(child.pid, None)

    def _dead(self, child: Child) -> None:
        if child.pid is not None:
            self._by_pid.pop(child.pid, None)
            child.before = child.pid
        child.pid = None
        child.restarting = False
        if child.pause is not None:
            child.pause.ticket = 0

    def _halt(self, child: Child) -> Steps:
        """Stop one child, if it is up; a temporary one is forgotten."""
        if child.pid is not None:
            reason = yield Halt(child.pid, child.spec)
            if is_odd(child.spec, reason):
                yield Report("shutdown_error", child.key, reason)
        self._dead(child)
        if child.spec.restart == "temporary":
            self.children.pop(child.key, None)

    def _exited(self, pid: Pid, reason: object) -> Steps:
        child = self._by_pid.get(pid)
        if child is None:
            return  # not ours, or replaced long ago (S40, S67)
        restart = child.spec.restart
        if restart == "permanent" or (restart == "transient" and not is_orderly(reason)):
            yield Report("child_terminated", child.key, reason)
            self._dead(child)
            yield from self._try_restart(child)
            return
        if not is_orderly(reason):
            yield Report("child_terminated", child.key, reason)
        self._gone(child)
        yield from self._maybe_auto_shutdown(child)

    def _gone(self, child: Child) -> None:
        """The child ended and is not restarted: a transient one keeps its spec, a temporary one does not."""
        self._dead(child)
        if child.spec.restart == "temporary":
            self._forget(child)

    def _try_restart(self, child: Child) -> Steps:
        """Count one restart (S22), then make it, at once or after the child's back-off."""
        if not self.intensity.record(self._now):
            yield Report("reached_max_restart_intensity", child.key, None)
            self._gone(child)
            yield from self._close(SHUTDOWN)
            return
        self.restarts += 1
        backoff = child.spec.backoff or self.flags.backoff
        if backoff is None:
            yield from self._restart(child)
        else:
            yield from self._delay(child, backoff)

    def _delay(self, child: Child, backoff: Backoff) -> Steps:
        """Wait before a restart. Who would be restarted along with the child is stopped now, as without a wait."""
        pause = child.pause
        if pause is None:
            pause = child.pause = Pause()
        elif not child.restarting and self._now - pause.since >= backoff.limit:
            pause.attempt = 0  # it was up for long
        pause.attempt += 1
        child.restarting = False
        yield from self._stop_group(child)
        self._tickets += 1
        pause.ticket = self._tickets
        yield Wait(child.key, pause.ticket, backoff, pause.attempt)

    def _wake(self, key: object, ticket: int) -> Steps:
        child = self.children.get(key)
        if child is not None and child.pause is not None and child.pause.ticket == ticket:
            child.pause.ticket = 0
            yield from self._restart(child)

    def _postpone(self, child: Child, failed: Failed) -> Steps:
        """A restart has failed: it is tried again, after what waits in the mailbox (S26)."""
        yield Report("start_error", child.key, failed.reason)
        child.restarting = True
        yield TryAgain(child.key)

    def _retry(self, key: object) -> Steps:
        child = self.children.get(key)
        if child is not None and child.restarting:
            yield from self._try_restart(child)

    def _maybe_auto_shutdown(self, child: Child) -> Steps:
        if not child.spec.significant or self.flags.auto_shutdown == "never":
            return
        others = any(
            other.spec.significant and other.state != "down" and other is not child for other in self.children.values()
        )
        if self.flags.auto_shutdown == "any_significant" or not others:
            yield from self._close(SHUTDOWN)

    def _close(self, reason: object) -> Steps:
        yield from self._stop_all()
        self.finished = True
        yield Finish(reason)

    def _answer(self, token: object, request: object) -> Steps:
        value = yield from self._serve(request)
        yield Answer(token, value)

    def _count(self) -> Counts:
        children = self.children.values()
        supervisors = sum(1 for child in children if child.spec.type == "supervisor")
        return Counts(
            specs=len(self.children),
            active=sum(1 for child in children if child.pid is not None),
            supervisors=supervisors,
            workers=len(self.children) - supervisors,
        )

    def gauge(self, now: float) -> GaugeReading:
        """How it stands with the restarts at `now`, in seconds."""
        flags = self.flags
        return GaugeReading(flags.strategy, self.intensity.used(now), flags.intensity, flags.period)


def is_odd(spec: ChildSpec, reason: object) -> bool:
    """Whether a stopped child ended in a way worth a report (S35)."""
    if reason is SHUTDOWN or (spec.shutdown == "brutal_kill" and reason is KILLED):
        return False
    return not (spec.restart != "permanent" and (reason is NORMAL or type(reason) is Shutdown))
