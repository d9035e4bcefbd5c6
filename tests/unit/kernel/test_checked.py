"""The development check: a message that was changed after it was sent is found when it is received."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import pytest
import trio

from runtime import (
    BadReturn,
    Call,
    CalleeExited,
    Crash,
    Down,
    GenServer,
    MutatedMessage,
    Pid,
    Via,
    call,
    cast,
    demonitor,
    exit_with,
    global_names,
    message,
    monitor,
    receive,
    self_pid,
    send,
    send_after,
    send_interval,
    send_nowait,
    spawn,
    spawn_monitor,
    start,
    sys,
)
from runtime.kernel.checked import CheckedMailbox, seal
from tests.support.processes import as_process, end_of, exit_and_wait, idle, running_node


@pytest.fixture
async def node():
    """A node that looks for changed messages."""
    async with running_node(check_messages=True) as node:
        yield node


class Colour(Enum):
    RED = 1


@message("tests.checked.order")
class Order(Call[int]):
    items: object


@dataclass
class Line:
    text: str
    notes: list[str] = field(default_factory=list)


class Thing:
    """An object of the application's own."""

    def __init__(self) -> None:
        self.size = 1


class Slotted:
    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 1


class Taker(GenServer):
    """Takes whatever comes."""

    def handle_call(self, request, caller):
        return 1

    def handle_cast(self, request):
        return None

    def handle_info(self, message):
        return None


# What is sent, how it is changed after that, and what is said of it.
CHANGES = {
    "list": ([1, 2], lambda x: x.append(3), ["list[2]: was nothing, is 3"]),
    "shorter": ([1, 2], lambda x: x.pop(), ["list[1]: was 2, is nothing"]),
    "dict": ({"a": 1}, lambda x: x.update(a=2), ["dict['a']: was 1, is 2"]),
    "key": ({"a": 1}, lambda x: x.clear(), ["dict['a']: was 1, is nothing"]),
    "set": ({1}, lambda x: x.add(2), ["set{2}: was nothing, is 2"]),
    "bytes": (bytearray(b"ab"), lambda x: x.clear(), ["bytearray.bytes: was b'ab', is b''"]),
    "deque": (deque([1]), lambda x: x.append(2), ["deque[1]: was nothing, is 2"]),
    "in-a-tuple": ((1, [2]), lambda x: x[1].clear(), ["tuple[1][0]: was 2, is nothing"]),
    "in-a-record": (Order([[1]]), lambda x: x.items[0].append(2), ["Order.items[0][1]: was nothing, is 2"]),
    "a-field": (Line("a"), lambda x: setattr(x, "text", "b"), ["Line.text: was 'a', is 'b'"]),
    "under-a-field": (Line("a"), lambda x: x.notes.append("n"), ["Line.notes[0]: was nothing, is 'n'"]),
    "an-attribute": (Thing(), lambda x: setattr(x, "size", 2), ["Thing.size: was 1, is 2"]),
    "a-new-attribute": (Thing(), lambda x: setattr(x, "colour", "red"), ["Thing.colour: was nothing, is 'red'"]),
    "a-slot": (Slotted(), lambda x: setattr(x, "size", 2), ["Slotted.size: was 1, is 2"]),
    "another-type": ([1], lambda x: x.__setitem__(0, True), ["list[0]: was 1, is True"]),
    "two": ([1, 2], lambda x: x.reverse(), ["list[0]: was 1, is 2", "list[1]: was 2, is 1"]),
}

FROZEN = {
    "numbers": (1, 2.0, 3j, True, None),
    "text": ("a", b"b"),
    "frozen-set": frozenset({1, "a"}),
    "record": Order(5),
    "record-of-records": Order((Order("a"), Order(None))),
    "enum": Colour.RED,
    "class": Order,
    "function": len,
    "via": Via(global_names, ("a", 1)),
    "exception": ValueError("x"),
}


@pytest.mark.parametrize(("sent", "change", "said"), CHANGES.values(), ids=CHANGES.keys())
@as_process
async def test_a_change_after_the_send_is_found(node, sent, change, said):
    """Whoever takes a message that was changed on its way hears what has changed, who sent it, and where (P45)."""
    seen = []

    async def receiver():
        try:
            await receive()
        except MutatedMessage as error:
            seen.append(error)

    pid = spawn(receiver, label="receiver")
    send_nowait(pid, sent)
    change(sent)
    await end_of(pid)
    (error,) = seen
    assert (error.changes, error.sender, error.receiver, error.message) == (said, self_pid(), pid, sent)
    assert error.place.startswith(f"{__name__}:")
    assert all(part in str(error) for part in [*said, "the test", "receiver", error.place, "send a copy"])


@pytest.mark.parametrize("sent", FROZEN.values(), ids=FROZEN.keys())
async def test_what_cannot_change_is_not_looked_at_again(node, sent):
    """Of numbers, text, frozen records and their like no fingerprint is kept."""
    assert seal(sent) is sent


@pytest.mark.parametrize(("sent", "change", "said"), CHANGES.values(), ids=CHANGES.keys())
@as_process
async def test_what_stays_as_it_is_arrives(node, sent, change, said):
    """A message that can change, and does not, is received as it was sent."""
    send_nowait(self_pid(), sent)
    send_nowait(self_pid(), "next")
    assert [await receive() is sent, await receive()] == [True, "next"]


@as_process
async def test_a_changed_message_is_complained_of_once(node):
    """A receiver that goes on after the error gets the message as it now is."""
    sent = [1]
    send_nowait(self_pid(), sent)
    sent.append(2)
    with pytest.raises(MutatedMessage):
        await receive()
    assert await receive() == [1, 2]


@as_process
async def test_a_message_that_holds_itself_is_looked_at_once(node):
    """Circles in a message are no circles for the check."""
    sent = [1]
    sent.append(sent)
    send_nowait(self_pid(), sent)
    assert await receive() is sent
    send_nowait(self_pid(), sent)
    sent[0] = 2
    with pytest.raises(MutatedMessage, match=r"list\[0\]: was 1, is 2"):
        await receive()


@as_process
async def test_handles_are_taken_as_they_are(node):
    """What belongs to Trio or to Python's library may change by itself: it is no copy on the BEAM either."""
    event, sent = trio.Event(), [pytest.raises]
    send_nowait(self_pid(), (event, sent))
    event.set()
    assert await receive() == (event, sent)


@as_process
async def test_a_server_ends_and_its_caller_learns_of_it(node):
    """A request that was changed ends the server before any callback sees it; the caller gets the reason."""
    pid = await start(Taker)
    items = [1]
    await sys.suspend(pid)
    reasons = []

    async def caller():
        try:
            await call(pid, Order(items))
        except CalleeExited as error:
            reasons.append(error.reason)

    asking = spawn(caller)
    await trio.testing.wait_all_tasks_blocked()
    items.append(2)
    await sys.resume(pid)
    await end_of(asking)
    (reason,) = reasons
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, MutatedMessage)
    assert (reason.error.changes, reason.error.sender) == (["Order.items[1]: was nothing, is 2"], asking)


@pytest.mark.parametrize("how", [cast, send])
@as_process
async def test_a_cast_and_a_send_are_looked_at(node, how):
    """Whatever way a message goes, it is checked."""
    pid = await start(Taker)
    ref, sent = monitor(pid), [1]
    await how(pid, sent)
    sent.clear()
    down = await receive(Down)
    assert isinstance(down.reason, Crash)
    assert isinstance(down.reason.error, MutatedMessage)
    assert (down.ref, down.reason.error.message) == (ref, [])


@as_process
async def test_a_send_that_had_to_wait_for_room_is_looked_at(node):
    """A message that was let into a full mailbox later is checked from then on."""
    taken = []

    async def slow():
        await trio.sleep(1)  # virtual
        taken.append(await receive())
        await trio.sleep(1)  # virtual
        taken.append(await receive())

    pid = spawn(slow, limit=1)
    ref, sent = monitor(pid), ["waits"]
    send_nowait(pid, "full")
    await send(pid, sent)
    sent.clear()
    down = await receive(Down)
    assert isinstance(down.reason, Crash)
    assert (down.ref, taken, type(down.reason.error)) == (ref, ["full"], MutatedMessage)


@pytest.mark.parametrize("set_it", [send_after, send_interval])
@as_process
async def test_a_timers_message_is_looked_at_from_when_it_was_set(node, set_it):
    """What a timer is to send is checked from the call that set it."""
    sent = [1]
    set_it(5, self_pid(), sent)
    sent.append(2)
    with pytest.raises(MutatedMessage) as caught:
        await receive()
    assert (caught.value.sender, trio.current_time()) == (self_pid(), 5.0)


@as_process
async def test_the_hosts_messages_have_no_sender(node):
    """Host code is named as what it is."""
    seen = []

    async def receiver():
        try:
            await receive()
        except MutatedMessage as error:
            seen.append(error)

    pid, sent = spawn(receiver), [1]
    token = trio.lowlevel.current_trio_token()

    def from_the_host():
        node.table.find(pid).offer(sent)
        sent.append(2)

    token.run_sync_soon(from_the_host)
    await end_of(pid)
    assert (seen[0].sender, "host code" in str(seen[0])) == (None, True)


@as_process
async def test_selective_receive_and_flush_keep_the_books(node):
    """Taking from the middle and dropping unread leave every other message with its own fingerprint."""
    pid = spawn(idle)
    ref, first, last = monitor(pid), ["first"], ["last"]
    send_nowait(self_pid(), first)
    send_nowait(self_pid(), "picked")
    await exit_and_wait(pid, "x")
    send_nowait(self_pid(), last)
    assert [await receive(str), demonitor(ref, flush=True)] == ["picked", False]
    last.clear()
    assert await receive() is first
    with pytest.raises(MutatedMessage, match="last"):
        await receive()


@as_process
async def test_an_object_without_a_repr_is_named_by_its_type(node):
    """The complaint does not fail because a value cannot be shown."""

    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    sent = [Mute()]
    send_nowait(self_pid(), sent)
    sent.clear()
    with pytest.raises(MutatedMessage, match="a Mute whose repr raised RuntimeError"):
        await receive()


@as_process
async def test_only_some_of_many_changes_are_told(node):
    """A message that was changed all over does not fill the log."""
    sent = list(range(100))
    send_nowait(self_pid(), sent)
    sent.reverse()
    with pytest.raises(MutatedMessage) as caught:
        await receive()
    assert len(caught.value.changes) == 5


async def test_the_reason_of_a_death_is_looked_at_too(node):
    """What the runtime itself passes on, like an exit reason, is shared and checked like a message."""
    reason, seen = ["why"], []

    async def dies():
        exit_with(BadReturn(reason))

    async def watcher():
        spawn_monitor(dies)
        await trio.sleep(1)  # virtual
        reason.append("more")
        try:
            await receive()
        except MutatedMessage as error:
            seen.extend(error.changes)

    spawn(watcher)
    await trio.sleep(2)  # virtual
    assert seen == ["Down.reason.value[1]: was nothing, is 'more'"]


async def test_without_the_option_nothing_is_looked_at():
    """By default there is no check: mailboxes are Python's own, made when the first message comes."""
    async with running_node() as node:
        got: list[object] = []

        async def receiver():
            got.append(await receive())

        pid, sent = spawn(receiver), [1]
        before = _mailbox(pid)
        send_nowait(pid, sent)
        sent.append(2)
        kind = type(_mailbox(pid))
        await trio.testing.wait_all_tasks_blocked()
        assert (node.table.check_messages, before, kind, got) == (False, None, deque, [[1, 2]])
    async with running_node(check_messages=True):
        assert type(_mailbox(spawn(idle))) is CheckedMailbox


def _mailbox(pid: Pid) -> object:
    process = pid._process
    assert process is not None
    return process.mailbox
