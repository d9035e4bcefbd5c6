"""A state machine: a process whose state says how it handles an event, and which may put an event off.

A complete example:

    >>> import trio
    >>> from runtime import Call, call, message, start
    >>> from supervisors import Node
    >>> @message("docs.enter_code")
    ... class EnterCode(Call[bool]):
    ...     code: str
    >>> @message("docs.walk_in")
    ... class WalkIn(Call[str]):
    ...     pass
    >>> class Door(GenStatem[str, str]):
    ...     callback_mode = "state_functions"        # each state is a method; the data are the right code
    ...
    ...     def init(self, code):
    ...         return Init("locked", code)
    ...
    ...     def locked(self, kind, content, code):
    ...         match kind, content:
    ...             case CallFrom(caller), EnterCode(entered) if entered == code:
    ...                 return NextState("open", code, ReplyTo(caller, True), StateTimeout(10.0))
    ...             case CallFrom(caller), EnterCode():
    ...                 return KeepStateAndData(ReplyTo(caller, False))
    ...             case CallFrom(), WalkIn():
    ...                 return KeepStateAndData(Postpone())
    ...
    ...     def open(self, kind, content, code):
    ...         match kind, content:
    ...             case CallFrom(caller), WalkIn():
    ...                 return KeepStateAndData(ReplyTo(caller, "welcome"))
    ...             case "state_timeout", _:
    ...                 return NextState("locked", code)
    >>> async def main():
    ...     async with Node("docs"):
    ...         door = await start(Door, "1234")
    ...         async def walk_in():
    ...             said.append(await call(door, WalkIn()))      # waits while the door is locked
    ...         said = []
    ...         async with trio.open_nursery() as guests:
    ...             guests.start_soon(walk_in)
    ...             print(await call(door, EnterCode("0000")))
    ...             print(await call(door, EnterCode("1234")))
    ...         print(said)
    >>> trio.run(main)
    False
    True
    ['welcome']

**Callbacks.** With `callback_mode = "handle_event_function"` (the default) `handle_event(kind, content, state,
data)` gets every event, and a state may be any value with an equality. With `"state_functions"` a state is a
string, and the method of that name gets `(kind, content, data)`. `kind` is `CallFrom(caller)`, `"cast"`,
`"info"`, `"internal"`, `"timeout"`, `"state_timeout"` or `NamedTimeout(name)`. With `state_enter = True` each
state is also called when it is entered: `kind` is `"enter"`, and `content` the state before (in the first call,
the state itself).

A callback returns `NextState`, `KeepState`, `KeepStateAndData` (or `KEEP_STATE_AND_DATA`), `RepeatState`,
`RepeatStateAndData`, `Stop` or `StopAndReply`; all but the last two take actions. Anything else, None
too, ends the process with `BadReturn(value)`: so a `match` that has no case for an event is found at once,
as it is in OTP. A callback is a plain function unless it must wait; while it waits nothing else is handled.

**Order.** After a transition come the events of `NextEvent`, in the order of the actions; then, if the state
changed, the postponed ones, oldest first; then what was still to be retried; then timeouts of 0 seconds; then
the mailbox. State and data are values: a callback that fails has changed neither, and `terminate(reason, state,
data)` sees those from before it (in an enter call, the new ones). Attributes of the instance are not part of
that.

**Child spec**: `child("door", Door, "1234", name="front_door")`. It exits and restarts as a server does: what a
callback raises is its reason, a `Crash(error)`, after `terminate`; a new instance begins with `init`. Postponed
and queued events are lost then, and their callers get `CalleeExited`.

Do not use it where one way to handle each request does for all states: a server is simpler. Nor for state that
must survive a crash (that is `EventSourced`). Source: OTP `gen_statem.erl`; rules M1-M32.
"""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import iscoroutinefunction
from types import CoroutineType
from typing import Any, ClassVar, Generic, Literal, final

import trio

from ..errors import Misuse
from ..kernel.api import reply
from ..kernel.exits import NORMAL, ProcessExit
from ..kernel.fairness import BATCH, give_way
from ..kernel.ids import Pid
from ..kernel.parking import park
from ..kernel.process import Body, Process, reason_of
from ..kernel.requests import Asker, Caller, SystemCaller
from ..kernel.signals import Exit
from ..kernel.table import redacted
from .debug import In, Out
from .gen import IGNORE, Ack, Behaviour
from .gen_server import BadReturn, CastEnvelope, Stop
from .statem_actions import (
    KEEP_STATE_AND_DATA,
    UNCHANGED,
    Action,
    BadAction,
    BadReplyAction,
    BadStateEnterAction,
    BadStateEnterReturn,
    CallFrom,
    ChangeCallbackModule,
    Data,
    EventTimeout,
    EventType,
    GenericTimeout,
    Hibernate,
    Init,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    State,
    StateCallbackResult,
    StateTimeout,
    StopAndReply,
    Unchanged,
    named,
)
from .statem_machine import NO_REPLY, Event, Machine, ModuleChanged, RunningTimeout, StartTimeout, Step, Then
from .system import Ending, serve_system

CallbackMode = Literal["handle_event_function", "state_functions"]


class GenStatem(Behaviour, Generic[State, Data]):
    """The base of a state machine. Override the callbacks you need; see the module for an example.

    Class attributes that a subclass may set, besides those of `Behaviour`:

    - `callback_mode`: "handle_event_function" or "state_functions" (M1).
    - `state_enter`: whether states are called when they are entered (M3).
    """

    callback_mode: ClassVar[CallbackMode] = "handle_event_function"
    state_enter: ClassVar[bool] = False

    __machine: Machine

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.callback_mode not in ("handle_event_function", "state_functions"):
            raise Misuse(
                f"{cls.__qualname__}.callback_mode is handle_event_function or state_functions, "
                f"got {cls.callback_mode!r}"
            )
        cls._behaviour_scoped = any(iscoroutinefunction(getattr(cls, name)) for name in dir(cls) if name[0] != "_")

    # -- callbacks -----------------------------------------------------------------------------------

    def init(self, *args: Any) -> Any:
        """Runs first, with the arguments of the start; the starter waits for it, not for the first enter call.

        Returns: `Init(state, data, *actions)`; `Stop(reason)` to fail; `IGNORE`.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no init: what is its first state?")

    def handle_event(
        self, kind: EventType, content: Any, state: State, data: Data
    ) -> StateCallbackResult[State, Data] | Awaitable[StateCallbackResult[State, Data]]:
        """Runs for each event, and for enter calls, unless states are functions."""
        raise NotImplementedError(f"{type(self).__qualname__} got {content!r} ({kind!r}) but has no handle_event")

    def terminate(self, reason: object, state: State, data: Data) -> Any:
        """Runs before the end, as that of a server does (N19). What it raises becomes the exit reason."""
        return None

    def state(self) -> tuple[State, Data]:
        """State and data, as `sys.get_state` shows them (Y4), and `code_change` gets and returns them."""
        return self.__machine.state, self.__machine.data

    def replace_state(self, state: Any) -> None:
        """Take on other state and data, as a pair (Y5). This is no change of state: no enter call, no retry."""
        if type(state) is not tuple or len(state) != 2:
            raise Misuse(f"a {type(self).__qualname__} is replaced by a pair of state and data, got {state!r}")
        self.__machine.replace(*state)

    def summary(self) -> str:
        """Which state it is in."""
        return f"in {self.__where()}"

    def crash_context(self) -> str:
        """Where it was when it ended, for its crash report."""
        machine = self.__machine
        return f"in {self.__where()}, {len(machine.queue)} queued, {len(machine.postponed)} postponed"

    def __where(self) -> str:
        machine = self.__machine
        return f"state {redacted(self, machine.state) or None}" if machine.up else "init"

    # -- the process ---------------------------------------------------------------------------------

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        module = cls()
        process.behaviour = module
        module.__machine = Machine(module, module.__load)
        if iscoroutinefunction(module.init):
            return module.__live, (ack, args)
        first = module.init(*args)
        ended = module.__judge(ack, first)
        if ended is not None:
            process.end(ended.reason)
            return None
        return module.__live, None

    def __judge(self, ack: Ack, first: object) -> Stop | None:
        """What `init` has returned: tell the starter; a Stop if the process is to end."""
        if first is IGNORE:
            ack.ignore()
            return Stop(NORMAL)
        if type(first) is Stop and first.reply is NO_REPLY:
            return first
        if not isinstance(first, Init):
            return Stop(BadReturn(first))
        self.__machine.started(first.state, first.data, first.actions)
        ack.ok()
        return None

    def __load(self, module: object) -> GenStatem[Any, Any]:
        """The instance whose callbacks are to rule from now on (M29)."""
        if not (isinstance(module, type) and issubclass(module, GenStatem)):
            raise Misuse(f"a callback module is a GenStatem class, got {module!r}")
        loaded = module()
        loaded.__machine = self.__machine
        return loaded

    async def __live(self, process: Process, waits: tuple[Ack, tuple[Any, ...]] | None) -> object:
        """Handle events until something says stop, then run `terminate`; returns the exit reason.

        `waits` are the starter and the arguments of an `init` that is yet to run, because it waits.
        """
        machine = self.__machine
        try:
            if waits is not None:
                ack, args = waits
                ended = self.__judge(ack, await self.__wait(process, self.init(*args)))
                if ended is not None:
                    return ended.reason
            reason = await self.__serve(process, machine.begin())
        except BaseException as error:  # a callback's failure is this process's exit reason
            if process.exiting is not None or process.current.__class__ is Ack:
                raise  # killed, or a signal took it, or it is not up yet: no callback runs any more
            reason, passing = reason_of(error)
            if passing is not None:
                raise  # the host's
            machine.end(reason)
        return await self.__finish(process, reason)

    async def __serve(self, process: Process, step: Step) -> object:
        """Handle one event after the other, as `step` says at first; returns the reason to stop."""
        machine = self.__machine
        task = process.task
        assert task is not None
        budget = BATCH
        while True:
            self.__perform(process)
            if step is Then.ENTER:
                if budget <= 0:  # an enter call may repeat itself for ever
                    budget = await give_way(process)
                budget -= 1
                if process.debug is not None:
                    process.debug.report(process, ("enter", machine.new_state))
                result = self.__call(process, "enter", machine.state)
                if type(result) is CoroutineType:
                    result = await self.__wait(process, result)
                step = machine.handled(result)
                continue
            if isinstance(step, Ending):
                return step.reason
            process.current = None
            if process.exiting is not None:
                # A signal that came while we ran could not wake us: look before every event and every wait.
                raise ProcessExit(process.exiting)
            if machine.idle and not process.mailbox:
                task.custom_sleep_data = process
                await park()
                budget, process.since = process.budget, 0.0
                continue
            if budget <= 0:
                budget = await give_way(process)
                continue
            budget -= 1
            event = machine.take() or await self.__receive(process)
            if isinstance(event, Ending):
                return event.reason
            if event is None:
                continue
            process.current = event
            if process.debug is not None:
                process.debug.report(process, In(named(event.kind), event.content))
            result = self.__call(process, event.kind, event.content)
            if type(result) is CoroutineType:
                result = await self.__wait(process, result)
            step = machine.handled(result)

    async def __receive(self, process: Process) -> Event | Ending | None:
        """Take a message; the event that it means, now in hand, or None if it means none; or the word to end."""
        assert process.mailbox
        message = process.mailbox.popleft()
        if process.uncounted or process.senders:
            message = process.took(message)
        if isinstance(message, SystemCaller):
            return await serve_system(process, self.__module(), message)
        if type(message) is Exit and message.source == process.parent:
            return Ending(message.reason)  # the parent's word (N20)
        return self.__event(process, message)

    def __event(self, process: Process, message: object) -> Event | None:
        """A message as an event, now in hand; None for a timeout that was cancelled meanwhile."""
        machine = self.__machine
        kind = type(message)
        if kind is RunningTimeout:
            return machine.expired(message)  # type: ignore[arg-type]  # by its kind
        if kind is CastEnvelope:
            return machine.receive(Event("cast", message.request))  # type: ignore[attr-defined]  # by its kind
        if kind is Caller or kind is Asker:
            assert isinstance(message, Caller)
            # From now on, so that our end tells it wherever its event is then: in hand, queued or postponed.
            if process.deferred is None:
                process.deferred = {}
            process.deferred[message] = None
            return machine.receive(Event(CallFrom(message), message.request))
        return machine.receive(Event("info", message))

    def __module(self) -> GenStatem[Any, Any]:
        """Whose callbacks are in force."""
        module = self.__machine.modules[-1]
        assert isinstance(module, GenStatem)
        return module

    def __call(self, process: Process, kind: EventType, content: object) -> object:
        """What the callback returns for an event, or an enter call; a coroutine if it waits."""
        if process.exiting is not None:
            raise ProcessExit(process.exiting)  # killed in an async callback: no other one runs any more
        module, state, data = self.__module(), self.__machine.new_state, self.__machine.new_data
        if module.callback_mode == "state_functions":
            function = getattr(module, state, None) if isinstance(state, str) and state not in _TAKEN else None
            if function is None:
                raise NotImplementedError(
                    f"{type(module).__qualname__} has no function for the state {state!r}: write a method of that "
                    "name, which is none of GenStatem's own"
                )
            return function(kind, content, data)
        return module.handle_event(kind, content, state, data)

    @staticmethod
    async def __wait(process: Process, waiting: CoroutineType[Any, Any, Any]) -> object:
        """Wait for an async callback, in a cancel scope, so that a signal can end the wait.

        A process whose own class has async callbacks has one all its life; others may need one for a moment,
        for a callback of another class, or a plain function that returned a coroutine.
        """
        if process.scope is not None:
            return await waiting
        with trio.CancelScope() as scope:
            process.scope = scope
            try:
                return await waiting
            finally:
                process.scope = None
        raise ProcessExit(process.exiting)

    def __perform(self, process: Process) -> None:
        """Do what the machine asked for, in order."""
        effects = self.__machine.effects
        timers = process.table.timers
        for effect in effects:
            match effect:
                case ReplyTo(caller, value):
                    if process.debug is not None:
                        process.debug.report(process, Out(value, caller))
                    reply(caller, value)
                case StartTimeout(timeout, time, absolute):
                    timers.watch(_Alarm(process.pid, timeout), max(0.0, time - timers.clock()) if absolute else time)
                case ModuleChanged(module):
                    process.behaviour = module
        effects.clear()

    async def __finish(self, process: Process, reason: object) -> object:
        """Run `terminate`, whose failure replaces the reason (N18)."""
        machine = self.__machine
        if process.exiting is not None:
            raise ProcessExit(process.exiting)  # killed in a callback that came to an end all the same
        self.__perform(process)
        try:
            done = self.__module().terminate(reason, machine.state, machine.data)
            if type(done) is CoroutineType:
                await self.__wait(process, done)
        except BaseException as error:  # a failing terminate replaces the reason
            if process.exiting is not None:
                raise
            reason, passing = reason_of(error)
            if passing is not None:
                raise  # the host's
        return reason


# What no state may be called.
_TAKEN = frozenset(dir(GenStatem))


@final
class _Alarm:
    """A timeout on the node's clock: puts itself into the mailbox when it is due."""

    __slots__ = ("due", "pid", "timeout")

    def __init__(self, pid: Pid, timeout: RunningTimeout) -> None:
        # Not the process, which a long timeout would keep from being freed.
        self.pid = pid
        self.timeout = timeout
        self.due = 0.0

    @property
    def waiting(self) -> bool:
        return self.timeout.waiting

    def expire(self) -> None:
        self.timeout.waiting = False
        process = self.pid._process
        if process is not None:
            process.post(self.timeout)


# All names of this chapter, wherever they are defined.
__all__ = [
    "KEEP_STATE_AND_DATA",
    "UNCHANGED",
    "Action",
    "BadAction",
    "BadReplyAction",
    "BadStateEnterAction",
    "BadStateEnterReturn",
    "CallFrom",
    "CallbackMode",
    "ChangeCallbackModule",
    "EventTimeout",
    "EventType",
    "GenStatem",
    "GenericTimeout",
    "Hibernate",
    "Init",
    "KeepState",
    "KeepStateAndData",
    "NamedTimeout",
    "NextEvent",
    "NextState",
    "PopCallbackModule",
    "Postpone",
    "PushCallbackModule",
    "RepeatState",
    "RepeatStateAndData",
    "ReplyTo",
    "StateCallbackResult",
    "StateTimeout",
    "StopAndReply",
    "Unchanged",
]
