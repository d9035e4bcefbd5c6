"""Exit reasons: plain values that say why a process ended, and the one exception that ends a process.

Any value but None can be a reason. Those that OTP gives a meaning have a name here: `NORMAL`, `SHUTDOWN`,
`Shutdown(detail)`, `KILL`, `KILLED`, `NOPROC`, `NOCONNECTION`. An uncaught exception becomes
`Crash(error)`. Source: rules P1-P14; OTP Reference Manual, "Processes, Receiving Exit Signals".
"""

from __future__ import annotations

import enum
import traceback
from typing import NoReturn, final

from ..errors import BanyanError, Misuse


@final
class ExitReason(enum.Enum):
    """The reasons that OTP writes as atoms of its own."""

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    KILL = "kill"
    KILLED = "killed"
    NOPROC = "noproc"
    NOCONNECTION = "noconnection"

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.value


NORMAL = ExitReason.NORMAL
SHUTDOWN = ExitReason.SHUTDOWN
KILL = ExitReason.KILL
KILLED = ExitReason.KILLED
NOPROC = ExitReason.NOPROC
NOCONNECTION = ExitReason.NOCONNECTION


@final
class Shutdown:
    """An orderly end with a detail: OTP's `{shutdown, Detail}`. Makes no crash report."""

    __slots__ = ("detail",)
    __match_args__ = ("detail",)

    def __init__(self, detail: object) -> None:
        self.detail = detail

    def __eq__(self, other: object) -> bool:
        return type(other) is Shutdown and self.detail == other.detail

    def __hash__(self) -> int:
        return hash((Shutdown, self.detail))

    def __repr__(self) -> str:
        return f"Shutdown({self.detail!r})"


@final
class Crash:
    """An uncaught exception: OTP's `{Error, Stacktrace}`. `error` is the exception, with its traceback."""

    __slots__ = ("error",)
    __match_args__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def traceback(self) -> str:
        """The traceback as text, as Python prints it."""
        return "".join(traceback.format_exception(self.error))

    def __repr__(self) -> str:
        return f"Crash({self.error!r})"


def shown(value: object) -> str:
    """A value as text, also if its own `__repr__` fails: what travels in signals must not break who tells of it."""
    try:
        return repr(value)
    except Exception as error:  # an application's own words
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def in_words(error: BaseException) -> str:
    """An error in a sentence: what it says if it is one of Banyan's own, which say it all, else its type with it."""
    if isinstance(error, BanyanError):
        return str(error)
    try:
        text = str(error)
    except Exception:  # an application's own words
        text = "<unprintable>"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_orderly(reason: object) -> bool:
    """Whether a reason is an orderly end: normal, shutdown or a Shutdown(detail) (rules S18, L8)."""
    return reason is NORMAL or reason is SHUTDOWN or type(reason) is Shutdown


class ProcessExit(BaseException):
    """Ends the process that raises it with `reason`; raised by `exit`, and to interrupt a parked process.

    A BaseException, so that `except Exception` in an application does not swallow an exit.
    """

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason


class Broken(BaseException):
    """Raised by the host into an application's own code that holds the loop; its process ends with Crash(it).

    A BaseException, so that `except Exception` around a loop does not swallow it. Never raised in a program that
    takes no signal: see `Node(preempt=...)`.
    """


@final
class Runaway(Broken):
    """A handler, or a typed line, has held the loop for `held` seconds, of `limit` that it may."""

    def __init__(self, held: float, limit: float) -> None:
        super().__init__(f"it held the loop for {held:.1f} s without waiting (limit {limit:.1f} s)")
        self.held = held
        self.limit = limit


def exit_with(reason: object) -> NoReturn:
    """End the calling process with `reason`, exactly that value (rule P2). Does not return; None is Misuse."""
    raise ProcessExit(checked_reason(reason))


def checked_reason(reason: object) -> object:
    """An exit reason as it is; raises Misuse for None, which says that a process has none."""
    if reason is None:
        raise Misuse("an exit reason is any value but None: NORMAL is an end in order")
    return reason
