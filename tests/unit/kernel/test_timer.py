"""What OTP's module `timer` adds, absolute times, and the ways to stop a timer."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    Crash,
    Exit,
    Misuse,
    NotAProcess,
    ReceiveTimeout,
    Timeout,
    TimerCancelled,
    apply_after,
    apply_interval,
    cancel_timer,
    exit_after,
    global_name,
    global_names,
    is_alive,
    kill_after,
    read_timer,
    receive,
    register,
    self_pid,
    send_after,
    send_interval,
    send_nowait,
    spawn,
    start_timer,
    unregister,
    world,
)
from runtime.kernel.timers import FEW
from tests.support.processes import arrivals, as_process, end_of, exit_and_wait, idle, mail


@as_process
async def test_a_time_may_be_absolute(node):
    """With `absolute` the time is one of the node's own clock (T6)."""
    await trio.sleep(10)  # virtual
    assert world().now() == 10.0
    send_after(13, self_pid(), "at 13", absolute=True)
    timer, ref = start_timer(15, self_pid(), "at 15", absolute=True)
    assert read_timer(timer) == 5.0
    assert await arrivals(2) == [(13.0, "at 13"), (15.0, Timeout(ref, "at 15"))]


@pytest.mark.parametrize("when", [9, 0, -5])
@as_process
async def test_an_absolute_time_that_has_passed_is_due_at_once(node, when):
    """A moment of the past, also a negative one, is no misuse: the message comes now (T6)."""
    await trio.sleep(10)  # virtual
    send_nowait(self_pid(), "before")
    timer = send_after(when, self_pid(), "now", absolute=True)
    assert read_timer(timer) == 0.0
    assert await arrivals(2) == [(10.0, "before"), (10.0, "now")]


@pytest.mark.parametrize("when", [math.inf, -math.inf, math.nan, True], ids=repr)
async def test_an_absolute_time_is_finite(node, when):
    """An endless time is none (T6)."""
    with pytest.raises(Misuse, match="an absolute time is a finite number"):
        send_after(when, "name", None, absolute=True)


@as_process
async def test_a_stop_may_answer_later(node):
    """`cancel_timer` with `asynchronous` stops at once, and its answer comes as a message (T2)."""
    timer = send_after(5, self_pid(), "never")
    await trio.sleep(1)  # virtual
    assert cancel_timer(timer, asynchronous=True) is None
    assert cancel_timer(timer, asynchronous=True) is None
    assert await mail() == [TimerCancelled(timer, 4.0), TimerCancelled(timer, None)]
    with pytest.raises(ReceiveTimeout):
        await receive(timeout=10)


async def test_an_answer_that_comes_later_needs_a_process(node):
    """Host code has no mailbox for the answer."""
    with pytest.raises(NotAProcess):
        cancel_timer(send_after(5, "name", None), asynchronous=True)


@as_process
async def test_an_interval_comes_again_and_again(node):
    """`send_interval` sends first after its time, then every so many seconds without drift, until stopped."""
    timer = send_interval(0.3, self_pid(), "tick")
    came = [when for when, _ in await arrivals(10)]
    assert [round(when * 1000) for when in came] == [300 * number for number in range(1, 11)]
    assert round(cancel_timer(timer) * 1000) == 300
    assert [cancel_timer(timer), read_timer(timer)] == [None, None]
    with pytest.raises(ReceiveTimeout):
        await receive(timeout=5)


@as_process
async def test_an_interval_goes_with_its_process(node):
    """An interval for a pid ends when that process does (T3)."""
    pid = spawn(idle)
    timer = send_interval(1, pid, "tick")
    await exit_and_wait(pid, KILL)
    assert [read_timer(timer), cancel_timer(timer)] == [None, None]
    await trio.sleep(3)  # virtual


@as_process
async def test_an_interval_for_a_name_goes_on(node):
    """A round in which nobody has the name is lost; whoever has it in the next one gets that (T3)."""
    timer = send_interval(1, "it", "tick")
    await trio.sleep(1.5)  # virtual
    register("it")
    assert await arrivals(2) == [(2.0, "tick"), (3.0, "tick")]
    unregister("it")
    assert cancel_timer(timer) == 1.0


@as_process
async def test_a_timer_may_be_for_a_via(node):
    """A timer for a name in a registry looks it up when it is due (T3, R6)."""
    send_after(1, global_name("it"), "lost")
    send_after(2, global_name("it"), "mine")
    await trio.sleep(1.5)  # virtual
    global_names.register_name("it", self_pid())
    assert await arrivals(1) == [(2.0, "mine")]


@as_process
async def test_an_exit_may_come_later(node):
    """`exit_after` sends an exit signal from who asked for it; who traps gets it as a message (P5, P7)."""
    pid = spawn(idle)
    register("it", pid)
    exit_after(2, "it", "late")
    assert (await end_of(pid), trio.current_time()) == ("late", 2.0)
    got = []

    async def traps():
        got.append(await receive())

    trapping = spawn(traps, trap=True)
    exit_after(1, trapping, "told")
    await end_of(trapping)
    assert got == [Exit(self_pid(), "told")]


@as_process
async def test_a_kill_may_come_later(node):
    """`kill_after` cannot be trapped (P8), and like every timer may be stopped in time."""
    spared, pid = spawn(idle, trap=True), spawn(idle, trap=True)
    timer = kill_after(3, spared)
    kill_after(3, pid)
    assert cancel_timer(timer) == 3.0
    assert (await end_of(pid), trio.current_time(), is_alive(spared)) == (KILLED, 3.0, True)


async def test_the_hosts_exits_come_from_no_process(node):
    """An exit that host code asked for bears the receiver's own pid, as `exit` from there does."""
    got = []

    async def traps():
        got.append(await receive())

    pid = spawn(traps, trap=True)
    exit_after(1, pid, "told")
    await trio.sleep(2)  # virtual
    assert got == [Exit(pid, "told")]


@as_process
async def test_a_function_may_run_later(node):
    """`apply_after` runs a function, plain or async, in a process of its own."""
    me = self_pid()

    def plain(word):
        send_nowait(me, (word, self_pid() != me))

    async def waits(word):
        await trio.sleep(1)  # virtual
        plain(word)

    apply_after(2, waits, "async")
    apply_after(2, plain, "plain")
    cancel_timer(apply_after(1, plain, "never"))
    assert await arrivals(2) == [(2.0, ("plain", True)), (3.0, ("async", True))]


@as_process
async def test_a_function_may_run_again_and_again(node):
    """`apply_interval` starts a process every so many seconds, also while the last one still runs."""
    me = self_pid()

    async def slow():
        send_nowait(me, "begun")
        await trio.sleep(1.5)  # virtual
        send_nowait(me, "done")

    timer = apply_interval(1, slow)
    assert await arrivals(3) == [(1.0, "begun"), (2.0, "begun"), (2.5, "done")]
    cancel_timer(timer)
    assert await arrivals(1) == [(3.5, "done")]
    with pytest.raises(ReceiveTimeout):
        await receive(timeout=5)


@as_process
async def test_a_function_that_fails_harms_nobody(node):
    """What a later function raises ends its own process only, and is reported."""
    reports = []
    node.table.crash_listeners.append(lambda report: reports.append((report.label, report.reason)))

    def fails():
        raise ZeroDivisionError("no")

    apply_after(1, fails)
    send_after(2, self_pid(), "still here")
    assert await receive() == "still here"
    ((label, reason),) = reports
    assert label.endswith("fails")
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, ZeroDivisionError)


@as_process
async def test_an_interval_may_stop_itself(node):
    """A function that stops its own timer is not run again."""
    me, timers = self_pid(), []

    def once():
        cancel_timer(timers[0])
        send_nowait(me, "once")

    timers.append(apply_interval(1, once))
    assert await arrivals(1) == [(1.0, "once")]
    with pytest.raises(ReceiveTimeout):
        await receive(timeout=5)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, True], ids=repr)
async def test_an_interval_is_above_zero(node, seconds):
    """An interval of 0 would never let anybody else run; endless and negative ones are none (T6)."""
    with pytest.raises(Misuse, match="finite number of seconds"):
        send_interval(seconds, "name", None)
    with pytest.raises(Misuse, match="finite number of seconds"):
        apply_interval(seconds, print)


async def test_only_functions_are_run_later(node):
    """A thing that cannot be called is refused at once."""
    for act in (apply_after, apply_interval):
        with pytest.raises(Misuse, match="a function and its arguments"):
            act(1, "print")


@as_process
async def test_stopped_timers_are_not_kept_until_they_would_be_due(node):
    """A timer that was stopped, or whose process is gone, does not hold its message for long."""
    pid, heap = spawn(idle), node.table.timers
    for number in range(10 * FEW):
        cancel_timer(send_after(86400, self_pid(), number))
    for number in range(FEW):
        send_after(86400, pid, number)
    await exit_and_wait(pid, "x")
    for number in range(2 * FEW):
        cancel_timer(send_after(86400, self_pid(), number))
    kept = [send_after(1 + number % 3, self_pid(), number) for number in range(2 * FEW)]
    assert len(heap._heap) <= 2 * len(kept) + FEW
    came = [message for _, message in await arrivals(len(kept))]
    assert came == sorted(range(2 * FEW), key=lambda number: number % 3)
