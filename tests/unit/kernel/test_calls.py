"""Calls: one reply or one exception, always at the caller, never twice and never too late."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NO_REPLY,
    NORMAL,
    SHUTDOWN,
    CalleeExited,
    Caller,
    CallFailed,
    CallingSelf,
    CallTimeout,
    Crash,
    GenServer,
    Misuse,
    NoProcess,
    Raise,
    ReceiveTimeout,
    Stop,
    call,
    cast,
    exit,
    exit_with,
    receive,
    register,
    reply,
    self_pid,
    send_nowait,
    spawn,
    start,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail

from .serving import Does, Work, Worker

# -- replies -------------------------------------------------------------------------------------------


async def test_the_host_may_call(node):
    """Host code is no process and calls all the same."""
    assert await call(await start(Worker), Work(3)) == 1
    assert trio.current_time() == 3.0


@as_process
async def test_a_destination_is_a_pid_or_a_name(node):
    """A call goes to a pid or to whoever has a name."""
    pid = await start(Does, name="does")
    assert [await call(pid, 1), await call("does", 2)] == [1, 2]


@as_process
async def test_a_reply_is_handed_over_as_it_is(node):
    """None, False and any other object come back as the very same object."""
    pid, thing = await start(Does), object()
    assert [await call(pid, x) for x in (None, False, thing)] == [None, False, thing]


@as_process
async def test_a_plain_process_answers_with_reply(node):
    """A process without a class takes the request as a Caller and answers it (N12)."""

    async def doubles():
        while True:
            caller = await receive(Caller)
            request: Any = caller.request
            reply(caller, request * 2)

    pid = spawn(doubles)
    assert [await call(pid, 4), await call(pid, "ab")] == [8, "abab"]


@as_process
async def test_requests_of_one_caller_are_handled_in_order(node):
    """Calls and casts of one sender keep their order (P34, N23)."""
    seen = []
    pid = await start(Does)
    for number in range(5):
        await cast(pid, lambda n=number: seen.append(("cast", n)))
        await call(pid, lambda caller, n=number: seen.append(("call", n)))
    assert seen == [(kind, n) for n in range(5) for kind in ("cast", "call")]


@as_process
async def test_a_hundred_callers_get_their_own_replies(node):
    """Replies never go astray between callers, whatever the order in which they were given (N12)."""
    replies: dict[int, object] = {}

    async def server():
        held: list[tuple[Any, Caller]] = []
        for _ in range(100):
            caller = await receive(Caller)
            held.append((caller.request, caller))
        for request, caller in sorted(held, key=lambda one: one[0] * 37 % 101):
            reply(caller, request + 1000)
        await trio.sleep_forever()

    async def client(number):
        replies[number] = await call(pid, number)

    pid = spawn(server)
    for number in range(100):
        spawn(client, number)
    await mail()
    assert replies == {number: number + 1000 for number in range(100)}


@as_process
async def test_any_process_may_give_the_reply(node):
    """A server keeps the caller's address, and another process answers later (N12)."""

    def hand_over(caller):
        spawn(answers, caller)
        return NO_REPLY

    async def answers(caller):
        reply(caller, ("from", self_pid() != server))

    server = await start(Does)
    assert await call(server, hand_over) == ("from", True)


@as_process
async def test_the_first_of_two_replies_counts(node):
    """A second reply to the same request does nothing, and does not reach a later call (N12, N13)."""
    kept = []

    def twice(caller):
        kept.append(caller)
        reply(caller, "first")
        reply(caller, "second")
        return "third"

    server = await start(Does)
    assert await call(server, twice) == "first"
    reply(kept[0], "fourth")
    assert [await call(server, "next"), await mail()] == ["next", []]


@as_process
async def test_an_answered_request_is_not_kept(node):
    """A server that answers by `reply` and returns NO_REPLY keeps nothing of the request."""

    class Request:
        pass

    class Answers(GenServer):
        def handle_call(self, request, caller):
            reply(caller, "yes")
            return NO_REPLY

    server, request = await start(Answers), Request()
    alive = weakref.ref(request)
    assert await call(server, request, timeout=math.inf) == "yes"
    await trio.testing.wait_all_tasks_blocked()
    del request
    gc.collect()
    assert alive() is None


@as_process
async def test_a_server_may_call_another_while_it_serves(node):
    """A handler that waits for another server's reply goes on with it."""

    class Front(GenServer):
        async def handle_call(self, request, caller):
            return ("front", await call(back, request))

    back = await start(Worker)
    answer: object = await call(await start(Front), Work(1))
    assert answer == ("front", 1)


# -- nobody there --------------------------------------------------------------------------------------


@as_process
async def test_a_call_to_nobody_fails_at_once(node):
    """A dead pid, or a name that nobody has, raises NoProcess (N8)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    for destination in (pid, "nobody"):
        with pytest.raises(NoProcess, match="not alive") as caught:
            await call(destination, "x")
        assert (caught.value.destination, caught.value.request) == (destination, "x")
    assert trio.current_time() == 0.0


@pytest.mark.parametrize("destination", [None, 5, b"name"], ids=repr)
async def test_only_pids_and_names_can_be_called(node, destination):
    """Anything else is misuse."""
    with pytest.raises(Misuse, match="a destination is"):
        await call(destination, "x")


@pytest.mark.parametrize("by", ["pid", "name"])
@as_process
async def test_a_process_cannot_call_itself(node, by):
    """A call to oneself raises at once: it could only ever time out (N9)."""
    register("me")
    with pytest.raises(CallingSelf, match="called itself") as caught:
        await call(self_pid() if by == "pid" else "me", "x")
    assert (isinstance(caught.value, Misuse), await mail()) == (True, [])


@as_process
async def test_a_server_that_calls_itself_crashes(node):
    """Uncaught in a callback, the misuse ends the server like any error, and its caller learns of it (N9)."""

    class Narcissus(GenServer):
        async def handle_call(self, request, caller):
            return await call(self_pid(), request)

    with pytest.raises(CalleeExited) as caught:
        await call(await start(Narcissus), "x")
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.error, CallingSelf)


# -- the callee ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["boom", NORMAL, SHUTDOWN, KILL], ids=repr)
@as_process
async def test_the_end_of_the_callee_reaches_the_caller_at_once(node, reason):
    """A callee that ends before it replied fails the call with its true reason, NORMAL too (N8)."""
    server = await start(Does)
    with pytest.raises(CalleeExited, match="before it replied") as caught:
        await call(server, lambda caller: exit_with(reason), timeout=math.inf)
    assert (caught.value.reason, caught.value.destination) == (reason, server)


@as_process
async def test_a_kill_of_the_callee_reaches_the_caller_at_once(node):
    """A caller whose callee is killed in the middle of its request learns KILLED (N8)."""
    server = await start(Worker)

    async def kills():
        await trio.sleep(2)  # virtual
        exit(server, KILL)

    spawn(kills)
    with pytest.raises(CalleeExited) as caught:
        await call(server, Work(10), timeout=100)
    assert (caught.value.reason, trio.current_time()) == (KILLED, 2.0)


@as_process
async def test_the_end_of_a_plain_process_reaches_its_caller(node):
    """A process without a class that took a request and ends without a reply fails the call too (N8)."""

    async def takes_and_ends():
        await receive(Caller)
        exit_with("gone")

    with pytest.raises(CalleeExited) as caught:
        await call(spawn(takes_and_ends), "x", timeout=100)
    assert (caught.value.reason, trio.current_time()) == ("gone", 0.0)


@as_process
async def test_requests_in_the_mailbox_fail_with_the_callee(node):
    """Everybody in the queue of a callee that ends is told its reason (N8)."""
    server, reasons = await start(Worker), []

    async def client(number):
        try:
            await call(server, Work(1000), timeout=100)
        except CalleeExited as error:
            reasons.append((number, error.reason))

    for number in range(5):
        spawn(client, number)
    await trio.testing.wait_all_tasks_blocked()
    exit(server, "boom")
    await mail()
    assert sorted(reasons) == [(number, "boom") for number in range(5)]


@as_process
async def test_deferred_requests_fail_with_the_callee(node):
    """A request that was put off with NO_REPLY fails when the callee ends (N8, N12)."""
    server, reasons = await start(Does), []

    async def client():
        with pytest.raises(CalleeExited) as caught:
            await call(server, lambda caller: NO_REPLY, timeout=100)
        reasons.append(caught.value.reason)

    for _ in range(3):
        spawn(client)
    await trio.testing.wait_all_tasks_blocked()
    await cast(server, lambda: Stop("enough"))
    await mail()
    assert reasons == ["enough"] * 3


@as_process
async def test_a_request_that_was_handed_on_fails_with_whoever_has_it(node):
    """A request that lies in another process's mailbox fails with that one: the mailbox is the monitor (N12)."""
    helper = spawn(idle)

    def hand_over(caller):
        send_nowait(helper, caller)
        return NO_REPLY

    async def kills():
        await trio.testing.wait_all_tasks_blocked()
        exit(helper, "lost it")

    server = await start(Does)
    spawn(kills)
    with pytest.raises(CalleeExited) as caught:
        await call(server, hand_over, timeout=100)
    assert (caught.value.reason, await call(server, "next")) == ("lost it", "next")


@as_process
async def test_a_reply_just_before_the_end_is_a_reply(node):
    """A callee that replies and ends in the same step has replied (P35)."""

    def replies_and_ends(caller):
        reply(caller, "last words")
        exit_with("boom")

    assert await call(await start(Does), replies_and_ends) == "last words"


@as_process
async def test_a_call_to_a_dying_process_gets_its_reason(node):
    """A call after a deadly signal of the same sender fails with that signal's reason (P34, N8)."""
    server = await start(Does)
    exit(server, "boom")
    with pytest.raises(CalleeExited) as caught:
        await call(server, "x")
    assert caught.value.reason == "boom"


# -- timeouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.001, 0.02, 0.021, 1.0, 5.0, 3600.0])
@as_process
async def test_a_timeout_is_exact(node, timeout):
    """A call gives up exactly after its timeout, and says so (N6)."""
    server = await start(Worker)
    with pytest.raises(CallTimeout, match="did not reply") as caught:
        await call(server, Work(1e5), timeout=timeout)
    assert (trio.current_time(), caught.value.timeout, caught.value.destination) == (timeout, timeout, server)


@as_process
async def test_a_call_gives_up_after_five_seconds_by_default(node):
    """Without a timeout of its own a call waits 5 seconds (N6)."""
    with pytest.raises(CallTimeout):
        await call(spawn(idle), "x")
    assert trio.current_time() == 5.0


@as_process
async def test_an_infinite_timeout_waits_for_ever(node):
    """math.inf never gives up (N6)."""
    assert await call(await start(Worker), Work(1e5), timeout=math.inf) == 1


@pytest.mark.parametrize("timeout", [math.nan], ids=repr)
@as_process
async def test_a_nonsense_timeout_harms_nobody_else(node, timeout):
    """A timeout that is no number is misuse, and every other timer still fires."""
    for _ in range(3):
        with pytest.raises(Misuse, match="timeout"):
            await call(spawn(idle), "x", timeout=timeout)
    with pytest.raises(CallTimeout):
        await call(spawn(idle), "x", timeout=1)
    assert trio.current_time() == 1.0


@as_process
async def test_a_timeout_leaves_the_callee_unharmed(node):
    """The callee of a timed-out call goes on, does the work, and serves the next one (N6)."""
    server = await start(Worker)
    with pytest.raises(CallTimeout):
        await call(server, Work(3), timeout=1)
    assert (await call(server, Work(0)), trio.current_time()) == (2, 3.0)


@as_process
async def test_a_late_reply_is_dropped(node):
    """A reply after the timeout reaches neither a later call nor the mailbox (N7)."""
    server, other = await start(Worker), await start(Does)
    for _ in range(3):
        with pytest.raises(CallTimeout):
            await call(server, Work(2), timeout=1)
    assert await call(other, "not the late one") == "not the late one"
    assert await call(server, Work(0), timeout=100) == 4
    assert await mail() == []


@as_process
async def test_a_late_reply_does_not_wake_a_later_wait(node):
    """A caller that waits for something else when a late reply comes goes on waiting (N7)."""
    server = await start(Worker)
    with pytest.raises(CallTimeout):
        await call(server, Work(2), timeout=1)
    with pytest.raises(ReceiveTimeout):
        await receive(timeout=10)
    assert trio.current_time() == 11.0


@as_process
async def test_a_stored_address_answered_in_vain(node):
    """Answering a caller that has given up does nothing (N7, N13)."""
    kept = []

    def keep(caller):
        kept.append(caller)
        return NO_REPLY

    server = await start(Does)
    with pytest.raises(CallTimeout):
        await call(server, keep, timeout=1)
    reply(kept[0], "in vain")
    assert [await call(server, "next"), await mail()] == ["next", []]


@as_process
async def test_the_deadline_of_an_answered_call_is_over(node):
    """A reply in time ends the deadline: nothing fires in a later call (N6)."""
    server = await start(Worker)
    assert await call(server, Work(4), timeout=5) == 1
    assert (await call(server, Work(4), timeout=5), trio.current_time()) == (2, 8.0)


# -- refusals ------------------------------------------------------------------------------------------


@as_process
async def test_a_refusal_is_raised_at_the_caller(node):
    """Raise(error) raises that very error at the caller, and the server goes on unharmed."""
    error = ValueError("not today")
    server = await start(Does)
    with pytest.raises(ValueError, match="not today") as caught:
        await call(server, lambda caller: Raise(error))
    assert (caught.value is error, await call(server, "next")) == (True, "next")


def test_all_failures_of_a_call_are_call_failures():
    """`except CallFailed` catches every way in which a call can fail but a refusal."""
    assert [issubclass(e, CallFailed) for e in (NoProcess, CallTimeout, CalleeExited, CallingSelf)] == [True] * 4
