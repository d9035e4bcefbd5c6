"""Names in a registry of one's choice: a destination, and the name of a start, wherever one is wanted."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    IGNORE,
    NOPROC,
    NORMAL,
    AlreadyStarted,
    Answer,
    Down,
    GenServer,
    MailboxFull,
    Misuse,
    NoProcess,
    Pid,
    StartFailed,
    Stop,
    Via,
    call,
    cast,
    cast_nowait,
    global_name,
    is_alive,
    monitor,
    process_info,
    receive,
    register,
    self_pid,
    send,
    send_after,
    send_nowait,
    send_request,
    spawn,
    start,
    start_link,
    sys,
    whereis,
)
from supervisors import BadSpec, Supervisor, child
from tests.support.processes import as_process, exit_and_wait, idle, mail


class Book:
    """A registry of the application's own, which writes down what it is asked."""

    def __init__(self) -> None:
        self.pids: dict[object, Pid] = {}
        self.asked: list[object] = []
        self.taken = False

    def register_name(self, name, pid):
        self.asked.append(("register_name", name))
        if self.taken or name in self.pids:
            return False
        self.pids[name] = pid
        return True

    def unregister_name(self, name):
        self.asked.append(("unregister_name", name))
        self.pids.pop(name, None)

    def whereis_name(self, name):
        pid = self.pids.get(name)
        return pid if pid is not None and is_alive(pid) else None

    def send(self, name, message):
        self.asked.append(("send", name))
        pid = self.whereis_name(name)
        if pid is None:
            raise NoProcess("nobody there", name)
        send_nowait(pid, message)
        return pid


class Broken(Book):
    """A registry that fails whenever it is asked."""

    def whereis_name(self, name):
        raise ZeroDivisionError("the registry's own")


class Echo(GenServer):
    """Says what it is asked, and what it was told."""

    def init(self, first=None):
        self.told: list[object] = []
        return first

    def handle_call(self, request, caller):
        return (request, self.told)

    def handle_cast(self, request):
        self.told.append(("cast", request))

    def handle_info(self, message):
        self.told.append(("info", message))


@as_process
async def test_a_via_is_a_destination_everywhere(node):
    """call, cast, send, monitor, send_request, timers, sys and process_info take a Via (R6)."""
    book = Book()
    via = Via(book, "echo")
    pid = await start(Echo, name=via)
    await cast(via, 1)
    cast_nowait(via, 2)
    await send(via, 3)
    send_nowait(via, 4)
    send_after(0, via, 5)
    await trio.testing.wait_all_tasks_blocked()
    told = [("cast", 1), ("cast", 2), ("info", 3), ("info", 4), ("info", 5)]
    assert await call(via, "ask") == ("ask", told)
    send_request(via, "later", "label")
    assert await receive(Answer) == Answer("label", ("later", told))
    assert (await sys.get_state(via), process_info(via).pid, whereis(via)) == ({"told": told}, pid, pid)
    ref = monitor(via)
    await sys.stop(via)
    assert await receive(Down) == Down(ref, via, NORMAL)


@as_process
async def test_sends_and_casts_go_by_the_registrys_own_send(node):
    """A registry sees what is sent by its names, so that it may choose who gets it (R6)."""
    book = Book()
    via = Via(book, "it")
    await start(Echo, name=via)
    book.asked.clear()
    await cast(via, 1)
    send_nowait(via, 2)
    await send(via, 3)
    assert book.asked == [("send", "it")] * 3


@as_process
async def test_a_free_via_is_like_any_free_name(node):
    """call, send and sys raise NoProcess, cast never fails, a monitor is told NOPROC (R6, N8, N11, P23)."""
    via = Via(Book(), "nobody")
    for act in (call, send, sys.get_state, sys.stop):
        with pytest.raises(NoProcess):
            await act(*((via, 1) if act in (call, send) else (via,)))
    with pytest.raises(NoProcess):
        send_nowait(via, 1)
    await cast(via, 1)
    cast_nowait(via, 1)
    assert (process_info(via), whereis(via)) == (None, None)
    ref = monitor(via)
    assert await receive(Down) == Down(ref, via, NOPROC)
    send_request(via, 1, "label")
    assert await receive(Answer) == Answer("label", None, NOPROC, failed=True)


@as_process
async def test_a_start_registers_before_init(node):
    """The name stands before `init` runs, and the start tells who was faster (R5, R6, N27)."""
    book, seen = Book(), []
    via = Via(book, "it")
    pid = await start(Looks, via, seen, name=via)
    with pytest.raises(StartFailed) as caught:
        await start_link(Looks, via, seen, name=via)
    assert (seen, caught.value.reason) == ([pid], AlreadyStarted(pid))


class Looks(GenServer):
    """Looks in `init` who has its name."""

    def init(self, via, seen):
        seen.append(whereis(via))


@as_process
async def test_a_name_that_is_taken_between_is_no_half_start(node):
    """If the registry says no although nobody was there, the process never runs `init` and leaves nothing (R5)."""
    book, seen = Book(), []
    book.taken = True
    before = len(node.table.processes)
    with pytest.raises(StartFailed) as caught:
        await start_link(Looks, Via(book, "it"), seen, name=Via(book, "it"))
    assert isinstance(caught.value.reason, AlreadyStarted)
    assert (seen, len(node.table.processes), await mail()) == ([], before, [])


@pytest.mark.parametrize("first", [Stop("no"), IGNORE, "bad"], ids=["stop", "ignore", "bad-return"])
@as_process
async def test_a_failed_start_gives_its_via_name_back(node, first):
    """After a start that failed or was ignored the registry is asked to forget the name (L6)."""
    book = Book()
    with pytest.raises(StartFailed):
        await start(Echo, first, name=Via(book, "it"))
    assert (book.pids, book.asked) == ({}, [("register_name", "it"), ("unregister_name", "it")])


@as_process
async def test_a_start_that_takes_too_long_gives_its_via_name_back(node):
    """A start that was given up frees the name at once (L4, L6)."""

    class Slow(GenServer):
        async def init(self):
            await trio.sleep(math.inf)  # virtual

    book = Book()
    with pytest.raises(StartFailed, match="timeout"):
        await start(Slow, name=Via(book, "it"), timeout=1.0)
    assert book.pids == {}
    await start(Echo, name=Via(book, "it"))


@as_process
async def test_a_failed_start_gives_its_global_name_back(node):
    """A global name is free again when the start has failed (L6, R3)."""
    with pytest.raises(StartFailed):
        await start(Echo, Stop("no"), name=global_name("it"))
    assert whereis(global_name("it")) is None
    assert await start(Echo, name=global_name("it")) == whereis(global_name("it"))


@as_process
async def test_a_supervisor_starts_children_under_a_via(node):
    """A child spec's name may be a Via; after a restart the name stands for the new process (R6)."""

    class Top(Supervisor):
        def init(self):
            return [child("echo", Echo, name=global_name("echo"))]

    await node.start(Top)
    first = whereis(global_name("echo"))
    await exit_and_wait(first, "crash")
    await trio.testing.wait_all_tasks_blocked()
    second = whereis(global_name("echo"))
    assert second is not None
    assert second != first
    with pytest.raises(BadSpec, match="a non-empty string or a Via"):
        child("echo", Echo, name=5)


@as_process
async def test_a_send_waits_for_room_behind_a_via(node):
    """`send` by a Via waits like any other send while the mailbox is full, and gives up in time."""
    book, taken = Book(), []

    async def slow():
        await trio.sleep(1)  # virtual
        taken.append(await receive())
        await idle()

    book.register_name("it", spawn(slow, limit=1))
    via = Via(book, "it")
    await send(via, 1)
    await send(via, 2)
    assert (taken, trio.current_time()) == ([1], 1.0)
    with pytest.raises(MailboxFull):
        send_nowait(via, 3)
    with pytest.raises(MailboxFull, match="still full after 2 s"):
        await send(via, 3, timeout=2.0)
    assert trio.current_time() == 3.0


@as_process
async def test_a_registrys_own_failure_stays_with_whoever_asks(node):
    """An error of a registry is raised at the caller; a timer that meets it is lost, and the others go on."""
    via = Via(Broken(), "it")
    with pytest.raises(ZeroDivisionError):
        await call(via, 1)
    with pytest.raises(ZeroDivisionError):
        await start(Echo, name=via)
    send_after(1, via, "lost")
    send_after(2, self_pid(), "comes")
    assert await receive() == "comes"


@as_process
async def test_a_registry_that_refuses_by_raising_leaves_no_process(node):
    """An error of `register_name` goes to the starter, and the half-made process is gone."""

    class Refuses(Book):
        def register_name(self, name, pid):
            raise ZeroDivisionError("no")

    before = len(node.table.processes)
    with pytest.raises(ZeroDivisionError):
        await start_link(Echo, name=Via(Refuses(), "it"))
    assert (len(node.table.processes), await mail()) == (before, [])


@as_process
async def test_a_registry_must_find_pids(node):
    """A `whereis_name` that gives something else is misuse, told to whoever asks."""
    book = Book()
    book.whereis_name = lambda name: "me"
    with pytest.raises(Misuse, match="gives a Pid or None"):
        await call(Via(book, "it"), 1)


@pytest.mark.parametrize("registry", [None, "global", object()], ids=["none", "a name", "an object"])
def test_a_via_wants_a_registry(registry):
    """Something that lacks one of OTP's four functions is refused when the Via is made (R6)."""
    with pytest.raises(Misuse, match="register_name, unregister_name, whereis_name, send"):
        Via(registry, "it")


def test_a_via_wants_a_name_that_can_be_hashed():
    """A list is no name."""
    with pytest.raises(Misuse, match="can be hashed"):
        Via(Book(), ["it"])


def test_a_via_is_a_value():
    """Two Vias with the same registry and name are equal, and hash alike."""
    book = Book()
    assert {Via(book, "a"), Via(book, "a"), Via(book, "b")} == {Via(book, "b"), Via(book, "a")}


async def test_a_local_name_is_no_via(node):
    """`register` gives local names only: others are given by their registry."""
    with pytest.raises(Misuse, match="non-empty string"):
        register(global_name("x"), spawn(idle))
