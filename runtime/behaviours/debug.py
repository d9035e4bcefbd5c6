"""Watching one process: its messages written to the log, kept, counted, or shown to functions of your own.

A process that nobody watches has no `Debug` and pays nothing; a behaviour looks for one after it has served
a system message only, because nothing else can bring one. Use `runtime.sys` to watch a process; this is what
a behaviour reports to. Source: OTP `sys.erl`, its debug functions; rules Y7, Y9.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

from ..errors import Misuse
from ..kernel.exits import ProcessExit, shown
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.table import redacted

# Below the name that the host's settings know; a trace is written at level INFO.
logger = logging.getLogger("banyan.trace")

# How many events are kept unless said otherwise (OTP's number).
KEPT_EVENTS = 10


@final
@dataclass(frozen=True, slots=True)
class In:
    """A message that a behaviour is about to handle; `kind` says as what: call, cast, info, event and so on."""

    kind: str
    message: object


@final
@dataclass(frozen=True, slots=True)
class Out:
    """A reply or message that leaves, `to` a Caller, a pid or a name."""

    value: object
    to: object


@final
class DoneType:
    """The type of DONE."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DONE"


# What a debug function returns to be removed (OTP: `done`).
DONE = DoneType()

# (its own state, the event, whose event) -> its next state, or DONE.
DebugFunction: TypeAlias = Callable[[Any, object, Pid], object]


@final
@dataclass(frozen=True, slots=True)
class Install:
    """A debug function as a start option: `start(Counter, debug=[Install(function, state)])`.

    `id` tells several uses of one function apart; without it the function is its own id.
    """

    function: DebugFunction
    state: object = None
    id: Hashable = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise Misuse(f"a debug function is called as function(state, event, pid), got {self.function!r}")

    @property
    def key(self) -> Hashable:
        """Under what it is found again."""
        return self.function if self.id is None else self.id


DebugOption: TypeAlias = "Literal['trace', 'log', 'statistics'] | tuple[Literal['log'], int] | Install"


@final
@dataclass(frozen=True, slots=True)
class Statistics:
    """What has been counted of a process. Times are the World's wall clock, in seconds since 1970.

    `messages_in` counts what it handled, `messages_out` the replies that it gave by returning them.
    """

    start_time: float
    current_time: float
    messages_in: int
    messages_out: int


@final
class Debug:
    """All that watches one process. Lies at `process.debug`, which is None when nothing does."""

    __slots__ = ("__counted", "__functions", "__kept", "__trace")

    def __init__(self) -> None:
        self.__trace = False
        self.__kept: deque[object] | None = None
        # Since when, how many in, how many out.
        self.__counted: tuple[float, int, int] | None = None
        self.__functions: dict[Hashable, tuple[DebugFunction, object]] = {}

    def __bool__(self) -> bool:
        return self.__trace or self.__kept is not None or self.__counted is not None or bool(self.__functions)

    def report(self, process: Process, event: object) -> None:
        """Show an event of `process` to all that watch it; nothing that they do harms the process."""
        if self.__kept is not None:
            self.__kept.append(event)
        if self.__counted is not None:
            since, came, left = self.__counted
            self.__counted = since, came + (type(event) is In), left + (type(event) is Out)
        if self.__trace:
            logger.info("%s", line(process, event))
        for key, (function, state) in tuple(self.__functions.items()):
            try:
                after = function(state, event, process.pid)
            except (Exception, ProcessExit) as error:  # a watcher's failure is its own: it goes, the process stays
                logger.info("%s: a debug function failed and was removed: %s", process.pid, shown(error))
                after = DONE
            if after is DONE:
                self.__functions.pop(key, None)
            elif key in self.__functions:
                self.__functions[key] = function, after
        if not self and process.debug is self:
            process.debug = None

    # -- what is watched -----------------------------------------------------------------------------

    def trace(self, on: bool) -> None:
        """Write each event to the log, or stop doing so."""
        self.__trace = on

    def keep(self, count: int) -> None:
        """Keep the last `count` events, with those kept already; 0: none."""
        self.__kept = deque(self.__kept or (), maxlen=count) if count else None

    @property
    def kept(self) -> list[object]:
        """The events that were kept, oldest first."""
        return list(self.__kept or ())

    def count(self, now: float | None) -> None:
        """Count from `now` on, unless it counts already; None: stop."""
        if now is None:
            self.__counted = None
        elif self.__counted is None:
            self.__counted = now, 0, 0

    def counted(self, now: float) -> Statistics | None:
        """What was counted until `now`."""
        if self.__counted is None:
            return None
        since, came, left = self.__counted
        return Statistics(since, now, came, left)

    def install(self, option: Install) -> None:
        """Add a function; one that is there under that id stays as it is."""
        self.__functions.setdefault(option.key, (option.function, option.state))

    def installed(self, key: Hashable) -> object:
        """The state of the function with that id; None if there is none."""
        return self.__functions.get(key, (None, None))[1]

    def remove(self, key: Hashable) -> None:
        """Remove a function, if it is there."""
        self.__functions.pop(key, None)

    @property
    def what(self) -> tuple[str, ...]:
        """What watches, in words: trace, log, statistics, and each function's id."""
        found = [("trace", self.__trace), ("log", self.__kept is not None), ("statistics", self.__counted is not None)]
        return (*(word for word, on in found if on), *(_named(key) for key in self.__functions))


def debug_of(options: Iterable[DebugOption], process: Process) -> Debug | None:
    """What `debug=` of a start asks for; None if that is nothing. Raises Misuse for what is no option."""
    debug = Debug()
    for option in options:
        match option:
            case "trace":
                debug.trace(True)
            case "log":
                debug.keep(KEPT_EVENTS)
            case ("log", int(count)) if count > 0:
                debug.keep(count)
            case "statistics":
                debug.count(process.table.world.wall())
            case Install():
                debug.install(option)
            case other:
                raise Misuse(
                    f"debug takes 'trace', 'log', ('log', n), 'statistics' and Install(function), got {other!r}"
                )
    return debug or None


def line(process: Process, event: object) -> str:
    """An event as a person reads it; the process says what must not be seen of it (N29)."""
    match event:
        case In(kind, message):
            return f"{process.pid} got {kind} {redacted(process.behaviour, message) or None}"
        case Out(value, to):
            text = redacted(process.behaviour, value) or None
            return f"{process.pid} sent {text} to {'its caller' if isinstance(to, Caller) else shown(to)}"
    return f"{process.pid} event {redacted(process.behaviour, event)}"


def _named(key: Hashable) -> str:
    name = getattr(key, "__qualname__", None)
    return name if isinstance(name, str) else shown(key)
