"""One request that waits for its reply: envelope, reply address and timer entry in a single object.

A call allocates one `Caller`. It is put into the callee's mailbox, it is the caller's parked marker,
and it is the outcome with which the caller is woken. If the callee ends, its mailbox fails every
Caller in it: no monitor is made. A reply to a caller that has left is dropped, never delivered to a
mailbox (rule N7, "do better"). Source: OTP `gen:call`; the T1 path of the performance notes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn, final

import trio

from ..errors import CalleeExited, CallTimeout, MailboxFull
from .exits import NOCONNECTION, shown
from .parking import wake
from .signals import Answer

if TYPE_CHECKING:
    from .process import Process


@final
class Raised:
    """The outcome of a wait that ends with an error."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def unwrap(self) -> NoReturn:
        raise self.error


@final
class Missing:
    """The type of MISSING: in the place of a reply that was not given."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class Waiting:
    """The base of what lies in a process's mailbox, hand or books for somebody who waits: told when it ends."""

    __slots__ = ()

    def fail(self, reason: object) -> None:
        """The process ended with `reason`, before it had said anything else."""
        raise NotImplementedError


class Caller(Waiting):
    """Who asked: give it to `reply` to answer, at once or later, from any process of this node.

    `request` is what was asked. Opaque otherwise; it can be stored, and answering twice or too late
    does nothing.
    """

    # `value`, `timeout` and `due` are set when there is something to say: a call makes one of these.
    __slots__ = ("callee", "destination", "due", "request", "task", "timeout", "value")

    due: float
    timeout: float
    value: object

    def __init__(self, request: object, task: trio.lowlevel.Task | None, callee: Process, destination: object) -> None:
        self.request = request
        self.task = task
        self.callee = callee
        self.destination = destination

    def __repr__(self) -> str:
        return f"<Caller of {self.destination}>"

    def unwrap(self) -> object:
        """The outcome of the wait: the reply. An error comes as an outcome of its own."""
        return self.value

    @property
    def waiting(self) -> bool:
        """Whether the caller still waits for this reply."""
        task = self.task
        return task is not None and task.custom_sleep_data is self

    def answer(self, value: object) -> None:
        """Hand over the reply, if the caller still waits."""
        task = self.task
        if task is not None and task.custom_sleep_data is self:
            self.value = value
            wake(task, self)

    def fail(self, reason: object) -> None:
        """Tell the caller that the callee ended with `reason` before it replied."""
        task = self.task
        if task is not None and task.custom_sleep_data is self:
            what = (
                "was lost with the connection to its node before it replied to {}; it may have done the work"
                if reason is NOCONNECTION
                else f"ended ({shown(reason)}) before it replied to {{}}; it may be restarted by its supervisor"
            ).format(brief(self.request))
            text = f"{self.destination} {what}: try again if the request may be repeated"
            error = CalleeExited(text, self.destination, self.request, reason)
            wake(task, Raised(error))

    def refuse(self, error: Exception) -> None:
        """Raise `error` at the caller, if it still waits: the request was refused, the callee lives."""
        task = self.task
        if task is not None and task.custom_sleep_data is self:
            wake(task, Raised(error))

    def expire(self) -> None:
        """The timer's say: the deadline has passed."""
        task = self.task
        if task is not None and task.custom_sleep_data is self:
            error = CallTimeout(
                f"{self.destination} did not reply to {brief(self.request)} within {self.timeout:g} s; "
                "it may still do the work, and its late reply will be dropped: look at what it is doing, "
                "or give the call a longer timeout",
                self.destination,
                self.request,
                self.timeout,
            )
            wake(task, Raised(error))


class SystemCaller(Caller):
    """A request of `sys`: served between callbacks, also by a suspended process, and never refused."""

    __slots__ = ()


@final
class ExitWatch(Caller):
    """A task's wait for the end of a process; woken with its exit reason. Lies among the deferred callers."""

    __slots__ = ()

    def fail(self, reason: object) -> None:
        self.answer(reason)


class Asker(Caller):
    """A request whose reply comes back as an `Answer` message instead of waking a parked task."""

    __slots__ = ("label", "owner")

    def __init__(self, request: object, callee: Process, destination: object, owner: Process, label: object) -> None:
        super().__init__(request, None, callee, destination)
        # Invariant: None once it was answered; so exactly one Answer is posted.
        self.owner: Process | None = owner
        self.label = label

    @property
    def waiting(self) -> bool:
        return self.owner is not None

    def answer(self, value: object) -> None:
        self._tell(Answer(self.label, value))

    def fail(self, reason: object) -> None:
        self._tell(Answer(self.label, None, reason, failed=True))

    def _tell(self, answer: Answer) -> None:
        owner, self.owner = self.owner, None
        if owner is None:
            return
        if owner.alive:
            owner.post(answer)
        elif (other := owner.pid._process) is not None and other is not owner:
            other.post(answer)  # it has moved to another node, and this one stands for it

    def refuse(self, error: Exception) -> None:
        self.fail(error)

    def expire(self) -> None:
        self.fail("timeout")


@final
class SystemAsker(Asker, SystemCaller):
    """A request of `sys` whose reply comes back as an `Answer`."""

    __slots__ = ()


@final
class Sender:
    """A `send` that waits for room in a full mailbox."""

    __slots__ = ("due", "error", "message", "process", "task", "timeout")

    def __init__(self, message: object, task: trio.lowlevel.Task, process: Process, timeout: float) -> None:
        self.message = message
        self.task = task
        self.process = process
        self.timeout = timeout
        self.due = 0.0
        self.error: Exception | None = None

    @property
    def waiting(self) -> bool:
        return self.task.custom_sleep_data is self

    def unwrap(self) -> None:
        if self.error is not None:
            raise self.error

    def admit(self, mailbox: deque[object] | None) -> None:
        """There is room; or, with None, nobody is left: the message is gone, as to any dead pid."""
        if self.task.custom_sleep_data is self:
            if mailbox is not None:
                mailbox.append(self.message)
            wake(self.task, self)

    def expire(self) -> None:
        if self.task.custom_sleep_data is self:
            self.error = mailbox_full(self.process, f"still full after {self.timeout:g} s")
            wake(self.task, self)


def mailbox_full(process: Process, how: str) -> MailboxFull:
    """The error that says whose mailbox is full, and of how many."""
    if process.remote:
        text = f"node {process.pid.node!r}, where {process.pid} lives, takes no more messages and is {how}; nothing was"
        return MailboxFull(f"{text} sent: slow down, or ask which mailbox there is full", process.pid, process.limit)
    return MailboxFull(
        f"the mailbox of {process.pid} ({process.label}) holds {process.limit} messages and is {how}; "
        "nothing was sent: slow down, or ask why it does not keep up",
        process.pid,
        process.limit,
    )


def brief(request: object) -> str:
    """A request as text, short enough for an error message."""
    text = shown(request)
    return text if len(text) <= 120 else text[:117] + "..."
