"""Sending, and taking messages out of order: `send`, `send_nowait`, `receive`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    Misuse,
    NoProcess,
    Pid,
    ReceiveTimeout,
    exit,
    receive,
    register,
    self_pid,
    send,
    send_after,
    send_nowait,
    spawn,
    spawn_monitor,
)
from tests.support.processes import as_process, ended, exit_and_wait, idle, mail


def to_self(*messages: object) -> None:
    for message in messages:
        send_nowait(self_pid(), message)


def above(least: int) -> Callable[[Any], bool]:
    return lambda message: message > least


# -- sending ------------------------------------------------------------------------------------------


@as_process
async def test_a_send_to_a_dead_pid_is_silent(node):
    """A message to a dead process, or to one that never was, vanishes (P32)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    send_nowait(pid, 1)
    await send(pid, 1)
    send_nowait(Pid("elsewhere", 1, 10**9), 1)
    assert await mail() == []


@as_process
async def test_a_send_to_a_free_name_is_refused(node):
    """A name that nobody has raises NoProcess at the sender (P33)."""
    with pytest.raises(NoProcess, match="'nobody'") as caught:
        send_nowait("nobody", 1)
    assert caught.value.destination == "nobody"
    with pytest.raises(NoProcess):
        await send("nobody", 1)


@pytest.mark.parametrize("destination", [None, 5, ("a", "b"), b"name"], ids=repr)
async def test_a_destination_is_a_pid_or_a_name(node, destination):
    """Anything else is misuse, told to the sender."""
    with pytest.raises(Misuse, match="a destination is a Pid"):
        send_nowait(destination, 1)


@as_process
async def test_one_senders_messages_keep_their_order(node):
    """What one process sends to another arrives in that order, however it was sent (P34)."""
    register("me")
    to = self_pid()

    async def sender():
        for number in range(0, 60, 3):
            send_nowait(to, number)
            await send("me", number + 1)
            await send(to, number + 2)
            if number % 4 == 0:
                await trio.lowlevel.checkpoint()

    spawn(sender)
    assert await mail() == list(range(60))


@as_process
async def test_messages_before_a_death_arrive_before_its_down(node):
    """A Down comes after all that the dead process had sent to the watcher (P35)."""
    to = self_pid()

    async def sender():
        for number in range(5):
            send_nowait(to, number)
        raise ValueError("then dies")

    pid, ref = spawn_monitor(sender)
    *messages, down = await mail()
    assert (messages, down.ref, down.monitored) == ([0, 1, 2, 3, 4], ref, pid)


@as_process
async def test_a_send_that_finds_room_does_not_wait(node):
    """`send` is no checkpoint unless it must wait for room."""
    pid = spawn(idle)
    with trio.CancelScope() as scope:
        scope.cancel()
        await send(pid, 1)
    assert not scope.cancelled_caught


@as_process
async def test_messages_are_shared_not_copied(node):
    """A message arrives as the very object that was sent: send frozen values (P45)."""
    message = object()
    to_self(message)
    assert await receive() is message


# -- receiving ----------------------------------------------------------------------------------------


@as_process
async def test_receive_takes_the_oldest_message(node):
    """Without a matcher messages come out in the order in which they came in (P38)."""
    to_self(1, "a", 2)
    assert [await receive(), await receive(), await receive()] == [1, "a", 2]


@as_process
async def test_receive_by_type_leaves_the_others_in_order(node):
    """The first message of the type is taken; what does not match stays, in order (P38)."""
    to_self("a", 1, "b", 2, "c")
    assert [await receive(int), await receive(int)] == [1, 2]
    assert await mail() == ["a", "b", "c"]


@as_process
async def test_receive_by_predicate_leaves_the_others_in_order(node):
    """A matcher may be any predicate; the first match in mailbox order is taken (P38)."""
    to_self(1, 5, 2, 6, 3)
    assert await receive(above(4)) == 5
    assert await mail() == [1, 2, 6, 3]


@as_process
async def test_a_subclass_matches_its_base(node):
    """A type matches as isinstance does."""
    to_self("x", True)
    assert await receive(int) is True


@as_process
async def test_receive_waits_for_the_first_match(node):
    """Messages that do not match wake nobody for good and stay in order (P38)."""
    for seconds, message in ((1, "a"), (2, "b"), (3, 7), (4, "c")):
        send_after(seconds, self_pid(), message)
    assert (await receive(int), trio.current_time()) == (7, 3.0)
    assert [await receive(), await receive(), await receive()] == ["a", "b", "c"]


@as_process
async def test_a_match_is_found_behind_messages_looked_at_before(node):
    """A second receive with another matcher looks at the whole mailbox again (P38)."""
    to_self("a", "b")
    with pytest.raises(ReceiveTimeout):
        await receive(int, timeout=1)
    to_self(1)
    assert [await receive(str), await receive(int), await receive(str)] == ["a", 1, "b"]


@as_process
async def test_a_predicate_that_raises_takes_nothing(node):
    """A matcher's error is the receiver's own, and the message stays where it was."""
    to_self("a", 1)
    with pytest.raises(TypeError):
        await receive(above(0))
    assert await mail() == ["a", 1]


@pytest.mark.parametrize("matcher", ["text", 5, (int, str)], ids=repr)
@as_process
async def test_a_matcher_is_a_type_or_a_predicate(node, matcher):
    """What cannot judge a message is misuse, told before anything is waited for or taken."""
    to_self(1)
    with pytest.raises(Misuse, match="matcher"):
        await receive(matcher)
    assert await mail() == [1]


@as_process
async def test_a_union_of_types_matches_as_isinstance_does(node):
    """`int | str` takes the first message of either type."""
    to_self(1.5, "a", 1)
    either: Any = int | str
    assert [await receive(either), await receive(either)] == ["a", 1]
    assert await mail() == [1.5]


@as_process
async def test_timeout_zero_looks_once_and_does_not_wait(node):
    """With timeout 0 a match that is there is taken, otherwise ReceiveTimeout comes at once (P39)."""
    with pytest.raises(ReceiveTimeout, match="within 0 s") as caught:
        await receive(timeout=0)
    assert caught.value.timeout == 0
    to_self("a", 1)
    assert await receive(int, timeout=0) == 1
    with pytest.raises(ReceiveTimeout):
        await receive(int, timeout=0)
    assert (await mail(), trio.current_time()) == (["a"], 0.0)


@pytest.mark.parametrize("timeout", [0.001, 0.02, 0.5, 3.0, 1e5])
@as_process
async def test_a_timeout_is_exact(node, timeout):
    """A receive gives up exactly `timeout` seconds after it was entered (P39)."""
    with pytest.raises(ReceiveTimeout) as caught:
        await receive(timeout=timeout)
    assert (trio.current_time(), caught.value.timeout) == (timeout, timeout)


@as_process
async def test_a_message_that_does_not_match_does_not_restart_the_timer(node):
    """The time counts from entry, whatever else arrives (P39)."""
    for seconds in (1, 2, 2.5):
        send_after(seconds, self_pid(), "no match")
    with pytest.raises(ReceiveTimeout):
        await receive(int, timeout=3.0)
    assert (trio.current_time(), await mail()) == (3.0, ["no match"] * 3)


@as_process
async def test_a_timeout_that_passed_in_an_earlier_receive_is_over(node):
    """The deadline of a receive that found its message does not touch the next one (P39)."""
    send_after(1, self_pid(), "in time")
    assert await receive(timeout=2) == "in time"
    send_after(4, self_pid(), "later")
    assert (await receive(timeout=10), trio.current_time()) == ("later", 5.0)


@as_process
async def test_an_infinite_timeout_waits_for_ever(node):
    """math.inf, the default, never gives up."""
    send_after(1e5, self_pid(), "at last")
    assert await receive(timeout=math.inf) == "at last"


@as_process
async def test_a_receive_that_is_cancelled_takes_nothing(node):
    """A receive ended by the caller's own cancel scope leaves the mailbox whole."""
    to_self("a")
    with trio.move_on_after(1):
        await receive(int)
    to_self(1)
    assert await mail() == ["a", 1]


@as_process
async def test_receive_works_in_the_processs_own_task_only(node):
    """A helper task may send for its process, but not take its messages."""
    errors = []

    async def helper():
        try:
            await receive()
        except Misuse as error:
            errors.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(helper)
    assert errors == ["receive works in the process's own task only, not in a task that it started"]


@as_process
async def test_a_helper_task_may_wake_its_process(node):
    """What a helper task sends to its own process is received like any message."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, self_pid(), "from within")
        assert await receive() == "from within"


@as_process
async def test_a_kill_ends_a_waiting_receive(node):
    """A process that waits for a message is ended where it waits (P8)."""
    steps = []

    async def waits():
        await receive()
        steps.append("after")

    pid, ref = spawn_monitor(waits)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    (down,) = await mail()
    assert (down.ref, down.reason, steps) == (ref, KILLED, [])


@as_process
async def test_a_message_and_a_signal_at_once_end_the_process(node):
    """A signal that comes with a message takes effect, whether or not the message woke the process first."""

    async def waits():
        while True:
            await receive(int)

    for message in ("no match", 1):
        pid, ref = spawn_monitor(waits)
        await trio.testing.wait_all_tasks_blocked()
        send_nowait(pid, message)
        exit(pid, "boom")
        (down,) = await mail()
        assert (down.ref, down.reason) == (ref, "boom")


@as_process
async def test_a_process_that_leaves_its_messages_ends_normally(node):
    """Messages that nobody took vanish with the process."""

    async def leaves():
        to_self(1, 2, 3)

    assert await ended(leaves) is NORMAL
