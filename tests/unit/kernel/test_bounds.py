"""A full mailbox, exactly as the contract has it: who waits, who is refused, and what is never counted."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    Answer,
    Busy,
    Call,
    CalleeExited,
    Caller,
    Down,
    Exit,
    GenServer,
    MailboxFull,
    call,
    cast,
    cast_nowait,
    demonitor,
    exit,
    is_alive,
    link,
    message,
    monitor,
    process_info,
    receive,
    reply,
    self_pid,
    send,
    send_after,
    send_nowait,
    send_request,
    spawn,
    spawn_monitor,
    start,
    sys,
    trap_exit,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail


async def keeper(log: list[object]) -> None:
    """Takes one message each time it is told to by its own `take` message, and keeps it."""
    while True:
        await receive(Take)
        log.append(await receive(lambda m: not isinstance(m, Take)))


class Take:
    """Its own mailbox does not count it: it comes by a timer."""


def take(pid) -> None:
    send_after(0, pid, Take())


def queue_of(pid) -> int:
    info = process_info(pid)
    assert info is not None
    return info.queue


def full(limit: int = 3):
    """A process that takes nothing, with its mailbox full."""
    pid = spawn(idle, limit=limit)
    for number in range(limit):
        send_nowait(pid, number)
    return pid


@as_process
async def test_send_nowait_is_refused_by_a_full_mailbox(node):
    """MailboxFull says whose mailbox it is and how much it holds; nothing was sent (contracts)."""
    pid = full(3)
    with pytest.raises(MailboxFull, match="holds 3 messages") as caught:
        send_nowait(pid, "one too many")
    assert (caught.value.pid, caught.value.limit, queue_of(pid)) == (pid, 3, 3)


@as_process
async def test_a_call_is_refused_at_once(node):
    """A call to a full mailbox raises Busy without waiting, and the request is not accepted (contracts)."""
    pid = full()
    with pytest.raises(Busy, match="3 messages waiting") as caught:
        await call(pid, "anybody?", timeout=10)
    assert (caught.value.destination, caught.value.request) == (pid, "anybody?")
    assert (trio.current_time(), queue_of(pid)) == (0.0, 3)


@pytest.mark.parametrize("how", [send, cast], ids=["send", "cast"])
@pytest.mark.parametrize("timeout", [0, 0.01, 5.0, 60.0])
@as_process
async def test_send_and_cast_wait_until_their_deadline(node, how, timeout):
    """`send` and `cast` wait for room exactly as long as they may, then raise MailboxFull (contracts)."""
    pid = full()
    with pytest.raises(MailboxFull, match="still full") as caught:
        await how(pid, "x", timeout=timeout)
    assert (trio.current_time(), caught.value.pid, queue_of(pid)) == (timeout, pid, 3)


@pytest.mark.parametrize("how", [send, cast], ids=["send", "cast"])
@as_process
async def test_send_and_cast_wait_five_seconds_by_default(node, how):
    """Without a timeout of its own a send gives up after 5 seconds."""
    with pytest.raises(MailboxFull):
        await how(full(), "x")
    assert trio.current_time() == 5.0


@as_process
async def test_cast_nowait_is_refused_by_a_full_mailbox(node):
    """`cast_nowait` raises MailboxFull at once (contracts)."""
    with pytest.raises(MailboxFull):
        cast_nowait(full(), "x")
    assert trio.current_time() == 0.0


@as_process
async def test_a_waiting_sender_gets_in_when_there_is_room(node):
    """A send that waits goes in the moment that a message is taken, behind those before it (contracts)."""
    log: list[object] = []
    pid = spawn(keeper, log, limit=2)
    send_nowait(pid, 1)
    send_nowait(pid, 2)
    send_after(3, pid, Take())
    await send(pid, 3, timeout=10)
    assert (trio.current_time(), log, queue_of(pid)) == (3.0, [1], 2)
    for _ in range(2):
        take(pid)
    await mail()
    assert log == [1, 2, 3]


@as_process
async def test_waiting_senders_are_let_in_first_come_first_served(node):
    """Room goes to the sender that has waited longest, and nobody overtakes (contracts)."""
    log: list[object] = []
    pid = spawn(keeper, log, limit=1)
    send_nowait(pid, 0)
    for number in range(1, 6):
        spawn(send, pid, number)
        await trio.testing.wait_all_tasks_blocked()
    take(pid)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(MailboxFull):
        send_nowait(pid, "overtaking")
    for _ in range(5):
        take(pid)
    await mail()
    assert log == [0, 1, 2, 3, 4, 5]


@as_process
async def test_a_sender_that_gave_up_leaves_its_place(node):
    """One that ran out of time, or was cancelled, or died, sends nothing; the next one gets the room (contracts)."""
    log: list[object] = []
    pid = spawn(keeper, log, limit=1)
    send_nowait(pid, 0)

    async def impatient():
        with pytest.raises(MailboxFull):
            await send(pid, "too late", timeout=1)

    async def cancelled():
        with trio.move_on_after(2):
            await send(pid, "cancelled", timeout=100)

    async def patient():
        await send(pid, "patient", timeout=100)

    spawn(impatient)
    await trio.testing.wait_all_tasks_blocked()
    spawn(cancelled)
    await trio.testing.wait_all_tasks_blocked()
    victim = spawn(send, pid, "dead")
    await trio.testing.wait_all_tasks_blocked()
    spawn(patient)
    await trio.testing.wait_all_tasks_blocked()
    exit(victim, KILL)
    for seconds in (3, 4):
        send_after(seconds, pid, Take())
    send_after(5, self_pid(), "now")
    await receive()
    assert log == [0, "patient"]


@as_process
async def test_the_death_of_the_receiver_lets_the_senders_go(node):
    """A sender that waits when the receiver dies returns: its message is as lost as any to a dead pid (P32)."""
    pid = full()
    done = []

    async def waits(how):
        await how(pid, "x", timeout=100)
        done.append((how, trio.current_time()))

    spawn(waits, send)
    spawn(waits, cast)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    await mail()
    assert sorted(done, key=repr) == sorted([(send, 0.0), (cast, 0.0)], key=repr)


@as_process
async def test_exits_and_downs_are_never_counted(node):
    """A full mailbox takes every Exit and Down, and they leave no room for more messages (contracts)."""
    log: list[object] = []

    async def watches():
        for pid in others:
            link(pid)
            monitor(pid)
        await receive(lambda m: m == "now")
        while True:
            log.append(await receive(timeout=0))

    others = [spawn(idle) for _ in range(4)]
    pid = spawn(watches, trap=True, limit=2)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(pid, 1)
    send_nowait(pid, 2)
    for other in others:
        exit(other, "boom")
    await trio.testing.wait_all_tasks_blocked()
    assert queue_of(pid) == 10
    with pytest.raises(MailboxFull):
        send_nowait(pid, "x")
    send_after(0, pid, "now")
    await mail()
    assert [type(m) for m in log] == [int, int, *[Exit, Down] * 4]


@as_process
async def test_replies_are_never_counted(node):
    """Answers to requests reach a process whose mailbox is full (contracts)."""
    log: list[object] = []
    server = await start(Doubler)

    async def asks():
        for number in range(3):
            send_request(server, Double(number), number)
        send_request("nobody", "x", "missing")
        await receive(lambda m: m == "now")
        for _ in range(4):
            log.append(await receive(Answer))

    pid = spawn(asks, limit=1)
    send_nowait(pid, "full")
    await trio.testing.wait_all_tasks_blocked()
    assert queue_of(pid) == 5
    send_after(0, pid, "now")
    await mail()
    assert sorted((a.label, a.value) for a in log if not a.failed) == [(0, 0), (1, 2), (2, 4)]  # type: ignore[attr-defined]  # Answers


@as_process
async def test_a_full_process_still_gets_its_reply(node):
    """The reply to a call wakes the caller, whatever lies in its mailbox (contracts)."""
    server = await start(Doubler)
    got, is_full = [], trio.Event()

    async def asks():
        await is_full.wait()
        got.append(await call(server, Double(4)))

    pid = spawn(asks, limit=1)
    send_nowait(pid, "full")
    is_full.set()
    await trio.testing.wait_all_tasks_blocked()
    assert got == [8]


@as_process
async def test_system_messages_are_never_counted(node):
    """A full server still answers `sys`, and can be stopped (contracts)."""
    server = await start(Doubler)
    await sys.suspend(server)
    for number in range(3):
        await cast(server, number)
    with pytest.raises(MailboxFull):
        cast_nowait(server, "x")
    with pytest.raises(Busy):
        await call(server, Double(1))
    assert await sys.get_state(server) == {"casts": []}
    await sys.resume(server)
    assert await sys.get_state(server) == {"casts": [0, 1, 2]}
    await sys.suspend(server)
    for number in range(3):
        await cast(server, number)
    await sys.stop(server)
    assert not is_alive(server)


@as_process
async def test_signals_reach_a_full_process(node):
    """A kill, and any other exit signal, overtakes a full mailbox (contracts)."""
    assert [await exit_and_wait(full(), KILL), await exit_and_wait(full(), "boom")] == [KILLED, "boom"]


@as_process
async def test_signals_that_are_passed_on_are_counted_like_any_message(node):
    """An Exit, Down or Answer that a process sends on as its own message keeps the books straight."""
    trap_exit(True)
    pid = spawn(_takes_when_told, limit=2)
    forwarded = [Down(monitor(self_pid()), "x", 1), Exit(self_pid(), 1), Answer("l", 1)]
    for _ in range(20):
        for one in forwarded[:2]:
            send_nowait(pid, one)
        with pytest.raises(MailboxFull):
            send_nowait(pid, forwarded[2])
        send_after(0, pid, Take())
        send_after(0, pid, Take())
        await trio.testing.wait_all_tasks_blocked()
        assert queue_of(pid) == 0
    send_nowait(pid, 1)
    send_nowait(pid, 2)
    with pytest.raises(MailboxFull):
        send_nowait(pid, 3)


async def _takes_when_told() -> None:
    while True:
        await receive(Take)
        await receive(lambda m: not isinstance(m, Take))


@as_process
async def test_demonitor_with_flush_keeps_the_books(node):
    """A Down that is flushed out of a full mailbox leaves its bound as it was."""
    said = []

    async def watches():
        child, ref = spawn_monitor(idle)
        exit(child, "x")
        await receive(lambda m: m == "now")
        said.append(demonitor(ref, flush=True))
        await receive(lambda m: m == "never")

    pid = spawn(watches, limit=2)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(pid, 1)
    send_nowait(pid, 2)
    send_after(0, pid, "now")
    await trio.testing.wait_all_tasks_blocked()
    assert (said, queue_of(pid)) == ([False], 2)
    with pytest.raises(MailboxFull):
        send_nowait(pid, 3)


@as_process
async def test_requests_count_while_they_wait_only(node):
    """A request that was taken leaves room; one that waits for its reply elsewhere is not counted."""

    async def holds():
        held = [await receive(Caller) for _ in range(3)]
        for one in held:
            reply(one, one.request)
        await trio.sleep_forever()

    pid = spawn(holds, limit=1)
    got = []

    async def asks(what):
        got.append(await call(pid, what))

    for number in range(3):
        spawn(asks, number)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(got) == [0, 1, 2]


@as_process
async def test_a_request_without_wait_to_a_full_mailbox_is_answered_busy(node):
    """`send_request` to a full mailbox gives a failed Answer "busy", later and once (contracts)."""
    pid = full()
    send_request(pid, "x", "l")
    assert await mail() == [Answer("l", None, "busy", failed=True)]


@as_process
async def test_a_mailbox_of_one_works(node):
    """The smallest mailbox passes messages one by one, in order."""
    log: list[object] = []
    done = trio.Event()

    async def reads():
        while len(log) < 20:
            log.append(await receive())
        done.set()

    pid = spawn(reads, limit=1)
    for number in range(20):
        await send(pid, number, timeout=math.inf)
    await done.wait()
    assert log == list(range(20))


@as_process
async def test_the_default_bound_is_ten_thousand(node):
    """A mailbox holds 10,000 messages by default (P51, contracts)."""
    pid = spawn(idle)
    for _ in range(10_000):
        send_nowait(pid, None)
    with pytest.raises(MailboxFull) as caught:
        send_nowait(pid, None)
    assert caught.value.limit == 10_000


@as_process
async def test_callers_of_a_full_process_that_dies_learn_its_reason(node):
    """Everybody whose request was accepted is told when the callee ends (N8)."""
    pid = spawn(idle, limit=2)
    reasons = []

    async def asks():
        try:
            await call(pid, "x", timeout=100)
        except (CalleeExited, Busy) as error:
            reasons.append(getattr(error, "reason", "busy"))

    for _ in range(3):
        spawn(asks)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, "boom")
    await mail()
    assert sorted(map(str, reasons)) == ["boom", "boom", "busy"]


@message("unit.kernel.double")
class Double(Call[int]):
    number: int


class Doubler(GenServer):
    mailbox_limit = 3

    def init(self):
        self.casts = []

    def handle_call(self, request, caller):
        return request.number * 2

    def handle_cast(self, request):
        self.casts.append(request)
