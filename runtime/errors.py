"""What is raised to a caller: the root of all errors, misuse, and refusals of a request.

Three kinds of failure never mix. *Misuse* and *refusals* are raised here, at the caller, before any
work is done. *Exit reasons* (`runtime.kernel.exits`) are values that travel in signals and are never
raised across a process boundary, except as the `reason` of `CalleeExited`. *The world's failures*
(a full disk, a damaged store) are raised where they were met, as subclasses of `BanyanError`.
"""

from __future__ import annotations


class BanyanError(Exception):
    """The root of everything that Banyan raises."""


class Misuse(BanyanError):
    """The caller asked for something that can never work; nothing was done.

    The text says what was wanted, what came, and what to do instead.
    """


class InternalError(BanyanError):
    """A defect of Banyan itself. Please report it with the traceback."""


class NotAProcess(Misuse):
    """A function that acts for the calling process was called outside every process."""


class CallFailed(BanyanError):
    """A `call` got no reply. `destination` is whom it was for, `request` what was asked."""

    def __init__(self, text: str, destination: object, request: object = None) -> None:
        super().__init__(text)
        self.destination = destination
        self.request = request


class NoProcess(CallFailed):
    """Nobody lives under that pid or name (OTP: `noproc`)."""


class Busy(CallFailed):
    """The callee's mailbox is full; the request was not accepted. Back off and try again."""


class CallTimeout(CallFailed):
    """No reply within `timeout` seconds. The request may still be carried out; its reply is dropped."""

    def __init__(self, text: str, destination: object, request: object, timeout: float) -> None:
        super().__init__(text, destination, request)
        self.timeout = timeout


class CalleeExited(CallFailed):
    """The callee ended before it replied; `reason` is its exit reason, whatever it was."""

    def __init__(self, text: str, destination: object, request: object, reason: object) -> None:
        super().__init__(text, destination, request)
        self.reason = reason


class CallingSelf(CallFailed, Misuse):
    """A process called itself, which could only ever time out (OTP: `calling_self`)."""


class MailboxFull(BanyanError):
    """`send_nowait` met a full mailbox, or `send` and `cast` did until their deadline. `pid`, `limit`."""

    def __init__(self, text: str, pid: object, limit: int) -> None:
        super().__init__(text)
        self.pid = pid
        self.limit = limit


class RemoteError(BanyanError):
    """An exception of another node, as text: `type_name`, `text`, `remote_traceback`. Its class stayed there."""

    def __init__(self, type_name: str, text: str, remote_traceback: str = "") -> None:
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name
        self.text = text
        self.remote_traceback = remote_traceback

    def __eq__(self, other: object) -> bool:
        return type(other) is RemoteError and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[str, str, str]:
        return self.type_name, self.text, self.remote_traceback
