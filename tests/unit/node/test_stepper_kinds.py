"""What is ended when it will not give way: each kind of process, a start, a system call, a line; what is durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from runtime import (
    Answer,
    Down,
    GenEvent,
    StartFailed,
    call,
    gen_event,
    receive,
    send_request,
    spawn_monitor,
    start,
)
from runtime import sys as sys_calls
from runtime.behaviours.system import CallbackFailed
from runtime.durable.commands import CommandSetAside, Numbered
from runtime.observe.repl import Outcome
from runtime.observe.repl import Session as Lines
from supervisors import Node, Task

from .hogs import (
    Hog,
    Listener,
    Machine,
    Purses,
    Put,
    Read,
    Spin,
    Waiting,
    anew,
    ends,
    is_runaway,
    on_node,
    spin,
)

# -- who is meant ------------------------------------------------------------------------------------------


async def waits_and_spins() -> None:
    await trio.lowlevel.checkpoint()
    spin()


async def spins_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(waits_and_spins)


@pytest.mark.parametrize("request_", [waits_and_spins, spins_in_a_nursery], ids=["itself", "in a nursery"])
def test_code_that_may_wait_is_broken_between_two_waits(request_):
    """An async callback is, and a task in a nursery that it has opened; its reason is the Runaway, not a group."""

    async def work(node: Node) -> None:
        assert is_runaway(await ends(await start(Waiting), request_))

    on_node(work)


class SpinsAtOnce(Hog):
    """Does not even start."""

    def init(self) -> None:
        spin()


def test_a_start_that_never_ends_fails():
    """A plain `init` runs within its starter, who gets StartFailed and is not harmed."""

    async def work(node: Node) -> None:
        with pytest.raises(StartFailed) as failed:
            await start(SpinsAtOnce)
        assert is_runaway(failed.value.reason)

    on_node(work)


def test_a_state_machine_is_broken():
    """So is a state function of a GenStatem."""
    on_node(ends_as_runaway(lambda: start(Machine)))


def ends_as_runaway(begin: Callable[[], Awaitable[Any]]) -> Callable[[Node], Awaitable[None]]:
    async def work(node: Node) -> None:
        assert is_runaway(await ends(await begin(), 1))

    return work


def test_an_event_handler_is_removed_and_the_manager_lives_on():
    """A handler's failure is its own (E5), and so is its Runaway."""

    async def work(node: Node) -> None:
        manager = await start(GenEvent)
        patient: list[object] = []
        await gen_event.add_handler(manager, Listener, [])
        await gen_event.sync_notify(manager, "spin")
        assert await gen_event.which_handlers(manager) == []
        await gen_event.add_handler(manager, Listener, patient)
        await gen_event.sync_notify(manager, "event")
        assert patient == ["event"]

    on_node(work)


async def watches_a_function() -> object:
    spawn_monitor(waits_and_spins)
    return await receive(Down)


def test_plain_functions_are_broken():
    """What `spawn` runs ends in the same way, without a behaviour."""

    async def work(node: Node) -> None:
        down = await call(await start(Waiting), watches_a_function, timeout=60)
        assert is_runaway(down.reason)

    on_node(work)


async def awaits_a_task() -> object:
    return await Task.async_(waits_and_spins)


def test_tasks_are_broken():
    """A Task ends so too, and takes its owner along, to which it is linked."""
    on_node(ends_as_runaway_over(awaits_a_task))


def ends_as_runaway_over(request: object) -> Callable[[Node], Awaitable[None]]:
    async def work(node: Node) -> None:
        assert is_runaway(await ends(await start(Waiting), request))

    return work


def never(state: object) -> object:
    spin()
    return state


def test_a_system_call_is_broken_and_the_process_lives():
    """Whoever runs a function in a server by `sys` is told, and the server is as it was (Y5)."""

    async def work(node: Node) -> None:
        pid = await start(Hog)
        with pytest.raises(CallbackFailed) as failed:
            await sys_calls.replace_state(pid, never, timeout=60)
        assert is_runaway(failed.value.reason)
        assert await call(pid, None) == 1

    on_node(work)


def test_a_typed_line_is_broken():
    """A line ends in words, also one that has opened a nursery; the next one runs."""

    async def work(node: Node) -> None:
        lines = Lines(node.table, {"spins_in_a_nursery": spins_in_a_nursery})
        fine = "Interrupted: this line held the CPU for 0.1 s (limit 0.1 s); the node is fine."
        for source in ("while True: pass\n", "await spins_in_a_nursery()"):
            outcome = await lines.evaluate(source)
            assert outcome == Outcome(error=fine, interrupted=True)
        assert await lines.evaluate("1 + 1") == Outcome(value="2")
        lines.close()

    on_node(work)


# -- what is durable ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["handle", "apply", "committed"])
def test_a_durable_process_goes_on_from_its_journal(where):
    """What was acknowledged is there, what was speculative is gone; a commit that was made before counts."""

    async def work(node: Node) -> None:
        await node.start(Purses)
        assert await call("purse", Put(5)) == 5
        assert is_runaway(await ends("purse", Spin(where)))
        await anew(node, "purse")
        assert await call("purse", Read()) == (1005 if where == "committed" else 5)

    on_node(work, data=":memory:")


@pytest.mark.parametrize("where", ["handle", "apply"])
def test_a_command_that_never_ends_is_set_aside(where):
    """A numbered command that breaks its process three times is poison, as one that raises is."""

    async def work(node: Node) -> None:
        await node.start(Purses)
        for _ in range(3):
            await ends("purse", Numbered("ann", 1, Spin(where)))
            await anew(node, "purse")
        with pytest.raises(CommandSetAside):
            await call("purse", Numbered("ann", 1, Spin(where)))
        assert await call("purse", Numbered("ann", 2, Put(1))) == 1

    on_node(work, data=":memory:")


def test_what_is_accepted_behind_the_gate_goes_with_the_process():
    """Callers whose entries are under way are told of the end; sent again, a number is applied at most once."""

    async def work(node: Node) -> None:
        await node.start(Purses)

        async def asks() -> list[object]:
            for number, command in ((1, Put(1)), (2, Put(1)), (3, Spin("handle"))):
                send_request("purse", Numbered("ann", number, command), number, timeout=60)
            return [await receive(Answer) for _ in range(3)]

        answers = await call(await start(Waiting), asks, timeout=60)
        assert sorted(one.label for one in answers if one.failed) == [1, 2, 3]
        await anew(node, "purse")
        for number in (1, 2):
            await call("purse", Numbered("ann", number, Put(1)))
        assert await call("purse", Read()) == 2

    on_node(work, data=":memory:")
