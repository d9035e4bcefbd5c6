"""`send_request`: ask without waiting, and get exactly one Answer, whatever happens."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NO_REPLY,
    NOPROC,
    Answer,
    GenServer,
    NotAProcess,
    Raise,
    Stop,
    call,
    exit,
    exit_with,
    receive,
    reply,
    self_pid,
    send_request,
    spawn,
    start,
    sys,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail


class Does(GenServer):
    """Does as the request says."""

    def handle_call(self, request, caller):
        return request(caller) if callable(request) else request


class Slow(GenServer):
    async def handle_call(self, request, caller):
        await trio.sleep(request)  # virtual
        return request


@as_process
async def test_a_reply_comes_as_an_answer(node):
    """The reply arrives as a message with the label that the sender gave (N24)."""
    server = await start(Does)
    send_request(server, 5, "label")
    assert await mail() == [Answer("label", 5)]


@as_process
async def test_many_requests_are_out_at_once(node):
    """Requests to several servers run side by side, each with its own Answer (N24)."""
    servers = [await start(Slow) for _ in range(3)]
    for seconds, server in zip((3, 1, 2), servers, strict=True):
        send_request(server, seconds, seconds)
    answers = [await receive(Answer) for _ in range(3)]
    assert (answers, trio.current_time()) == ([Answer(n, n) for n in (1, 2, 3)], 3.0)


@pytest.mark.parametrize("destination", ["nobody", "dead"])
@as_process
async def test_a_missing_callee_is_answered_noproc(node, destination):
    """Nobody there gives a failed Answer with NOPROC, later, never a raise (N24)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    send_request(pid if destination == "dead" else "nobody", 1, "l")
    assert await mail() == [Answer("l", None, NOPROC, failed=True)]


@pytest.mark.parametrize("how", ["in hand", "waiting", "deferred"])
@as_process
async def test_the_end_of_the_callee_is_an_answer(node, how):
    """A callee that ends with the request in hand, unread or put off answers with its reason, once (N8)."""
    server = await start(Does)
    match how:
        case "in hand":
            send_request(server, lambda caller: exit_with("boom"), "l")
        case "waiting":
            await sys.suspend(server)
            send_request(server, 1, "l")
            exit(server, "boom")
        case "deferred":
            send_request(server, lambda caller: NO_REPLY, "l")
            await trio.testing.wait_all_tasks_blocked()
            exit(server, "boom")
    assert await mail() == [Answer("l", None, "boom", failed=True)]


@as_process
async def test_no_reply_in_time_is_an_answer(node):
    """A request with a timeout is answered "timeout" then, and its late reply is dropped (N7)."""
    server = await start(Slow)
    send_request(server, 3, "l", timeout=1)
    assert (await receive(), trio.current_time()) == (Answer("l", None, "timeout", failed=True), 1.0)
    assert [await call(server, 0), await mail()] == [0, []]


@as_process
async def test_a_timeout_after_the_answer_says_nothing(node):
    """Once answered, a request is over (N24)."""
    server = await start(Slow)
    send_request(server, 1, "l", timeout=2)
    with trio.move_on_after(10):
        assert await receive() == Answer("l", 1)
        await receive()
    assert await mail() == []


@as_process
async def test_the_end_after_the_answer_says_nothing(node):
    """A callee that replied and then ends has answered (N24)."""
    server = await start(Does)
    send_request(server, lambda caller: Stop("boom", "bye"), "l")
    assert await mail() == [Answer("l", "bye")]


@as_process
async def test_two_replies_are_one_answer(node):
    """The first reply counts (N12)."""

    def twice(caller):
        reply(caller, 1)
        reply(caller, 2)
        return 3

    server = await start(Does)
    send_request(server, twice, "l")
    assert await mail() == [Answer("l", 1)]


@as_process
async def test_a_refusal_is_a_failed_answer(node):
    """A server that refuses answers with its error as the reason."""
    error = ValueError("no")
    server = await start(Does)
    send_request(server, lambda caller: Raise(error), "l")
    assert await mail() == [Answer("l", None, error, failed=True)]


@as_process
async def test_a_late_answer_to_the_dead_is_dropped(node):
    """An asker that ended gets nothing, and nobody is harmed (N13)."""
    server, kept = await start(Does), []

    def keep(caller):
        kept.append(caller)
        return NO_REPLY

    async def asks():
        send_request(server, keep, "l")
        await receive()

    pid = spawn(asks)
    await trio.testing.wait_all_tasks_blocked()
    assert await exit_and_wait(pid, KILL) is KILLED
    reply(kept[0], "nobody there")
    assert await call(server, "next") == "next"


@as_process
async def test_asking_oneself_is_allowed(node):
    """A process may ask itself without waiting: it answers when it gets to it."""
    send_request(self_pid(), "x", "l")
    request = await receive()
    reply(request, "y")  # type: ignore[arg-type]  # a request arrives as a Caller
    assert await mail() == [Answer("l", "y")]


async def test_only_a_process_can_ask_without_waiting(node):
    """Host code has no mailbox for the Answer."""
    with pytest.raises(NotAProcess):
        send_request("nobody", 1, "l")
