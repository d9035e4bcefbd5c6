"""Clients of supervised handlers, and the end of a manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    BadReturn,
    CalleeExited,
    EventHandlerExit,
    Exit,
    GenEvent,
    NotAProcess,
    Shutdown,
    exit,
    exit_with,
    gen_event,
    is_alive,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    start,
    start_link,
    sys,
    trap_exit,
    unlink,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail
from tests.unit.behaviours.handlers import ERROR, KINDS, Act, Given, Plain, raises, returns


@dataclass(frozen=True, slots=True)
class Run:
    """Asks a client to run an async function, as itself."""

    function: Any


class Client:
    """Another process that supervises handlers; `mail` is what it got."""

    def __init__(self, *, trap: bool = True) -> None:
        self.mail: list[Any] = []
        self.pid = spawn(self._live, trap=trap)

    async def _live(self):
        while True:
            match await receive():
                case Run(function):
                    await function()
                case message:
                    self.mail.append(message)

    async def does(self, function):
        """Let the client run a function, and everybody settle."""
        send_nowait(self.pid, Run(function))
        await trio.testing.wait_all_tasks_blocked()

    async def adds(self, events, name, log=None, **given):
        """Let the client add a supervised handler."""
        given = Given(name, log if log is not None else [], **given)
        await self.does(lambda: gen_event.add_sup_handler(events, (Plain, name), given))


def links_of(pid) -> set[Any]:
    return set(pid._process.links or ())


# -- clients hear of their handlers --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_client_is_told_when_its_handler_goes(node, kind):
    """NORMAL when it was deleted or removed, `Failed(why)` when it failed; nobody else is told (E10)."""
    events = await start(GenEvent)
    other = Client()
    await other.adds(events, "other")
    for name in ("deleted", "removed", "failed", "wrong"):
        await gen_event.add_sup_handler(events, (kind, name), Given(name))
    await gen_event.delete_handler(events, (kind, "deleted"))
    await gen_event.sync_notify(events, Act("removed", returns(gen_event.Remove())))
    await gen_event.sync_notify(events, Act("wrong", returns("nonsense")))
    await gen_event.sync_notify(events, Act("failed", raises))
    *told, failed = await mail()
    assert told == [
        EventHandlerExit((kind, "deleted"), NORMAL),
        EventHandlerExit((kind, "removed"), NORMAL),
        EventHandlerExit((kind, "wrong"), gen_event.Failed(BadReturn("nonsense"))),
    ]
    assert failed.handler == (kind, "failed")
    assert failed.reason.why.error is ERROR
    assert other.mail == []


@as_process
async def test_a_client_is_told_even_if_terminate_fails(node):
    """The reason is why the handler went, not what `terminate` did then (E10)."""
    events = await start(GenEvent)
    await gen_event.add_sup_handler(events, Plain, Given("a", last=raises))
    await gen_event.sync_notify(events, Act("a", returns(gen_event.Remove())))
    assert await mail() == [EventHandlerExit(Plain, NORMAL)]


@as_process
async def test_swap_handler_keeps_the_old_handlers_client(node):
    """It hears `Swapped(new, client)` with itself as the client, and supervises the new handler (E7)."""
    events = await start(GenEvent)
    client = Client()
    await client.adds(events, "old")
    await gen_event.swap_handler(events, (Plain, "old"), (Plain, "new"), new_argument=Given("new"))
    await gen_event.delete_handler(events, (Plain, "new"))
    assert await mail() == []
    assert client.mail == [
        EventHandlerExit((Plain, "old"), gen_event.Swapped((Plain, "new"), client.pid)),
        EventHandlerExit((Plain, "new"), NORMAL),
    ]


@as_process
async def test_swap_sup_handler_makes_the_caller_the_client(node):
    """The old client hears who supervises the new handler; its link stays (E7)."""
    events = await start(GenEvent)
    client = Client()
    await client.adds(events, "old")
    await gen_event.swap_sup_handler(events, (Plain, "old"), (Plain, "new"), new_argument=Given("new"))
    assert await mail() == []
    assert client.mail == [EventHandlerExit((Plain, "old"), gen_event.Swapped((Plain, "new"), self_pid()))]
    assert links_of(events) == {client.pid, self_pid()}
    await gen_event.delete_handler(events, (Plain, "new"))
    assert await mail() == [EventHandlerExit((Plain, "new"), NORMAL)]


@as_process
async def test_a_swap_without_an_old_handler_is_supervised_only_if_asked(node):
    """`swap_handler` then installs an unsupervised one, `swap_sup_handler` the caller's (E7)."""
    events = await start(GenEvent)
    await gen_event.swap_handler(events, (Plain, "none"), (Plain, 1), new_argument=Given("1"))
    assert links_of(events) == set()
    await gen_event.swap_sup_handler(events, (Plain, "none"), (Plain, 2), new_argument=Given("2"))
    assert links_of(events) == {self_pid()}
    for number in (1, 2):
        await gen_event.delete_handler(events, (Plain, number))
    assert await mail() == [EventHandlerExit((Plain, 2), NORMAL)]


@as_process
async def test_the_old_client_hears_of_a_swap_before_the_new_init(node):
    """And so also when that `init` fails (E7)."""
    log = []
    events = await start(GenEvent)
    client = Client()
    await client.adds(events, "old")

    def looks(_handler):
        log.append(list(client.pid._process.mailbox or ()) != [])
        exit_with("gone")

    with pytest.raises(gen_event.HandlerFailed):
        await gen_event.swap_handler(events, (Plain, "old"), Plain, new_argument=Given("new", first=looks))
    assert log == [True]
    await mail()
    assert client.mail == [EventHandlerExit((Plain, "old"), gen_event.Swapped(Plain, client.pid))]


@as_process
async def test_a_handlers_own_swap_keeps_its_client(node):
    """The client hears of the swap; should the new handler fail at once, also of that, and why (E7, E10)."""
    events = await start(GenEvent)
    await gen_event.add_sup_handler(events, (Plain, "a"), Given("a"))
    swap = gen_event.Swap((Plain, "b"), None, Given("b"))
    await gen_event.sync_notify(events, Act("a", returns(swap)))
    swapped = gen_event.Swapped((Plain, "b"), self_pid())
    assert await mail() == [EventHandlerExit((Plain, "a"), swapped)]
    failing = gen_event.Swap((Plain, "c"), None, Given("c", first=returns(gen_event.Failed("no"))))
    await gen_event.sync_notify(events, Act("b", returns(failing)))
    assert await mail() == [
        EventHandlerExit((Plain, "b"), gen_event.Swapped((Plain, "c"), self_pid())),
        EventHandlerExit((Plain, "c"), gen_event.Failed("no")),
    ]
    assert await gen_event.which_handlers(events) == []


# -- links ---------------------------------------------------------------------------------------------


@as_process
async def test_the_link_comes_before_init_and_stays(node):
    """It is there when `init` runs, also one that fails, and when the handler is gone; there is one a client (E10)."""
    events = await start(GenEvent)
    seen = []
    with pytest.raises(gen_event.HandlerFailed):
        await gen_event.add_sup_handler(
            events, Plain, Given("a", first=lambda _handler: [seen.append(links_of(events)), exit_with("no")])
        )
    assert seen == [{self_pid()}]
    assert links_of(events) == {self_pid()}
    await gen_event.add_sup_handler(events, (Plain, 1), Given("1"))
    await gen_event.add_sup_handler(events, (Plain, 2), Given("2"))
    await gen_event.delete_handler(events, (Plain, 1))
    assert links_of(events) == {self_pid()}


@pytest.mark.parametrize("reason", [NORMAL, "boom", KILL, Shutdown("x")])
@as_process
async def test_a_clients_end_takes_its_handlers_and_the_others_hear_of_it(node, reason):
    """First `terminate(ClientExited(reason))` for its own, newest first, then the Exit as an info for all (E10)."""
    log = []
    events = await start(GenEvent)
    client = Client()
    await client.adds(events, "a", log)
    await gen_event.add_handler(events, (Plain, "stranger"), Given("stranger", log))
    await client.adds(events, "b", log)
    log.clear()
    await client.does(lambda: dies(reason))
    gone = gen_event.ClientExited(reason)
    assert log == [
        ("b", "terminate", gone),
        ("a", "terminate", gone),
        ("stranger", "info", Exit(client.pid, reason)),
    ]
    assert await gen_event.which_handlers(events) == [(Plain, "stranger")]


async def dies(reason):
    exit_with(reason)


@as_process
async def test_an_exit_signal_of_a_living_client_ends_its_handlers_too(node):
    """The manager takes it for the client's end, as OTP does; the client is told SHUTDOWN (E10)."""
    log = []
    events = await start(GenEvent)
    await gen_event.add_sup_handler(events, Plain, Given("a", log))
    exit(events, "boom")
    assert await mail() == [EventHandlerExit(Plain, SHUTDOWN)]
    assert log == [("a", "init", None), ("a", "terminate", gen_event.ClientExited("boom"))]
    assert is_alive(events)


@as_process
async def test_the_end_of_an_unlinked_client_is_not_seen(node):
    """A process that only calls, or that unlinked itself, ends without a trace (E10)."""
    log = []
    events = await start(GenEvent)
    caller, unlinked = Client(), Client()
    await caller.does(lambda: gen_event.add_handler(events, (Plain, "a"), Given("a", log)))
    await unlinked.adds(events, "b", log)

    async def leaves():
        unlink(events)
        exit_with("boom")

    log.clear()
    await caller.does(lambda: dies("boom"))
    await unlinked.does(leaves)
    assert log == []
    assert await gen_event.which_handlers(events) == [(Plain, "b"), (Plain, "a")]


@as_process
async def test_swap_handler_links_a_client_that_had_unlinked_itself(node):
    """Who is to supervise the new handler is linked before its `init`, whoever it is (E7, E10)."""
    events = await start(GenEvent)
    await gen_event.add_sup_handler(events, Plain, Given("old"))
    unlink(events)
    await gen_event.swap_handler(events, Plain, Plain, new_argument=Given("new"))
    assert links_of(events) == {self_pid()}


@as_process
async def test_a_client_that_is_gone_before_it_is_served_loses_its_handler(node):
    """The link meets a dead process: the handler is installed and then ends with NOPROC (E10, P15)."""
    log = []
    events = await start(GenEvent)
    await sys.suspend(events)
    client = Client()
    await client.adds(events, "a", log)
    assert await exit_and_wait(client.pid, KILL) == KILLED
    await sys.resume(events)
    assert await gen_event.which_handlers(events) == []
    assert log == [("a", "init", None), ("a", "terminate", gen_event.ClientExited(NOPROC))]


async def test_only_a_process_can_supervise_a_handler(node):
    """From host code there is nobody to link with; unsupervised handlers are for everybody."""
    events = await start(GenEvent)
    for wrong in (
        lambda: gen_event.add_sup_handler(events, Plain, Given("a")),
        lambda: gen_event.swap_sup_handler(events, Plain, Plain, new_argument=Given("a")),
    ):
        with pytest.raises(NotAProcess):
            await wrong()
    await gen_event.add_handler(events, Plain, Given("a"))
    assert await gen_event.which_handlers(events) == [Plain]


# -- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom", KILL])
@as_process
async def test_a_stop_ends_every_handler_newest_first(node, reason):
    """`terminate(Stopped())` whatever the reason; clients get SHUTDOWN, are unlinked, and no Exit (E11, L10)."""
    log = []
    events = await start(GenEvent)
    client = Client(trap=False)
    await client.adds(events, "gone", log)
    await gen_event.delete_handler(events, (Plain, "gone"))
    await client.adds(events, "a", log)
    await gen_event.add_handler(events, (Plain, "b"), Given("b", log, last=raises))
    log.clear()
    client.mail.clear()
    await sys.stop(events, reason)
    assert log == [("b", "terminate", gen_event.Stopped()), ("a", "terminate", gen_event.Stopped())]
    await mail()
    assert client.mail == [EventHandlerExit((Plain, "a"), SHUTDOWN)]
    assert is_alive(client.pid)


@as_process
async def test_a_client_whose_handlers_are_gone_gets_the_managers_exit(node):
    """It is linked still: trapping it finds an Exit, otherwise it ends too (E11)."""
    events = await start(GenEvent)
    trapping, dying = Client(), Client(trap=False)
    for client, name in ((trapping, "a"), (dying, "b")):
        await client.adds(events, name)
        await gen_event.delete_handler(events, (Plain, name))
    await mail()
    trapping.mail.clear()
    await sys.stop(events, "boom")
    await mail()
    assert trapping.mail == [Exit(events, "boom")]
    assert not is_alive(dying.pid)


@as_process
async def test_a_parent_that_is_a_client_stays_linked_to_the_end(node, caplog):
    """It is told of its handler like any client, and gets the manager's exit like any parent (E11)."""
    trap_exit(True)
    events = await start_link(GenEvent)
    await gen_event.add_sup_handler(events, Plain, Given("a"))
    await sys.stop(events, "boom")
    assert await mail() == [EventHandlerExit(Plain, SHUTDOWN), Exit(events, "boom")]
    assert "Terminate" not in caplog.text  # the report of its end names no last message: it had none in hand


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_kill_runs_nothing_and_reaches_every_client(node, kind):
    """No `terminate`, no EventHandlerExit; every linked process gets KILLED (E12)."""
    trap_exit(True)
    log = []
    events = await start(GenEvent)
    await gen_event.add_sup_handler(events, kind, Given("a", log))
    assert await exit_and_wait(events, KILL) == KILLED
    assert await mail() == [Exit(events, KILLED)]
    assert log == [("a", "init", None)]


@as_process
async def test_a_kill_ends_a_handlers_wait(node, caplog):
    """Whoever waits for the manager learns of it at once; nothing else runs, and no handler has failed (E12, N8)."""
    log = []

    class Hangs(Plain):
        async def handle_event(self, event):
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("in the clean-up")

    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log))
    await gen_event.add_handler(events, Hangs, Given("b", log))
    log.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kills, events)
        with pytest.raises(CalleeExited) as error:
            await gen_event.sync_notify(events, "!", timeout=1000)
    assert error.value.reason is KILLED
    assert log == []
    assert "event handler" not in caplog.text


@as_process
async def test_no_handler_runs_after_one_that_outlasts_a_kill(node):
    """A shield delays the manager's end; what comes after it in the same event does not run any more (E12, P42)."""
    log = []

    class Shields(Plain):
        async def handle_event(self, event):
            with trio.CancelScope(shield=True):
                await trio.sleep(5)  # virtual

    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log))
    await gen_event.add_handler(events, Shields, Given("b", log))
    log.clear()
    await gen_event.notify(events, "!")
    await trio.testing.wait_all_tasks_blocked()
    assert await exit_and_wait(events, KILL) is KILLED
    assert trio.current_time() == 5.0
    assert log == []


async def kills(pid):
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)


@as_process
async def test_a_handler_that_kills_its_manager_ends_all_at_once(node):
    """The kill acts on the manager, whose code it is: no other handler runs after it (E12)."""
    log = []
    events = await start(GenEvent)
    await gen_event.add_handler(events, (Plain, "a"), Given("a", log))
    await gen_event.add_handler(events, (Plain, "b"), Given("b", log))
    log.clear()
    with pytest.raises(CalleeExited) as error:
        await gen_event.sync_notify(events, Act("b", lambda _handler: exit(self_pid(), KILL)))
    assert error.value.reason is KILLED
    assert log == []


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"])
@as_process
async def test_its_parents_exit_stops_a_manager(node, reason):
    """Any reason of the process that start_linked it, also while suspended (E12, Y12)."""
    for suspended in (False, True):
        log, started = [], []
        parent = Client()

        async def starts(started=started):
            started.append(await start_link(GenEvent))

        await parent.does(starts)
        (events,) = started
        await gen_event.add_handler(events, Plain, Given("a", log))
        if suspended:
            await sys.suspend(events)
        log.clear()
        send_nowait(events, "first")
        await mail()
        await parent.does(lambda events=events: signals(events, reason))
        assert log == [("a", "info", "first")] * (not suspended) + [("a", "terminate", gen_event.Stopped())]
        assert parent.mail == [Exit(events, reason)]


async def signals(pid, reason):
    exit(pid, reason)


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"])
@as_process
async def test_other_exits_are_infos_for_all(node, reason):
    """A manager traps exits: a stranger's, and its starter's if it has no parent, harm nobody (E12)."""
    log = []
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log))
    log.clear()
    exit(events, reason)
    await mail()
    assert log == [("a", "info", Exit(self_pid(), reason))]
    assert is_alive(events)


@as_process
async def test_a_handler_may_link_its_manager_to_a_process(node):
    """The linked process's end is an info too (E12)."""
    log, linked = [], []
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log))
    log.clear()
    await gen_event.sync_notify(events, Act("a", lambda _handler: linked.append(spawn_link(idle))))
    await exit_and_wait(linked[0], "boom")
    await mail()
    assert log == [("a", "info", Exit(linked[0], "boom"))]
