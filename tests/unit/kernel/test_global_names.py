"""Global names on one node: a table of their own, with OTP's rules of who may have how many."""

from __future__ import annotations

import pytest

from runtime import (
    KILL,
    MailboxFull,
    Misuse,
    NoProcess,
    NotAProcess,
    Via,
    exit,
    global_name,
    global_names,
    receive,
    register,
    self_pid,
    send_nowait,
    spawn,
    unregister,
    whereis,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail, running_node


@as_process
async def test_a_global_name_stands_for_its_process(node):
    """`register_name` says yes, `whereis_name` finds the process, `send` says who got the message (R7)."""
    assert global_names.register_name("x", self_pid())
    assert global_names.send("x", 1) == self_pid()
    assert (global_names.whereis_name("x"), await receive()) == (self_pid(), 1)


@as_process
async def test_a_second_registration_is_refused(node):
    """A name has one holder; a second one gets no, and the first keeps it (R7)."""
    first, second = spawn(idle), spawn(idle)
    assert global_names.register_name("x", first)
    assert [global_names.register_name("x", pid) for pid in (first, second)] == [False, False]
    assert global_names.whereis_name("x") == first


@as_process
async def test_local_and_global_names_know_nothing_of_each_other(node):
    """One word may be a local name here and a global one there, and one process may have both (R1, R7)."""
    one, other = spawn(idle), spawn(idle)
    register("x", one)
    assert global_names.register_name("x", other)
    assert global_names.register_name("y", one)
    assert [whereis("x"), whereis(global_name("x")), whereis(global_name("y"))] == [one, other, one]
    unregister("x")
    assert whereis(global_name("x")) == other


@as_process
async def test_a_second_global_name_of_one_process_is_refused(node):
    """`register_name` says no to a process that has a global name already (R8)."""
    pid = spawn(idle)
    assert global_names.register_name("x", pid)
    assert not global_names.register_name("y", pid)
    global_names.unregister_name("x")
    assert global_names.register_name("y", pid)
    assert global_names.registered_names() == ["y"]


@as_process
async def test_taking_a_name_over_checks_nothing(node):
    """`re_register_name` always says yes, takes the name away, and may give one process several (R8)."""
    old, new = spawn(idle), spawn(idle)
    assert all(global_names.re_register_name(name, old) for name in ("x", "y", "z"))
    assert global_names.re_register_name("y", new)
    assert [global_names.whereis_name(name) for name in ("x", "y", "z")] == [old, new, old]
    await exit_and_wait(old, KILL)
    assert global_names.registered_names() == ["y"]


@as_process
async def test_a_dead_process_gets_a_name_and_loses_it(node):
    """Registering the dead says yes and leaves the name free; taking over for the dead frees it (R8)."""
    dead, old = spawn(idle), spawn(idle)
    await exit_and_wait(dead, "x")
    assert [global_names.register_name("x", dead), global_names.whereis_name("x")] == [True, None]
    assert global_names.register_name("y", old)
    assert [global_names.re_register_name("y", dead), global_names.whereis_name("y")] == [True, None]
    assert global_names.register_name("z", old)


@as_process
async def test_death_frees_all_names_before_anybody_sees_it(node):
    """Whoever gets the Down finds the names free already (R3, P40)."""
    pid = spawn(idle)
    for name in ("x", "y"):
        global_names.re_register_name(name, pid)
    await exit_and_wait(pid, "x")
    assert (global_names.registered_names(), node.table.kept) == ([], {})


@as_process
async def test_an_old_holders_death_leaves_the_new_one_alone(node):
    """A name that was taken over stays with the one that took it (R3)."""
    old, new = spawn(idle), spawn(idle)
    global_names.register_name("x", old)
    global_names.re_register_name("x", new)
    await exit_and_wait(old, "x")
    assert global_names.whereis_name("x") == new


@as_process
async def test_freeing_a_free_global_name_is_nothing(node):
    """`unregister_name` of a name that nobody has does nothing (R7)."""
    global_names.unregister_name("x")
    assert global_names.registered_names() == []


@as_process
async def test_a_message_to_a_free_global_name_is_refused(node):
    """Sending to a name that nobody has raises at the sender, as OTP exits with badarg (R6)."""
    for send in (global_names.send, lambda name, message: send_nowait(global_name(name), message)):
        with pytest.raises(NoProcess, match="nobody has the name 'x'"):
            send("x", 1)


@as_process
async def test_a_full_mailbox_is_told(node):
    """A send by name is bounded like any other (contracts)."""
    global_names.register_name("x", spawn(idle, limit=1))
    global_names.send("x", 1)
    with pytest.raises(MailboxFull):
        global_names.send("x", 2)


@as_process
async def test_via_global_and_global_are_the_same_name(node):
    """`Via(global_names, name)` is `global_name(name)` (R6)."""
    global_names.register_name(("any", 1), self_pid())
    send_nowait(Via(global_names, ("any", 1)), 1)
    send_nowait(global_name(("any", 1)), 2)
    assert (Via(global_names, 1) == global_name(1), await mail()) == (True, [1, 2])


@as_process
async def test_only_a_pid_gets_a_global_name(node):
    """A name is given to a pid; anything else is misuse, and nothing was done."""
    for give in (global_names.register_name, global_names.re_register_name):
        with pytest.raises(Misuse, match="wanted a Pid"):
            give("x", "me")
    assert global_names.registered_names() == []


async def test_only_a_process_of_this_node_gets_a_global_name(node):
    """Until nodes talk to each other, a pid of another one is refused, also if both live in one program (R7)."""
    async with running_node("other") as other:
        pid = spawn(idle)
        assert other.table.own(pid) is pid._process
        with pytest.raises(Misuse, match="lives on node 'other'"):
            node.table.own(pid)
    for give in (global_names.register_name, global_names.re_register_name):
        with pytest.raises(Misuse, match="of its own only"):
            give("x", pid)


@as_process
async def test_a_dying_process_keeps_its_global_name_until_it_has_ended(node):
    """Two holders of one name never overlap (R3)."""
    pid = spawn(idle)
    global_names.register_name("x", pid)
    exit(pid, "x")
    assert not global_names.register_name("x", self_pid())
    await mail()
    assert global_names.register_name("x", self_pid())


def test_a_global_name_needs_a_node():
    """Outside every node there are no names."""
    with pytest.raises(NotAProcess):
        global_names.whereis_name("x")
