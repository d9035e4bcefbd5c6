"""Aliases: addresses of a process that it can give up (rules P52-P55)."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from runtime import (
    NOPROC,
    NORMAL,
    Down,
    MailboxFull,
    Misuse,
    alias,
    cast,
    demonitor,
    exit,
    is_alive,
    monitor,
    receive,
    self_pid,
    send,
    send_nowait,
    spawn,
    unalias,
)
from tests.support.processes import as_process, ended, exit_and_wait, idle, inside, mail

MODES = ["explicit_unalias", "demonitor", "reply_demonitor"]


@as_process
async def test_an_alias_is_an_address_until_it_is_given_up(node):
    """What is sent to an alias arrives; after `unalias` it vanishes, and its sender hears nothing (P52)."""
    ref = alias()
    send_nowait(ref, 1)
    await send(ref, 2)
    unalias(ref)
    send_nowait(ref, 3)
    await send(ref, 4)
    assert await mail() == [1, 2]


@as_process
async def test_demonitor_does_not_end_a_plain_alias(node):
    """An alias that is no monitor outlives `demonitor` (P52)."""
    ref = alias()
    assert demonitor(ref) is False
    send_nowait(ref, "still there")
    assert await mail() == ["still there"]


@as_process
async def test_an_alias_for_one_reply_takes_one_message(node):
    """With `reply` the first message uses an alias up (P52, P53)."""
    ref = alias(reply=True)
    send_nowait(ref, 1)
    send_nowait(ref, 2)
    assert (await mail(), unalias(ref)) == ([1], False)


@pytest.mark.parametrize("mode", MODES)
@as_process
async def test_a_monitor_may_be_an_alias(node, mode):
    """The reference of a monitor is an address too, whatever its mode (P53)."""
    ref = monitor(spawn(idle), alias=mode)
    send_nowait(ref, "hello")
    assert await mail() == ["hello"]


@pytest.mark.parametrize(
    ("mode", "after"), [("explicit_unalias", ["late"]), ("demonitor", []), ("reply_demonitor", [])]
)
@as_process
async def test_a_down_ends_an_alias_by_its_mode(node, mode, after):
    """Once the Down has come only an alias with explicit_unalias is left (P53)."""
    pid = spawn(idle)
    ref = monitor(pid, alias=mode)
    exit(pid, "boom")
    assert await mail() == [Down(ref, pid, "boom")]
    send_nowait(ref, "late")
    assert await mail() == after


@pytest.mark.parametrize("mode", MODES)
@as_process
async def test_a_monitor_of_the_dead_is_an_alias_until_its_down(node, mode):
    """Until NOPROC has come the alias of a monitor on something dead takes messages (P23, P53)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    ref = monitor(pid, alias=mode)
    send_nowait(ref, "in time")
    told = await mail()
    # The message ends a monitor of reply_demonitor, so that its Down never comes.
    assert told == (["in time"] if mode == "reply_demonitor" else ["in time", Down(ref, pid, NOPROC)])


@pytest.mark.parametrize(
    ("mode", "after"), [("explicit_unalias", ["late"]), ("demonitor", []), ("reply_demonitor", [])]
)
@as_process
async def test_demonitor_ends_an_alias_by_its_mode(node, mode, after):
    """`demonitor` ends the alias with the monitor, but for explicit_unalias (P53)."""
    ref = monitor(spawn(idle), alias=mode)
    assert demonitor(ref) is True
    send_nowait(ref, "late")
    assert await mail() == after


@as_process
async def test_a_message_by_the_alias_ends_a_monitor_of_one_reply(node):
    """With reply_demonitor the first message takes alias and monitor away: no Down follows (P53)."""
    pid = spawn(idle)
    ref = monitor(pid, alias="reply_demonitor")
    send_nowait(ref, "reply")
    send_nowait(ref, "again")
    exit(pid, "boom")
    assert (await mail(), demonitor(ref)) == (["reply"], False)


@as_process
async def test_a_monitor_with_an_alias_goes_on_after_unalias(node):
    """Giving the alias up leaves the monitor as it is (P53, P54)."""
    pid = spawn(idle)
    ref = monitor(pid, alias="demonitor")
    assert unalias(ref) is True
    send_nowait(ref, "lost")
    exit(pid, "boom")
    assert await mail() == [Down(ref, pid, "boom")]


@as_process
async def test_a_monitor_of_oneself_is_no_alias(node):
    """Watching oneself gives a reference that is no address (P25, P53)."""
    ref = monitor(self_pid(), alias="demonitor")
    send_nowait(ref, "lost")
    assert (await mail(), unalias(ref)) == ([], False)


@as_process
async def test_unalias_tells_whether_it_was_active(node):
    """`unalias` says True once; False of what was given up, or never was an alias (P54)."""
    ref = alias()
    assert [unalias(ref), unalias(ref), unalias(monitor(spawn(idle)))] == [True, False, False]


@as_process
async def test_only_its_owner_gives_an_alias_up(node):
    """In another process's hands `unalias` and `demonitor` do nothing and say so (P55)."""
    refs = [alias(), monitor(spawn(idle), alias="demonitor")]

    async def meddles():
        assert [unalias(ref) for ref in refs] == [False, False]
        assert [demonitor(ref) for ref in refs] == [False, False]

    assert await ended(meddles) is NORMAL
    for number, ref in enumerate(refs):
        send_nowait(ref, number)
    assert await mail() == [0, 1]


@as_process
async def test_the_death_of_its_owner_ends_an_alias(node):
    """What is sent to a dead process's alias vanishes in silence (P32, P55)."""
    refs = []

    async def gives():
        refs.append(alias())

    await inside(gives)
    send_nowait(refs[0], "lost")
    await send(refs[0], "lost")
    assert await mail() == []


@as_process
async def test_an_unknown_mode_is_misuse(node):
    """A monitor's alias has one of OTP's three modes; nothing was monitored."""
    pid = spawn(idle)
    with pytest.raises(Misuse, match="explicit_unalias, demonitor or reply_demonitor, got 'reply'"):
        monitor(pid, alias="reply")
    exit(pid, "boom")
    assert (await mail(), is_alive(pid)) == ([], False)


@as_process
async def test_an_alias_cannot_be_monitored(node):
    """An alias is an address and no process: to watch it is misuse, and does not use it up."""
    ref = alias(reply=True)
    with pytest.raises(Misuse, match="monitor takes no alias"):
        monitor(ref)
    send_nowait(ref, "first")
    assert await mail() == ["first"]


@pytest.mark.parametrize("make", [partial(alias, reply=True), lambda: monitor(spawn(idle), alias="reply_demonitor")])
@as_process
async def test_a_message_that_found_no_room_does_not_use_an_alias_up(node, make):
    """A sender that is told MailboxFull has sent nothing: an alias for one message still takes one (P53)."""
    refs, took, room = [], [], trio.Event()

    async def full():
        refs.append(make())
        await room.wait()
        took.append(await receive())
        took.append(await receive())

    pid = spawn(full, limit=1)
    await mail()
    send_nowait(pid, "fills it")
    with pytest.raises(MailboxFull):
        send_nowait(refs[0], "no room")
    room.set()
    await mail()
    send_nowait(refs[0], "room")
    await mail()
    assert took == ["fills it", "room"]


@pytest.mark.parametrize("put", [send, cast])
@as_process
async def test_a_message_that_waits_for_room_uses_an_alias_up(node, put):
    """While it waits nobody else's message goes by the same alias (P53)."""
    refs, took, room = [], [], trio.Event()

    async def full():
        refs.append(alias(reply=True))
        await room.wait()
        while True:
            took.append(await receive())

    pid = spawn(full, limit=1)
    await mail()
    send_nowait(pid, "fills it")
    spawn(put, refs[0], "waits")
    await mail()
    send_nowait(refs[0], "too late")
    room.set()
    await mail()
    assert len(took) == 2
