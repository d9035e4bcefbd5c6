"""The machine inside a state machine: which event is next, and what a callback's result makes of it all.

Pure: it runs no callback of a state, asks no clock and posts no message. `take` gives the next event and
`expired` the one of a timeout; the shell runs the callback and hands its result to `handled`, which says what
comes after: an enter call, the next event, or the end. Replies and timeouts to start come out in `effects`, to
be done in order, before anything else.

**Order** (M9, M10). Events that were taken but not handled lie in `queue`. A transition puts the inserted ones
at its head; behind these, after a change of state, come the postponed ones, oldest first. When the queue is
empty, zero timeouts are next, and only then the mailbox.

**Timeouts** (M12-M19). A kind has at most one: either it runs on a clock, and `running` knows it, or it is a
zero timeout that waits in `zero`. All that one transition asks about a kind is decided by the last word on it,
once the event's callback and the enter call have both spoken. A timeout that was cancelled or set anew may be
in the mailbox already: it is told by its identity and dropped (M17). So is the timer that OTP 25 loses when a
running timeout replaces a zero one (M32): here the zero one just goes.

Source: OTP `gen_statem.erl`, its loop; rules M5-M32.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final

from .gen_server import BadReturn, Stop
from .statem_actions import (
    Action,
    BadAction,
    BadReplyAction,
    BadStateEnterAction,
    BadStateEnterReturn,
    ChangeCallbackModule,
    EventTimeout,
    EventType,
    GenericTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    StateTimeout,
    StopAndReply,
    Timeouts,
    TimeoutType,
    Unchanged,
)
from .system import Ending


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One event: its kind and what it brings."""

    kind: EventType
    content: Any

    @property
    def request(self) -> Any:
        """What crash reports and views show of it."""
        return self.content


@final
class RunningTimeout:
    """A timeout on the clock; when it expires it lies in the mailbox itself."""

    __slots__ = ("content", "kind", "waiting")

    def __init__(self, kind: TimeoutType, content: object) -> None:
        self.kind = kind
        self.content = content
        # Whether it is still to expire.
        self.waiting = True


class Module(Protocol):
    """The callbacks in force, as far as the machine must know them."""

    @property
    def state_enter(self) -> bool: ...


@final
@dataclass(frozen=True, slots=True)
class StartTimeout:
    """An effect: let `timeout` expire after `time` seconds, or at the moment `time` if that is absolute."""

    timeout: RunningTimeout
    time: float
    absolute: bool


class Then(enum.Enum):
    """What comes after a result that was no end."""

    ENTER = enum.auto()
    NEXT = enum.auto()


@final
@dataclass(frozen=True, slots=True)
class ModuleChanged:
    """An effect: the callbacks of `module` are in force."""

    module: Module


Effect: TypeAlias = ReplyTo | StartTimeout | ModuleChanged
Step: TypeAlias = Then | Ending


# What `Stop` bears if it was made without a reply.
NO_REPLY = Stop(None).reply


@final
class Machine:
    """One state machine between its callbacks. `load` makes the instance of a class whose callbacks are to rule."""

    __slots__ = (
        "_entering",
        "_event",
        "_first",
        "_inserted",
        "_load",
        "_postpone",
        "_timeouts",
        "data",
        "effects",
        "modules",
        "new_data",
        "new_state",
        "postponed",
        "queue",
        "running",
        "state",
        "up",
        "zero",
    )

    def __init__(self, module: Module, load: Callable[[type], Module]) -> None:
        self._load = load
        # The last one's callbacks are in force; those below come back by PopCallbackModule.
        self.modules: list[Module] = [module]
        # Whether `init` has returned: there is no state before.
        self.up = False
        self.state: Any = None
        self.data: Any = None
        self.queue: deque[Event] = deque()
        self.postponed: list[Event] = []
        # Invariant: no kind is in both.
        self.running: dict[TimeoutType, RunningTimeout] = {}
        self.zero: dict[TimeoutType, object] = {}
        self.effects: list[Effect] = []
        # What `init` asked for, until that is done.
        self._first: tuple[Action, ...] = ()
        # The transition in hand: what the event's callback, and then the enter call, made of it.
        self.new_state: Any = None
        self.new_data: Any = None
        self._event: Event | None = None
        self._entering = False
        self._postpone = False
        self._inserted: list[Event] = []
        self._timeouts: dict[TimeoutType, Timeouts] = {}

    # -- which event is next -------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing waits inside, so that the mailbox is next."""
        return not self.queue and not self.zero

    def take(self) -> Event | None:
        """The next event that waits inside, now in hand; None: look into the mailbox."""
        if self.queue:
            return self.receive(self.queue.popleft())
        if self.zero:
            kind = next(iter(self.zero))
            return self.receive(Event(kind, self.zero.pop(kind)))
        return None

    def receive(self, event: Event) -> Event:
        """Take an event from outside in hand."""
        self._event = event
        self.new_state, self.new_data = self.state, self.data
        return event

    def expired(self, timeout: RunningTimeout) -> Event | None:
        """The event of a timeout that came by the mailbox, now in hand; None if it was cancelled meanwhile."""
        if self.running.get(timeout.kind) is not timeout:
            return None
        del self.running[timeout.kind]
        return self.receive(Event(timeout.kind, timeout.content))

    # -- what a callback made of it ------------------------------------------------------------------

    def started(self, state: object, data: object, actions: tuple[Action, ...]) -> None:
        """`init` has returned; `begin` will do what it asked for."""
        self.replace(state, data)
        self._first = actions
        self.up = True

    def begin(self) -> Step:
        """The first step: act as if entering the state of `init`; there is no event to postpone (M2)."""
        actions, self._first = self._first, ()
        return self._go_on(actions, enter=True)

    def handled(self, result: object) -> Step:
        """What the callback of the event in hand, or the enter call of its transition, has returned."""
        match result:
            case KeepStateAndData(actions):
                return self._go_on(actions, enter=False)
            case NextState(state, data, actions):
                changed = bool(state != self.new_state)
                if changed and self._entering:
                    return self.end(BadStateEnterReturn(result))
                self.new_data = data
                if changed:
                    self.new_state = state
                return self._go_on(actions, enter=changed)
            case KeepState(data, actions):
                self.new_data = data
                return self._go_on(actions, enter=False)
            case RepeatState(data, actions):
                self.new_data = data
                return self._go_on(actions, enter=True)
            case RepeatStateAndData(actions):
                return self._go_on(actions, enter=True)
            case Stop(reason, reply) if reply is NO_REPLY:
                return self.end(reason)
            case StopAndReply(reason, replies, data):
                if type(data) is not Unchanged:
                    self.new_data = data
                return self.end(self._reply(replies, reason))
        return self.end(BadReturn(result))

    def replace(self, state: object, data: object) -> None:
        """Take on another state and data between two events; this is no change of state."""
        self.state = self.new_state = state
        self.data = self.new_data = data

    def end(self, reason: object) -> Ending:
        """The end, also by a callback that failed: `state` and `data` are what the transition had come to (M23)."""
        self.state, self.data = self.new_state, self.new_data
        return Ending(reason)

    def _reply(self, replies: Iterable[object], reason: object) -> object:
        """Note the replies of a stop; its reason, or another one if there is anything else among them."""
        for reply in replies:
            if type(reply) is not ReplyTo:
                return BadReplyAction(reply)
            self.effects.append(reply)
        return reason

    def _go_on(self, actions: Iterable[object], *, enter: bool) -> Step:
        for action in actions:
            bad = self._act(action)
            if bad is not None:
                return self.end(bad)
        if enter and self.modules[-1].state_enter:
            self._entering = True
            return Then.ENTER
        self._transition()
        return Then.NEXT

    def _act(self, action: object) -> object:
        """Note, or do, one action; the exit reason if it cannot be."""
        match action:
            case ReplyTo():
                self.effects.append(action)
            case StateTimeout() | EventTimeout() | GenericTimeout():
                kind = action.kind
                # Out and in again: zero timeouts are delivered in the order of these last words (M12, M16).
                self._timeouts.pop(kind, None)
                self._timeouts[kind] = action
            case NextEvent(kind, content) if not self._entering:
                self._inserted.append(Event(kind, content))
            case Postpone(on) if not on or not self._entering:
                self._postpone = on
            case ChangeCallbackModule() | PushCallbackModule() | PopCallbackModule() if not self._entering:
                return self._change_module(action)
            case Hibernate():
                pass
            case NextEvent() | Postpone() | ChangeCallbackModule() | PushCallbackModule() | PopCallbackModule():
                return BadStateEnterAction(action)
            case _:
                return BadAction(action)
        return None

    def _change_module(self, action: ChangeCallbackModule | PushCallbackModule | PopCallbackModule) -> object:
        modules = self.modules
        if isinstance(action, PopCallbackModule):
            if len(modules) == 1:
                return BadAction(action)
            modules.pop()
        else:
            module = self._load(action.module)
            if isinstance(action, ChangeCallbackModule):
                modules.pop()
            modules.append(module)
        self.effects.append(ModuleChanged(modules[-1]))
        return None

    # -- the transition ------------------------------------------------------------------------------

    def _transition(self) -> None:
        """Everybody has spoken: change the state, or not."""
        queue = self.queue
        if self._postpone and self._event is not None:
            self.postponed.append(self._event)
        if self.new_state != self.state:
            queue.extendleft(reversed(self.postponed))
            self.postponed.clear()
            self._drop("state_timeout")
        self._drop("timeout")
        if self._timeouts:
            for kind, action in self._timeouts.items():
                self._set(kind, action)
            self._timeouts.clear()
        if self._inserted:
            queue.extendleft(reversed(self._inserted))
            self._inserted.clear()
        self.state, self.data = self.new_state, self.new_data
        self._event = None
        self._entering = self._postpone = False

    def _set(self, kind: TimeoutType, action: Timeouts) -> None:
        time, content = action.time, action.content
        if time == "update":
            if kind in self.running:
                self.running[kind].content = content
            else:
                self.zero[kind] = content
            return
        self._drop(kind)
        if isinstance(time, str) or time == math.inf:
            return  # cancelled
        if time == 0 and not action.absolute:
            self.zero[kind] = content
        else:
            self.running[kind] = timeout = RunningTimeout(kind, content)
            self.effects.append(StartTimeout(timeout, time, action.absolute))

    def _drop(self, kind: TimeoutType) -> None:
        self.zero.pop(kind, None)
        timeout = self.running.pop(kind, None)
        if timeout is not None:
            timeout.waiting = False
            timeout.content = None  # the clock may hold on to it until it would have been due
