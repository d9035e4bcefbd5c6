"""Global names on several nodes: nobody has one before all agree, everybody knows it, and it goes with its holder."""

from __future__ import annotations

import random

import pytest
import trio

from runtime import (
    Down,
    GenServer,
    Misuse,
    Pid,
    StartFailed,
    call,
    exit,
    global_name,
    global_names,
    monitor,
    receive,
    spawn,
    start,
    whereis,
)
from tests.support.linked import linked, settled
from tests.support.processes import idle


class Named(GenServer):
    """Says who it is."""

    def handle_call(self, request, caller):
        return (request, caller.callee.pid)


async def on(net, name, function, *args):
    """Run a function on a node, and return what it returns."""

    async def body():
        result = function(*args)
        return await result if hasattr(result, "__await__") else result

    return await net[name].run(body)


def mesh(net, names="abc"):
    """Link every node with every other."""
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            net.mend(one, other)
            if frozenset((one, other)) not in net.links:
                net.connect(one, other)


async def test_a_name_is_given_once_among_all_nodes():
    """A second registration gives False on every node, and a start under the name tells who has it (R7)."""
    async with linked("a", "b", "c") as net:
        mesh(net)
        pid = await on(net, "a", lambda: start(Named, name=global_name("one")))
        await settled()
        for name in "abc":
            assert await on(net, name, whereis, global_name("one")) == pid
            assert await on(net, name, call, global_name("one"), "hello") == ("hello", pid)
            with pytest.raises(StartFailed, match="belongs to"):
                await on(net, name, lambda: start(Named, name=global_name("one")))
        with pytest.raises(Misuse, match="register_everywhere"):
            await on(net, "b", lambda: global_names.register_name("two", spawn(idle)))


@pytest.mark.parametrize("seed", range(10))
async def test_of_many_who_want_a_name_one_gets_it(seed):
    """However many nodes ask at once, one process has the name, and all nodes know the same one (R7)."""
    async with linked("a", "b", "c", seed=seed) as net:
        mesh(net)
        dice, won = random.Random(seed), []

        async def wants(name):
            await trio.sleep(dice.uniform(0, 0.01))  # virtual

            async def body():
                pid = spawn(idle)
                if await global_names.register_everywhere("it", pid):
                    won.append(pid)

            await net[name].run(body)

        async with trio.open_nursery() as nursery:
            for name in "abcabc":
                nursery.start_soon(wants, name)
        await settled()
        assert len(won) == 1
        for name in "abc":
            assert await on(net, name, global_names.whereis_name, "it") == won[0]
            assert net[name].dist.agreement.locks == {}


async def test_a_name_goes_with_its_holder():
    """With its end, with its node, or when it is given up; then it is free for others."""
    async with linked("a", "b", "c") as net:
        mesh(net)
        pid = await on(net, "b", lambda: start(Named, name=global_name("x")))
        await settled()
        await on(net, "c", lambda: exit(global_names.whereis_name("x"), "gone"))
        await settled()
        for name in "abc":
            assert await on(net, name, global_names.registered_names) == []
        assert await on(net, "b", lambda: global_names.register_everywhere("x", spawn(idle))) is True
        await on(net, "c", global_names.unregister_name, "x")
        await settled()
        assert await on(net, "b", global_names.whereis_name, "x") is None
        again = await on(net, "b", lambda: start(Named, name=global_name("x")))
        assert again != pid
        net.stop("b")
        await settled()
        for name in "ac":
            assert await on(net, name, global_names.whereis_name, "x") is None


async def test_taking_a_name_over_is_agreed_too():
    """`re_register_everywhere` takes the name from whoever has it, on all nodes (R8)."""
    async with linked("a", "b") as net:
        mesh(net, "ab")
        await on(net, "a", lambda: start(Named, name=global_name("x")))
        mine = await on(net, "b", lambda: spawn(idle))
        assert await on(net, "b", lambda: global_names.register_everywhere("x", mine)) is False
        assert await on(net, "b", lambda: global_names.re_register_everywhere("x", mine)) is True
        await settled()
        for name in "ab":
            assert await on(net, name, global_names.whereis_name, "x") == mine
        assert await on(net, "b", lambda: global_names.register_everywhere("second", mine)) is False


async def test_nodes_that_meet_tell_each_other_their_names():
    """What was given before two nodes were linked is known to both afterwards."""
    async with linked("a", "b") as net:
        one = await on(net, "a", lambda: start(Named, name=global_name("one")))
        two = await on(net, "b", lambda: start(Named, name=global_name(("two", 2))))
        mesh(net, "ab")
        await settled()
        for name in "ab":
            assert await on(net, name, global_names.whereis_name, "one") == one
            assert await on(net, name, global_names.whereis_name, ("two", 2)) == two


async def test_of_two_holders_after_a_split_one_is_ended():
    """The process on the node of the lesser name keeps the name, the other is killed; all agree (R9)."""
    async with linked("a", "b", "c") as net:
        mesh(net)
        net.cut("a", "b")
        net.cut("a", "c")
        one = await on(net, "a", lambda: start(Named, name=global_name("x")))
        two = await on(net, "c", lambda: start(Named, name=global_name("x")))
        await settled()

        async def watching():
            ref = monitor(two)
            mesh(net)
            down = await receive()
            assert isinstance(down, Down)
            assert (down.ref, str(down.reason)) == (ref, "killed")

        await net["c"].run(watching)
        await settled()
        for name in "abc":
            found = await on(net, name, global_names.whereis_name, "x")
            assert (type(found), found) == (Pid, one)


async def test_a_node_that_is_lost_keeps_no_lock():
    """A claim that was under way on a lost node does not stop others."""
    async with linked("a", "b", "c") as net:
        mesh(net)
        await on(net, "b", lambda: net["b"].dist.agreement._ask("a", "lock", "x", 99, False))
        assert net["a"].dist.agreement.locks == {"x": ("b", 99)}
        net.stop("b")
        assert await on(net, "c", lambda: global_names.register_everywhere("x", spawn(idle))) is True
