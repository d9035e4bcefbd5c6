"""Exit reasons as values, and the one exception that ends a process."""

from __future__ import annotations

import pytest

from runtime import (
    KILL,
    KILLED,
    NOCONNECTION,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Crash,
    Shutdown,
    exit_with,
)


def test_the_reasons_of_otp_have_its_names():
    """Reasons print as OTP's atoms in text and as their own names in Python."""
    reasons = [NORMAL, SHUTDOWN, KILL, KILLED, NOPROC, NOCONNECTION]
    assert [str(r) for r in reasons] == ["normal", "shutdown", "kill", "killed", "noproc", "noconnection"]
    assert [repr(r) for r in reasons] == ["NORMAL", "SHUTDOWN", "KILL", "KILLED", "NOPROC", "NOCONNECTION"]


def test_a_shutdown_is_its_detail():
    """Two Shutdowns with equal details are equal, hash alike and match by the detail."""
    match Shutdown(("drain", 3)):
        case Shutdown(detail):
            assert detail == ("drain", 3)
    assert (Shutdown(1), hash(Shutdown(1)), repr(Shutdown("x"))) == (
        Shutdown(1),
        hash(Shutdown(1)),
        "Shutdown('x')",
    )
    assert [Shutdown(1) == other for other in (Shutdown(2), SHUTDOWN, 1)] == [False] * 3


def test_a_crash_keeps_the_error_and_prints_its_traceback():
    """A Crash holds the very exception, with the place where it was raised (P3)."""

    def broken_on_purpose():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        broken_on_purpose()
    crash = Crash(caught.value)
    assert (crash.error, repr(crash)) == (caught.value, "Crash(ValueError('boom'))")
    assert "in broken_on_purpose" in crash.traceback()
    assert crash.traceback().endswith("ValueError: boom\n")


def test_an_exit_is_no_exception_that_an_application_catches():
    """`except Exception` in an application does not swallow an exit (P2)."""
    with pytest.raises(BaseException, match="boom") as caught:
        exit_with("boom")
    assert not isinstance(caught.value, Exception)
