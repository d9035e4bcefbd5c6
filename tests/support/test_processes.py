"""Whether the helpers for processes pass on what they should, and notice what they should."""

from __future__ import annotations

import pytest
import trio

from runtime import exit_with, self_pid, send_nowait, spawn
from tests.support.processes import (
    FAR,
    as_process,
    end_of,
    ended,
    exit_and_wait,
    idle,
    inside,
    mail,
    running_node,
)


async def test_inside_hands_back_the_value_and_raises_the_error(node):
    """What the function returns comes back, what it raises is raised here, the very same object."""
    error = ValueError("no")

    async def value():
        return 5

    async def failure():
        raise error

    assert await inside(value) == 5
    with pytest.raises(ValueError, match="no") as caught:
        await inside(failure)
    assert caught.value is error


async def test_inside_fails_if_the_process_ends_early(node):
    """A test whose own process was ended by a signal does not pass."""

    async def ends():
        exit_with("early")

    with pytest.raises(AssertionError, match="'early'"):
        await inside(ends)


async def test_a_failed_assertion_in_a_process_fails_the_test(node):
    """An AssertionError inside the process reaches pytest."""

    @as_process
    async def test(node):
        assert node is None

    with pytest.raises(AssertionError):
        await test(node=node)


@as_process
async def test_the_end_of_a_process_is_told_by_its_reason(node):
    """`end_of`, `ended` and `exit_and_wait` give the exit reason."""

    async def ends():
        exit_with("done")

    pid = spawn(ends)
    assert [await end_of(pid), await ended(ends), await exit_and_wait(spawn(idle), "boom")] == [
        "done",
        "done",
        "boom",
    ]


@as_process
async def test_mail_is_all_there_is_in_order(node):
    """`mail` empties the mailbox, oldest message first, and waits for what is on its way."""
    send_nowait(self_pid(), 1)

    async def other(pid):
        send_nowait(pid, 2)

    spawn(other, self_pid())
    assert [await mail(), await mail()] == [[1, 2], []]


async def test_a_test_that_hangs_fails_at_once():
    """Virtual time leaps to the far deadline when nobody can run."""
    with pytest.raises(trio.TooSlowError):
        async with running_node():
            await trio.sleep_forever()
    assert trio.current_time() == FAR
