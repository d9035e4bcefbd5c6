"""What belongs to the host of a node, not to its processes: interrupts, exits, its own exceptions and cancel scopes."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    SHUTDOWN,
    CalleeExited,
    GenServer,
    call,
    cast,
    is_alive,
    register,
    registered_names,
    spawn,
    start,
    whereis,
)
from tests.support.processes import idle, running_node

from .serving import Awaits, raises

HOSTS = [KeyboardInterrupt, SystemExit, trio.TrioInternalError]


def leaves(error: BaseException) -> list[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [type(error)]


@pytest.mark.parametrize("error", HOSTS)
@pytest.mark.parametrize("where", ["plain", "async", "process", "nursery", "init"])
async def test_what_belongs_to_the_host_reaches_it(error, where):
    """KeyboardInterrupt, SystemExit and TrioInternalError pass every process and end the node."""

    class Raises(GenServer):
        def init(self, now=False):
            if now:
                raise error("host")

        def handle_cast(self, request):
            raise error("host")

    async def in_a_nursery():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises, error("host"))

    async def block():
        async with running_node():
            match where:
                case "plain":
                    await cast(await start(Raises), 1)
                case "async":
                    spawn(call, await start(Awaits), lambda: raises(error("host")))
                case "process":
                    spawn(raises, error("host"))
                case "nursery":
                    spawn(in_a_nursery)
                case "init":
                    await start(Raises, True)
            await trio.sleep_forever()

    with pytest.raises((error, BaseExceptionGroup)) as caught:
        await block()
    assert leaves(caught.value) == [error]


async def test_an_interrupted_init_leaves_no_process_behind():
    """A KeyboardInterrupt in an init goes on to the host, and its name is free again."""

    class Interrupted(GenServer):
        def init(self):
            register("half made")
            raise KeyboardInterrupt

    async with running_node():
        with pytest.raises(KeyboardInterrupt):
            await start(Interrupted)
        assert (registered_names(), whereis("half made")) == ([], None)


async def raises_in_its_block(error: BaseException) -> None:
    async with running_node():
        spawn(idle)
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), StopAsyncIteration()])
async def test_the_hosts_own_exception_comes_out_as_it_is(error):
    """What the block of a node raises leaves it as that very object, in no group."""
    with pytest.raises(type(error)) as caught:
        await raises_in_its_block(error)
    assert caught.value is error


async def test_a_group_of_the_hosts_own_comes_out_as_it_is():
    """A group that the block raises is not wrapped in another one."""
    error = ExceptionGroup("mine", [ValueError("inner")])
    with pytest.raises(ExceptionGroup) as caught:
        await raises_in_its_block(error)
    assert caught.value is error


@pytest.mark.parametrize("how", ["outside", "inside"])
async def test_the_host_may_cancel_its_block(how):
    """A cancel scope around the node, or in its block, ends the block; the node ends in order all the same."""
    log: list[object] = []
    with trio.CancelScope() as outer:
        async with running_node():
            with trio.CancelScope() as inner:
                pid = await start(Awaits, log)
                (outer if how == "outside" else inner).cancel()
                await trio.sleep_forever()
            assert inner.cancelled_caught
            assert is_alive(pid)
    assert (outer.cancelled_caught, is_alive(pid)) == (how == "outside", False)


async def test_a_process_that_the_host_cancels_ends_with_shutdown():
    """A process that is cancelled from outside ends with SHUTDOWN, an orderly end without a report."""
    reasons = []

    async def waits(pid):
        with trio.CancelScope(shield=True):
            try:
                await call(pid, "anything")
            except CalleeExited as error:
                reasons.append(error.reason)

    with trio.CancelScope() as scope:
        async with running_node():
            pid = spawn(idle)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits, pid)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
    assert reasons == [SHUTDOWN]
