"""The supervisor as a pure machine: exits and requests in, actions out.

`machine.handle(event, now)` returns the effects to perform, in order. At most the last of them is
*blocking* (`Launch`, `Halt`, `HaltAll`): the shell performs it and hands its outcome to the next `handle`
as `Done`; until then the machine takes no other event, as OTP's supervisor serves nobody while it starts
or stops a child (rules S33, S65). Each reaction is written as a generator that yields effects, so that it
reads in the order in which things happen.

Source: OTP `supervisor.erl`; rules S1-S67. Quirk S68 is not copied.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, final

from runtime.errors import InternalError
from runtime.kernel.exits import KILLED, NORMAL, SHUTDOWN, Shutdown, is_orderly
from runtime.kernel.ids import Pid

from .intensity import Intensity
from .specs import BadCombination, ChildSpec, Flags, check_combination

# -- what a child is, inside the machine ---------------------------------------------------------------


@final
class Child:
    """One child: its spec, and who it is now. `key` is its id, or a number under a dynamic supervisor."""

    __slots__ = ("key", "pid", "restarting", "spec")

    def __init__(self, key: object, spec: ChildSpec) -> None:
        self.key = key
        self.spec = spec
        self.pid: Pid | None = None
        # Invariant: True only while a failed restart waits for its next try; then pid is None.
        self.restarting = False

    @property
    def state(self) -> str:
        """up, restarting or down."""
        if self.restarting:
            return "restarting"
        return "up" if self.pid is not None else "down"


# -- events --------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Boot:
    """Start all children, in order."""


@final
@dataclass(frozen=True, slots=True)
class Exited:
    """A linked process has ended."""

    pid: Pid
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Retry:
    """Try a failed restart again: it comes back from the end of the mailbox (S26)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class Ask:
    """A request of `token`, who waits for the answer."""

    token: object
    request: object


@final
@dataclass(frozen=True, slots=True)
class Close:
    """End in order: stop all children, then end with `reason`."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of the blocking effect: of a Launch a Pid, None (ignored) or Failed; of a Halt a reason."""

    outcome: object


Event = Boot | Exited | Retry | Ask | Close | Done


# -- effects -------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """A child did not start, for `reason`."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class Launch:
    """Blocking: start a child."""

    spec: ChildSpec


@final
@dataclass(frozen=True, slots=True)
class Halt:
    """Blocking: stop a child as its spec says; the outcome is the reason it ended with."""

    pid: Pid
    spec: ChildSpec


@final
@dataclass(frozen=True, slots=True)
class HaltAll:
    """Blocking: stop several at once, in parallel; the outcome is a list of reasons (S42)."""

    children: tuple[tuple[Pid, ChildSpec], ...]


@final
@dataclass(frozen=True, slots=True)
class Started:
    """All children are up: tell the starter."""


@final
@dataclass(frozen=True, slots=True)
class TryAgain:
    """Put a Retry to the end of the mailbox."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a request: with a value, or with a Refusal for the caller to raise."""

    token: object
    value: object


@final
@dataclass(frozen=True, slots=True)
class Report:
    """Something that people want to read: `what` happened to the child `key`, for `reason`."""

    what: str
    key: object
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Finish:
    """End the supervisor with this reason; all children are gone."""

    reason: object


Effect = Launch | Halt | HaltAll | Started | TryAgain | Answer | Report | Finish
BLOCKING = (Launch, Halt, HaltAll)
Steps = Generator[Effect, object, None]


# -- requests and refusals -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class StartChild:
    spec: ChildSpec


@final
@dataclass(frozen=True, slots=True)
class StartWith:
    """Start a child of a simple_one_for_one supervisor: `args` follow those of its template (S46)."""

    args: tuple[Any, ...]


@final
@dataclass(frozen=True, slots=True)
class TerminateChild:
    key: object


@final
@dataclass(frozen=True, slots=True)
class RestartChild:
    key: object


@final
@dataclass(frozen=True, slots=True)
class DeleteChild:
    key: object


@final
@dataclass(frozen=True, slots=True)
class WhichChildren:
    pass


@final
@dataclass(frozen=True, slots=True)
class CountChildren:
    pass


@final
@dataclass(frozen=True, slots=True)
class GetChildSpec:
    key: object


@final
@dataclass(frozen=True, slots=True)
class Gauge:
    """How it stands with the restarts: strategy, used, intensity, period."""


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was refused: already_started, already_present, bad_combination, start_failed,
    not_found, running, restarting, or not_offered. `detail` is the pid or the reason."""

    why: str
    detail: object = None


@final
@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One line of `which_children`: state is up, down or restarting."""

    id: str
    pid: Pid | None
    state: str
    type: str


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """What `count_children` answers (S52)."""

    specs: int
    active: int
    supervisors: int
    workers: int


@final
@dataclass(frozen=True, slots=True)
class GaugeReading:
    """Restarts used within the period, of the intensity allowed."""

    strategy: str
    used: int
    intensity: int
    period: float


@final
@dataclass(frozen=True, slots=True)
class FailedToStart:
    """The detail of the exit reason when child `id` did not start at the supervisor's own start (S9)."""

    id: str
    reason: object


# -- the machine ---------------------------------------------------------------------------------------


class Machine:
    """What static and dynamic supervisors have in common. Time comes in with each event, in seconds."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.intensity = Intensity(flags.intensity, flags.period)
        self.children: dict[object, Child] = {}
        self._by_pid: dict[Pid, Child] = {}
        self._now = 0.0
        self._steps: Steps | None = None
        self.finished = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; returns what to do, a blocking effect last if there is one."""
        self._now = now
        value: object = None
        if isinstance(event, Done):
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
            if isinstance(effect, BLOCKING):
                return effects

    def _react(self, event: Event) -> Steps:
        match event:
            case Boot():
                return self._boot()
            case Exited(pid, reason):
                return self._exited(pid, reason)
            case Retry(key):
                return self._retry(key)
            case Ask(token, request):
                return self._answer(token, request)
            case Close(reason):
                return self._close(reason)
            case Done():
                raise InternalError("unreachable")

    # What a subclass decides.

    def _boot(self) -> Steps:
        raise NotImplementedError

    def _restart(self, child: Child) -> Steps:
        raise NotImplementedError

    def _stop_all(self) -> Steps:
        raise NotImplementedError

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        raise NotImplementedError

    # Common moves.

    def _settle(self, child: Child, outcome: object) -> bool:
        """Book what became of a launch; whether the child counts as started."""
        if isinstance(outcome, Failed):
            return False
        child.restarting = False
        child.pid = outcome  # type: ignore[assignment]  # a Pid, or None when ignored
        if child.pid is not None:
            self._by_pid[child.pid] = child
        return True

    def _forget(self, child: Child) -> None:
        self.children.pop(child.key, None)
        if child.pid is not None:
            self._by_pid.pop(child.pid, None)

    def _dead(self, child: Child) -> None:
        if child.pid is not None:
            self._by_pid.pop(child.pid, None)
        child.pid = None
        child.restarting = False

    def _halt(self, child: Child) -> Steps:
        """Stop one child, if it is up; a temporary one is forgotten."""
        if child.pid is not None:
            reason = yield Halt(child.pid, child.spec)
            if _is_odd(child.spec, reason):
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
        if self.intensity.record(self._now):
            yield from self._restart(child)
            return
        yield Report("reached_max_restart_intensity", child.key, None)
        self._gone(child)
        yield from self._close(SHUTDOWN)

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


@final
class StaticMachine(Machine):
    """A fixed order of children: one_for_one, one_for_all, rest_for_one."""

    def __init__(self, flags: Flags, specs: Iterable[ChildSpec]) -> None:
        super().__init__(flags)
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

    def _group(self, child: Child) -> list[Child]:
        """Who is restarted when `child` dies, in start order."""
        everyone = list(self.children.values())
        match self.flags.strategy:
            case "one_for_all":
                return everyone
            case "rest_for_one":
                return everyone[everyone.index(child) :]
            case _:
                return [child]

    def _restart(self, child: Child) -> Steps:
        group = self._group(child)
        child.restarting = False
        for member in reversed(group):
            if member is not child:
                yield from self._halt(member)
        for member in group:
            if member.key not in self.children:
                continue  # a temporary sibling does not come back (S15)
            outcome = yield Launch(member.spec)
            if not self._settle(member, outcome):
                assert isinstance(outcome, Failed)
                yield Report("start_error", member.key, outcome.reason)
                member.restarting = True
                yield TryAgain(member.key)
                return

    def _stop_all(self) -> Steps:
        for child in reversed(list(self.children.values())):
            yield from self._halt(child)

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        match request:
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
                if child is None:
                    return Refusal("not_found")
                if child.state != "down":
                    return Refusal("running" if child.state == "up" else "restarting", child.pid)
                self._forget(child)
                return None
            case WhichChildren():
                return [
                    ChildInfo(child.spec.id, child.pid, child.state, child.spec.type)
                    for child in reversed(list(self.children.values()))
                ]
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
            check_combination(spec, self.flags)
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
        if child is None:
            return Refusal("not_found")
        if child.state != "down":
            return Refusal("running" if child.state == "up" else "restarting", child.pid)
        outcome = yield Launch(child.spec)
        if not self._settle(child, outcome):
            assert isinstance(outcome, Failed)
            return Refusal("start_failed", outcome.reason)
        return child.pid


@final
class DynamicMachine(Machine):
    """Children that come and go, each restarted alone, stopped all at once (S16, S42, S46, S48)."""

    def __init__(self, flags: Flags, template: ChildSpec | None = None) -> None:
        super().__init__(flags)
        # With a template: OTP's simple_one_for_one. Without: each child brings its own spec.
        self.template = template
        self._last = 0

    def _boot(self) -> Steps:
        yield Started()

    def _restart(self, child: Child) -> Steps:
        child.restarting = False
        outcome = yield Launch(child.spec)
        if self._settle(child, outcome):
            if child.pid is None:
                self._forget(child)  # ignored at a restart: dropped, unlike OTP's quirk S68
            return
        assert isinstance(outcome, Failed)
        yield Report("start_error", child.key, outcome.reason)
        child.restarting = True
        yield TryAgain(child.key)

    def _gone(self, child: Child) -> None:
        self._forget(child)

    def _stop_all(self) -> Steps:
        up = [(child.pid, child.spec) for child in self.children.values() if child.pid is not None]
        if up:
            reasons = yield HaltAll(tuple(up))
            assert isinstance(reasons, list)
            for (_, spec), reason in zip(up, reasons, strict=True):
                if _is_odd(spec, reason):
                    yield Report("shutdown_error", spec.id, reason)
        self.children.clear()
        self._by_pid.clear()

    def _serve(self, request: object) -> Generator[Effect, object, object]:
        match request:
            case StartChild(spec) if self.template is None:
                return (yield from self._start_child(spec))
            case StartWith(args) if self.template is not None:
                spec = replace(self.template, args=(*self.template.args, *args))
                return (yield from self._start_child(spec))
            case TerminateChild(pid):
                if not isinstance(pid, Pid):
                    return Refusal("not_offered", "children of a dynamic supervisor are known by pid")
                child_or_none = self._by_pid.get(pid)
                if child_or_none is None:
                    return None if pid._process is None else Refusal("not_found")
                child = child_or_none
                yield from self._halt(child)
                self._forget(child)
                return None
            case WhichChildren():
                return [
                    ChildInfo(child.spec.id, child.pid, child.state, child.spec.type)
                    for child in self.children.values()
                ]
            case CountChildren():
                counted = self._count()
                return counted if self.template is None else replace(counted, specs=1)
            case GetChildSpec(pid):
                found = self._by_pid.get(pid) if isinstance(pid, Pid) else None
                return found.spec if found is not None else Refusal("not_found")
            case Gauge():
                return self.gauge(self._now)
            case _:
                return Refusal("not_offered", request)

    def _start_child(self, spec: ChildSpec) -> Generator[Effect, object, object]:
        try:
            check_combination(spec, self.flags)
        except BadCombination as error:
            return Refusal("bad_combination", str(error))
        outcome = yield Launch(spec)
        self._last += 1
        child = Child(self._last, spec)
        if not self._settle(child, outcome):
            assert isinstance(outcome, Failed)
            return Refusal("start_failed", outcome.reason)
        if child.pid is not None:
            self.children[child.key] = child
        return child.pid


def _is_odd(spec: ChildSpec, reason: object) -> bool:
    """Whether a stopped child ended in a way worth a report (S35)."""
    if reason is SHUTDOWN or (spec.shutdown == "brutal_kill" and reason is KILLED):
        return False
    return not (spec.restart != "permanent" and (reason is NORMAL or type(reason) is Shutdown))
