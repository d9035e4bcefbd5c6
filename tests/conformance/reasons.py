"""Exit reasons: as the traces write them, and as Banyan has them."""

from __future__ import annotations

from typing import Any

from runtime import Crash, Shutdown
from runtime.kernel.exits import ExitReason
from supervisors import FailedToStart


class Raised(Exception):
    """An error that a scenario's process raises: OTP's error(R)."""


class Thrown(Exception):
    """An uncaught throw."""


def reason_in(written: Any) -> Any:
    """A reason out of a scenario."""
    if isinstance(written, str):
        try:
            return ExitReason(written)
        except ValueError:
            return written
    if isinstance(written, list) and len(written) == 2 and written[0] == "shutdown":
        return Shutdown(reason_in(written[1]))
    return written


def reason_out(reason: Any) -> Any:
    """A reason as a trace writes it."""
    match reason:
        case ExitReason():
            return reason.value
        case Shutdown(detail):
            return ["shutdown", reason_out(detail)]
        case FailedToStart(child, why):
            return ["failed_to_start_child", child, reason_out(why)]
        case Crash(Raised() as error):
            return ["raised", error.args[0]]
        case Crash(Thrown() as error):
            return ["raised", ["nocatch", error.args[0]]]
        case Crash(error):
            return ["raised", f"{type(error).__name__}: {error}"]
        case _:
            return reason
