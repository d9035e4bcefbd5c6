"""What the callbacks of a state machine are told and what they return: kinds of event, results, actions.

All are frozen values for `match`. `gen_statem` is the chapter on them. Source: OTP `gen_statem.erl`, its types
`event_type`, `action`, `state_callback_result`; rules M2-M30.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, final

from ..errors import Misuse
from ..kernel.exits import shown
from ..kernel.requests import Caller
from .gen_server import Stop

if TYPE_CHECKING:
    from .gen_statem import GenStatem

State = TypeVar("State")
Data = TypeVar("Data")
State_co = TypeVar("State_co", covariant=True)
Data_co = TypeVar("Data_co", covariant=True)


# -- kinds of event (M4) ------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class CallFrom:
    """The kind of a call's event: who asked, to be answered by `ReplyTo` (OTP: `{call, From}`)."""

    caller: Caller


@final
@dataclass(frozen=True, slots=True)
class NamedTimeout:
    """The kind of a generic timeout's event (OTP: `{timeout, Name}`)."""

    name: Hashable


TimeoutType: TypeAlias = Literal["timeout", "state_timeout"] | NamedTimeout
EventType: TypeAlias = (
    Literal["cast", "info", "internal", "enter", "timeout", "state_timeout"] | CallFrom | NamedTimeout
)


def named(kind: EventType) -> str:
    """A kind of event in words, as `sys.trace` and `sys.log` have it."""
    match kind:
        case CallFrom():
            return "call"
        case NamedTimeout(name):
            return f"timeout {shown(name)}"
        case _:
            return kind


_INSERTABLE = frozenset({"cast", "info", "internal", "timeout", "state_timeout"})


# -- actions ------------------------------------------------------------------------------------------

Time: TypeAlias = float | Literal["cancel", "update"]


@final
@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Reply to a call, this one or an earlier one; done at once, in the order of the actions (M20)."""

    caller: Caller
    value: object

    def __post_init__(self) -> None:
        if not isinstance(self.caller, Caller):
            raise Misuse(f"ReplyTo wants the caller of a CallFrom event, got {self.caller!r}")


@final
@dataclass(frozen=True, slots=True)
class Postpone:
    """Keep the event for later: it is retried after the next change of state (M11). Not in an enter call."""

    on: bool = True


@final
@dataclass(frozen=True, slots=True)
class NextEvent:
    """Insert an event, to be handled before all that wait (M9); it looks like a real one of its kind (M26)."""

    kind: EventType
    content: Any

    def __post_init__(self) -> None:
        kind: object = self.kind
        if type(kind) not in (CallFrom, NamedTimeout) and (type(kind) is not str or kind not in _INSERTABLE):
            raise Misuse(
                f"NextEvent wants a kind of event: {', '.join(sorted(_INSERTABLE))}, CallFrom(caller) or "
                f"NamedTimeout(name); got {kind!r}"
            )


@final
@dataclass(frozen=True, slots=True)
class StateTimeout:
    """Set the timeout of this state: it ends when the state changes (M13).

    Attributes:
        time: seconds from now. 0: as soon as no event is queued, before the mailbox (M16). `math.inf` or
            "cancel": stop it (M17). "update": change the content of the one that runs, at once if none does (M18).
        content: what its event brings.
        absolute: `time` is a moment of `trio.current_time()`, not a delay.
    """

    time: Time
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        _check_time(self.time, self.absolute)

    @property
    def kind(self) -> TimeoutType:
        return "state_timeout"


@final
@dataclass(frozen=True, slots=True)
class EventTimeout:
    """Set the event timeout: any event ends it, also an inserted or a retried one (M14). As `StateTimeout` else."""

    time: Time
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        _check_time(self.time, self.absolute)

    @property
    def kind(self) -> TimeoutType:
        return "timeout"


@final
@dataclass(frozen=True, slots=True)
class GenericTimeout:
    """Set the timeout `name`, which no event and no change of state ends (M15). As `StateTimeout` else."""

    name: Hashable
    time: Time
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, Hashable):
            raise Misuse(f"a timeout's name must be hashable, got {self.name!r}")
        _check_time(self.time, self.absolute)

    @property
    def kind(self) -> TimeoutType:
        return NamedTimeout(self.name)


@final
@dataclass(frozen=True, slots=True)
class Hibernate:
    """OTP's `hibernate`: accepted, and without effect, for there is no stack to drop (N26)."""

    on: bool = True


@final
@dataclass(frozen=True, slots=True)
class ChangeCallbackModule:
    """Go on with another class's callbacks (M29): this state, its data, events and timeouts are theirs now."""

    module: type[GenStatem[Any, Any]]


@final
@dataclass(frozen=True, slots=True)
class PushCallbackModule:
    """Like `ChangeCallbackModule`; `PopCallbackModule` brings the present class back."""

    module: type[GenStatem[Any, Any]]


@final
@dataclass(frozen=True, slots=True)
class PopCallbackModule:
    """Go back to the callbacks before the last `PushCallbackModule`."""


Timeouts: TypeAlias = StateTimeout | EventTimeout | GenericTimeout
ModuleChange: TypeAlias = ChangeCallbackModule | PushCallbackModule | PopCallbackModule
Action: TypeAlias = ReplyTo | Postpone | NextEvent | Timeouts | Hibernate | ModuleChange


def _check_time(time: object, absolute: bool) -> None:
    if type(time) is str and time in ("cancel", "update"):
        return
    if isinstance(time, (int, float)) and not isinstance(time, bool) and (time >= 0 or (absolute and time < 0)):
        return
    raise Misuse(f'a timeout\'s time is seconds from 0 up, math.inf, "cancel" or "update", got {time!r}')


# -- results ------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, init=False)
class Init(Generic[State_co, Data_co]):
    """What `init` returns: the first state, the data, and actions as of entering that state (M2)."""

    state: State_co
    data: Data_co
    actions: tuple[Action, ...]

    def __init__(self, state: State_co, data: Data_co, *actions: Action) -> None:
        object.__setattr__(self, "state", state)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "actions", actions)


@final
@dataclass(frozen=True, slots=True, init=False)
class NextState(Generic[State_co, Data_co]):
    """Go to a state, which is a change only if it is not the present one (M5), with other data."""

    state: State_co
    data: Data_co
    actions: tuple[Action, ...]

    def __init__(self, state: State_co, data: Data_co, *actions: Action) -> None:
        object.__setattr__(self, "state", state)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "actions", actions)


@final
@dataclass(frozen=True, slots=True, init=False)
class KeepState(Generic[Data_co]):
    """Stay, with other data."""

    data: Data_co
    actions: tuple[Action, ...]

    def __init__(self, data: Data_co, *actions: Action) -> None:
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "actions", actions)


@final
@dataclass(frozen=True, slots=True, init=False)
class KeepStateAndData:
    """Stay as it is. `KEEP_STATE_AND_DATA` is the one without actions."""

    actions: tuple[Action, ...]

    def __init__(self, *actions: Action) -> None:
        object.__setattr__(self, "actions", actions)


@final
@dataclass(frozen=True, slots=True, init=False)
class RepeatState(Generic[Data_co]):
    """Stay, with other data, and run the enter call again if the class has them (M6)."""

    data: Data_co
    actions: tuple[Action, ...]

    def __init__(self, data: Data_co, *actions: Action) -> None:
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "actions", actions)


@final
@dataclass(frozen=True, slots=True, init=False)
class RepeatStateAndData:
    """Stay as it is, and run the enter call again if the class has them (M6)."""

    actions: tuple[Action, ...]

    def __init__(self, *actions: Action) -> None:
        object.__setattr__(self, "actions", actions)


@final
class Unchanged:
    """The type of UNCHANGED: in the place of data that stay as they are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()


@final
@dataclass(frozen=True, slots=True, init=False)
class StopAndReply(Generic[Data_co]):
    """End with `reason`, after these replies and then `terminate` (M22).

    With `data`, `terminate` gets those; so it is also, without a reply, OTP's `{stop, Reason, NewData}`.
    """

    reason: object
    replies: tuple[ReplyTo, ...]
    data: Data_co | Unchanged

    def __init__(self, reason: object, *replies: ReplyTo, data: Data_co | Unchanged = UNCHANGED) -> None:
        object.__setattr__(self, "reason", reason)
        object.__setattr__(self, "replies", replies)
        object.__setattr__(self, "data", data)


KEEP_STATE_AND_DATA = KeepStateAndData()

StateCallbackResult: TypeAlias = (
    NextState[State, Data]
    | KeepState[Data]
    | KeepStateAndData
    | RepeatState[Data]
    | RepeatStateAndData
    | Stop
    | StopAndReply[Data]
)


# -- exit reasons of their own ------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class BadAction:
    """The exit reason after an action that is none (OTP: `bad_action_from_state_function`)."""

    action: object


@final
@dataclass(frozen=True, slots=True)
class BadStateEnterAction:
    """The exit reason after an action that an enter call may not ask for (M7)."""

    action: object


@final
@dataclass(frozen=True, slots=True)
class BadStateEnterReturn:
    """The exit reason after an enter call that would change the state (M7)."""

    value: object


@final
@dataclass(frozen=True, slots=True)
class BadReplyAction:
    """The exit reason after a `StopAndReply` with anything but replies; those before it were given."""

    action: object
