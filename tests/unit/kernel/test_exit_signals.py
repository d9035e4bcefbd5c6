"""Exit signals: what they do to one who traps, to one who does not, and to the sender itself."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    CalleeExited,
    Exit,
    Misuse,
    Pid,
    Shutdown,
    call,
    exit,
    exit_with,
    is_alive,
    link,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exit,
)
from tests.support.processes import as_process, ended, exit_and_wait, idle, mail

REASONS = ["boom", SHUTDOWN, Shutdown(1), KILLED, NOPROC, 0, "", (), False]


@pytest.mark.parametrize("reason", REASONS, ids=repr)
@as_process
async def test_a_signal_ends_one_who_does_not_trap(node, reason):
    """Any reason but NORMAL and KILL ends the receiver with that very reason (P5)."""
    assert await exit_and_wait(spawn(idle), reason) is reason


@as_process
async def test_a_normal_signal_is_ignored_by_one_who_does_not_trap(node):
    """NORMAL from another process has no effect on one who does not trap (P6)."""
    pid = spawn(idle)
    exit(pid, NORMAL)
    await trio.testing.wait_all_tasks_blocked()
    assert (is_alive(pid), await mail()) == (True, [])


@pytest.mark.parametrize("reason", [*REASONS, NORMAL], ids=repr)
@as_process
async def test_one_who_traps_gets_a_message_and_lives(node, reason):
    """To one who traps, a signal is the message Exit(source, reason), NORMAL included (P7)."""
    to = self_pid()

    async def traps():
        send_nowait(to, await receive())
        await trio.sleep_forever()

    pid = spawn(traps, trap=True)
    exit(pid, reason)
    assert (await mail(), is_alive(pid)) == ([Exit(to, reason)], True)


@as_process
async def test_kill_cannot_be_trapped(node):
    """`exit(pid, KILL)` ends the receiver with KILLED, whatever it traps (P8)."""
    assert [await exit_and_wait(spawn(idle, trap=trap), KILL) for trap in (False, True)] == [KILLED] * 2


@as_process
async def test_what_is_linked_to_a_killed_process_sees_killed(node):
    """The links of a killed process get KILLED, which can be trapped (P8)."""
    trap_exit(True)
    pid = spawn_link(idle)
    exit(pid, KILL)
    assert await mail() == [Exit(pid, KILLED)]


@as_process
async def test_kill_by_a_link_can_be_trapped(node):
    """A process that ends by itself with KILL sends its links a reason like any other (P2, P9)."""
    trap_exit(True)

    async def ends():
        exit_with(KILL)

    pid = spawn_link(ends)
    assert await mail() == [Exit(pid, KILL)]


@as_process
async def test_exit_of_oneself_does_not_return(node):
    """`exit(self_pid(), R)` ends one who does not trap at once: the next line does not run (P11)."""
    steps = []

    async def ends():
        exit(self_pid(), "boom")
        steps.append("ran on")

    assert (await ended(ends), steps) == ("boom", [])


@as_process
async def test_exit_of_oneself_with_normal_ends_one_who_does_not_trap(node):
    """To oneself even NORMAL is an end, the exception to P6 (P10)."""
    steps = []

    async def ends():
        exit(self_pid(), NORMAL)
        steps.append("ran on")

    assert (await ended(ends), steps) == (NORMAL, [])


@as_process
async def test_exit_of_oneself_is_a_message_to_one_who_traps(node):
    """One who traps and sends an exit to itself finds it in its mailbox (P10)."""
    trap_exit(True)
    for reason in (NORMAL, "boom"):
        exit(self_pid(), reason)
    assert await mail() == [Exit(self_pid(), NORMAL), Exit(self_pid(), "boom")]


@as_process
async def test_killing_oneself_cannot_be_trapped(node):
    """`exit(self_pid(), KILL)` ends the caller with KILLED at once, trapping or not (P8, P11)."""
    steps = []

    async def ends():
        exit(self_pid(), KILL)
        steps.append("ran on")

    assert [await ended(ends, trap=trap) for trap in (False, True)] == [KILLED, KILLED]
    assert steps == []


@as_process
async def test_an_exit_of_oneself_that_is_caught_still_ends(node):
    """A signal to oneself is no exception that code can talk its way out of (P11)."""

    async def clings():
        try:
            exit(self_pid(), "boom")
        except BaseException:
            pass
        await trio.sleep_forever()

    assert await ended(clings) == "boom"


@as_process
async def test_a_signal_to_the_dead_does_nothing(node):
    """`exit` to a dead pid, or to one that never was, is silent (P4)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    exit(pid, "again")
    exit(Pid("elsewhere", 1, 10**9), KILL)
    assert await mail() == []


@pytest.mark.parametrize("target", ["a name", None, 5], ids=repr)
async def test_a_signal_needs_a_pid(node, target):
    """`exit` of anything but a pid is misuse (P4)."""
    with pytest.raises(Misuse, match="wants a Pid"):
        exit(target, "boom")


async def test_the_host_may_send_a_signal(node):
    """Host code is no process; its signal ends one who does not trap."""
    pid = spawn(idle)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, "from outside")
    assert not is_alive(pid)
    with pytest.raises(CalleeExited) as caught:
        await call(pid, "anybody?")
    assert caught.value.reason == "from outside"


@as_process
async def test_the_first_signal_counts(node):
    """A process that is already ending keeps the reason that reached it first (P48)."""
    pid, _ = spawn_monitor(idle)
    for reason in ("first", "second", KILL):
        exit(pid, reason)
    (down,) = await mail()
    assert down.reason == "first"


@as_process
async def test_alive_is_false_as_soon_as_an_exit_has_begun(node):
    """Nobody sees a process as alive to which a deadly signal has been sent (P41)."""
    pid = spawn(idle)
    trapping = spawn(idle, trap=True)
    before = [is_alive(pid), is_alive(trapping)]
    exit(pid, "boom")
    exit(trapping, "boom")
    assert (before, is_alive(pid), is_alive(trapping)) == ([True, True], False, True)


@as_process
async def test_the_setter_of_trapping_tells_what_it_was(node):
    """`trap_exit` returns the old value; the default is not to trap (P19)."""
    assert [trap_exit(True), trap_exit(True), trap_exit(False), trap_exit(False)] == [
        False,
        True,
        True,
        False,
    ]


@as_process
async def test_turning_trapping_off_leaves_what_was_trapped(node):
    """Exits in the mailbox stay messages and kill nobody when trapping ends (P20)."""
    trap_exit(True)
    pid = spawn_link(idle)
    exit(pid, "boom")
    await trio.testing.wait_all_tasks_blocked()
    trap_exit(False)
    assert await mail() == [Exit(pid, "boom")]


@as_process
async def test_a_signal_counts_as_it_finds_the_receiver(node):
    """Whether a signal is trapped is decided when it arrives, not when the process runs (P7)."""
    got = []

    async def changes():
        trap_exit(False)
        got.append(await receive())

    pid = spawn(changes, trap=True)
    exit(pid, "while it trapped")
    await trio.testing.wait_all_tasks_blocked()
    assert got == [Exit(self_pid(), "while it trapped")]


@as_process
async def test_signals_and_messages_of_one_sender_keep_their_order(node):
    """Exits that are trapped stand among the messages of their sender in the order of sending (P34)."""
    to = self_pid()
    got: list[object] = []

    async def traps():
        while len(got) < 4:
            got.append(await receive())

    pid = spawn(traps, trap=True)
    send_nowait(pid, 1)
    exit(pid, "one")
    send_nowait(pid, 2)
    exit(pid, "two")
    await mail()
    assert got == [1, Exit(to, "one"), 2, Exit(to, "two")]


@as_process
async def test_a_process_dies_in_a_chain_of_links_with_the_first_reason(node):
    """Reason and order: a linked process that is being killed keeps KILLED for its own links (P8, P48)."""
    trap_exit(True)

    async def middle():
        link(lower)
        await trio.sleep_forever()

    lower = spawn(idle)
    pid = spawn_link(middle)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    exit(lower, "too late to matter")
    assert await mail() == [Exit(pid, KILLED)]
