"""Timers, to the second of a virtual clock: exact, in order, and gone with whom they were for."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    KILL,
    Misuse,
    NotAProcess,
    Timeout,
    cancel_timer,
    exit,
    read_timer,
    receive,
    register,
    self_pid,
    send_after,
    send_nowait,
    spawn,
    start_timer,
    unregister,
)
from tests.support.processes import arrivals, as_process, end_of, exit_and_wait, idle, mail


@as_process
async def test_send_after_is_exact(node):
    """A message comes at its second, never early, on a clock that can be exact (T1, T4, T8)."""
    for seconds in (0.5, 0.001, 3.0, 0.02, 86400.0, 0.021):
        send_after(seconds, self_pid(), seconds)
    assert await arrivals(6) == [(s, s) for s in (0.001, 0.02, 0.021, 0.5, 3.0, 86400.0)]


@as_process
async def test_start_timer_sends_its_reference(node):
    """What `start_timer` sends is Timeout(ref, message) (T1)."""
    timer, ref = start_timer(2, self_pid(), "wake up")
    assert (await receive(), trio.current_time(), read_timer(timer)) == (Timeout(ref, "wake up"), 2.0, None)


@as_process
async def test_timers_of_one_instant_fire_in_the_order_of_their_making(node):
    """Timers that are due together keep the order in which they were set (T4)."""
    for number in range(30):
        send_after(1.0, self_pid(), number)
        if number % 7 == 0:
            send_after(0.5, self_pid(), "early")
    assert await arrivals(35) == [(0.5, "early")] * 5 + [(1.0, number) for number in range(30)]


@as_process
async def test_time_zero_comes_after_what_was_sent_before(node):
    """A timer of 0 seconds is delivered later, after messages already sent (T5)."""
    send_nowait(self_pid(), 1)
    send_after(0, self_pid(), 2)
    assert [await receive(timeout=0), await arrivals(1)] == [1, [(0.0, 2)]]


@as_process
async def test_a_new_nearer_timer_does_not_wait_for_an_older_one(node):
    """A timer that is set while the clock waits for a later one fires at its own second (T4)."""
    send_after(10, self_pid(), "late")
    await trio.testing.wait_all_tasks_blocked()
    send_after(1, self_pid(), "soon")
    assert await arrivals(2) == [(1.0, "soon"), (10.0, "late")]


@as_process
async def test_a_timer_set_by_a_timer_counts_from_its_own_making(node):
    """A chain of timers drifts by nothing (T4)."""
    seen = []
    for _ in range(5):
        send_after(0.25, self_pid(), "tick")
        await receive()
        seen.append(trio.current_time())
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.25]


@as_process
async def test_cancelling_tells_what_was_left(node):
    """`cancel_timer` gives the seconds left, once; afterwards, and when it had fired, None (T2)."""
    kept, stopped = send_after(5, self_pid(), "kept"), send_after(5, self_pid(), "stopped")
    send_after(2, self_pid(), "now")
    assert await receive() == "now"
    assert [read_timer(stopped), cancel_timer(stopped), cancel_timer(stopped), read_timer(stopped)] == [
        3.0,
        3.0,
        None,
        None,
    ]
    assert await arrivals(1) == [(5.0, "kept")]
    assert [cancel_timer(kept), read_timer(kept), await mail()] == [None, None, []]


@as_process
async def test_any_process_may_stop_a_timer(node):
    """A timer can be read and stopped by whoever has it (T2)."""
    timer, said = send_after(5, self_pid(), "never"), []

    async def other():
        said.extend([read_timer(timer), cancel_timer(timer)])

    await end_of(spawn(other))
    with trio.move_on_after(10):
        await receive()
    assert (said, await mail()) == ([5.0, 5.0], [])


@as_process
async def test_a_timer_to_a_pid_goes_with_its_process(node):
    """When its process dies, a timer is no more (T3)."""
    pid = spawn(idle)
    timer = send_after(5, pid, "nobody")
    before = read_timer(timer)
    await exit_and_wait(pid, KILL)
    assert [before, read_timer(timer), cancel_timer(timer)] == [5.0, None, None]
    await trio.testing.wait_all_tasks_blocked()


@as_process
async def test_a_timer_to_the_dead_is_gone_at_once(node):
    """A timer set for a dead pid is no timer, and nobody is told (T3)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    timer = send_after(1, pid, "nobody")
    assert [read_timer(timer), cancel_timer(timer)] == [None, None]
    send_after(2, self_pid(), "still here")
    assert await receive() == "still here"


@as_process
async def test_a_timer_to_a_name_looks_it_up_when_it_is_due(node):
    """Whoever has the name when the timer fires gets the message (T3)."""
    register("it", spawn(idle))
    send_after(1, "it", "mine")
    unregister("it")
    register("it")
    assert await arrivals(1) == [(1.0, "mine")]


@as_process
async def test_a_timer_to_a_free_name_is_lost(node):
    """If nobody has the name when the timer fires, the message vanishes (T3)."""
    timer = send_after(1, "nobody", "lost")
    send_after(2, self_pid(), "after")
    assert (read_timer(timer), await arrivals(1), read_timer(timer)) == (1.0, [(2.0, "after")], None)


@as_process
async def test_a_timer_outlives_who_made_it(node):
    """A timer for another process fires although its maker is dead (T7)."""
    to = self_pid()

    async def maker():
        send_after(3, to, "inherited")

    await end_of(spawn(maker))
    assert await arrivals(1) == [(3.0, "inherited")]


async def test_the_host_may_set_timers(node):
    """Host code beside a node sets timers for its processes."""
    got = trio.Event()

    async def waits():
        assert await receive() == "from the host"
        got.set()

    send_after(7, spawn(waits), "from the host")
    await got.wait()
    assert trio.current_time() == 7.0


@pytest.mark.parametrize("seconds", [-1, -0.001, math.inf, math.nan, True], ids=repr)
async def test_a_delay_is_finite_and_not_negative(node, seconds):
    """Negative, infinite and nonsense delays are misuse (T6)."""
    for act in (send_after, start_timer):
        with pytest.raises(Misuse, match="finite number of seconds from 0 up"):
            act(seconds, "name", None)


@pytest.mark.parametrize("destination", [None, 5, b"name"], ids=repr)
async def test_a_timer_needs_a_pid_or_name(node, destination):
    """A timer for anything else is refused when it is set, and never harms the node."""
    with pytest.raises(Misuse, match="destination"):
        send_after(1, destination, "x")
    with trio.move_on_after(5):
        await trio.sleep_forever()
    assert await _alive_and_well()


async def _alive_and_well() -> bool:
    done = trio.Event()

    async def says():
        done.set()

    spawn(says)
    await done.wait()
    return True


def test_a_timer_needs_a_node():
    """Outside every node there is no timer service."""
    with pytest.raises(NotAProcess):
        send_after(1, "name", None)


@as_process
async def test_a_timers_message_is_not_refused_by_a_full_mailbox(node):
    """A bound does not count timers (contracts)."""
    pid = spawn(idle, limit=1)
    send_nowait(pid, 1)
    for _ in range(3):
        send_after(1, pid, "timer")
    send_after(2, self_pid(), "done")
    await receive()
    exit(pid, "x")


@as_process
async def test_many_timers_fire_in_due_order(node):
    """A thousand timers in a scrambled order come out sorted by their second (T4)."""
    seconds = [(number * 7919 % 1000) / 8 for number in range(1000)]
    for second in seconds:
        send_after(second, self_pid(), second)
    assert await arrivals(1000) == [(second, second) for second in sorted(seconds)]
