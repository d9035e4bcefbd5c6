"""Local names: one holder each, freed by death."""

from __future__ import annotations

import pytest

from runtime import (
    Misuse,
    exit,
    receive,
    register,
    registered_names,
    self_pid,
    send_nowait,
    spawn,
    unregister,
    whereis,
)
from tests.support.processes import as_process, exit_and_wait, idle, mail


@as_process
async def test_a_name_stands_for_its_process(node):
    """`register` gives the caller a name, `whereis` finds it, messages to it arrive (R3)."""
    register("me")
    send_nowait("me", 1)
    assert (whereis("me"), registered_names(), await receive()) == (self_pid(), ["me"], 1)


@as_process
async def test_any_process_may_name_and_unname_another(node):
    """Names are given and taken by anybody (R4)."""
    pid = spawn(idle)
    register("b", pid)
    register("a")
    assert registered_names() == ["a", "b"]
    unregister("b")
    assert (whereis("b"), whereis("a")) == (None, self_pid())


@as_process
async def test_a_name_that_is_taken_is_refused(node):
    """A name has one holder, and the refusal says who it is (R1)."""
    pid = spawn(idle)
    register("it", pid)
    with pytest.raises(Misuse, match=f"'it' belongs to {pid}"):
        register("it")
    assert whereis("it") == pid


@as_process
async def test_a_process_has_one_name(node):
    """A second name for one process is refused (R1)."""
    register("one")
    with pytest.raises(Misuse, match="has the name 'one' already"):
        register("two")
    unregister("one")
    register("two")
    assert registered_names() == ["two"]


@as_process
async def test_the_dead_cannot_be_named(node):
    """A dead process gets no name (R1)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    with pytest.raises(Misuse, match="it is dead"):
        register("it", pid)
    assert registered_names() == []


@pytest.mark.parametrize("name", ["", None, 5, b"x", ["x"]], ids=repr)
@as_process
async def test_a_name_is_text(node, name):
    """A name is a non-empty string (R1)."""
    with pytest.raises(Misuse, match="non-empty string"):
        register(name)


@as_process
async def test_freeing_a_free_name_is_refused(node):
    """`unregister` of a name that nobody has is misuse (R2)."""
    with pytest.raises(Misuse, match="nobody has the name 'it'"):
        unregister("it")


@as_process
async def test_a_name_is_freed_by_death(node):
    """A name frees itself when its holder ends, for the next one to take (R3)."""
    first, second = spawn(idle), spawn(idle)
    register("it", first)
    await exit_and_wait(first, "x")
    assert whereis("it") is None
    register("it", second)
    assert whereis("it") == second


@as_process
async def test_a_name_that_was_given_up_is_not_freed_by_an_old_holder(node):
    """The death of a former holder leaves the name with the present one (R3)."""
    first, second = spawn(idle), spawn(idle)
    register("it", first)
    unregister("it")
    register("it", second)
    await exit_and_wait(first, "x")
    assert whereis("it") == second


@as_process
async def test_a_dying_process_keeps_its_name_until_it_has_ended(node):
    """A name is held to the end, so that two holders never overlap (P40)."""
    pid = spawn(idle)
    register("it", pid)
    exit(pid, "x")
    with pytest.raises(Misuse, match="belongs to"):
        register("it")
    await mail()
    register("it")
