"""Process groups across nodes: each node's word on its own processes, seen by all a little later."""

from __future__ import annotations

import random

import pytest
import trio

from runtime import exit, pg, self_pid, send, spawn, start
from tests.support.linked import linked, seen_from, settled
from tests.support.processes import idle, mail


async def scoped(net, *names):
    """A scope on each node."""

    async def begin():
        return await start(pg.Scope)

    for name in names:
        await net[name].run(begin)


async def on(net, name, function):
    """Run a plain function on a node, and return what it returns."""

    async def body():
        return function()

    return await net[name].run(body)


async def members(net, name, group="g"):
    return await on(net, name, lambda: pg.get_members(group))


async def test_members_are_seen_on_every_node():
    """Who joins on one node is a member everywhere, as often as it joined; so who leaves or dies (G5, G6, G8)."""
    async with linked("a", "b", "c") as net:
        await scoped(net, "a", "b", "c")
        one = await on(net, "a", lambda: spawn(idle))
        await on(net, "a", lambda: pg.join("g", [one, one]))
        for pair in ("ab", "bc", "ac"):
            net.connect(*pair)
        await settled()
        two = await on(net, "b", lambda: spawn(idle))
        await on(net, "b", lambda: pg.join("g", two))
        await settled()
        for name in "abc":
            assert sorted(await members(net, name), key=repr) == sorted([one, one, two], key=repr)
        assert await on(net, "a", lambda: pg.get_local_members("g")) == [one, one]
        assert await on(net, "c", lambda: pg.get_local_members("g")) == []
        assert await on(net, "c", pg.which_groups) == ["g"]
        assert await on(net, "c", pg.which_local_groups) == []
        await on(net, "a", lambda: pg.leave("g", one))
        await on(net, "b", lambda: exit(two, "gone"))
        await settled()
        for name in "abc":
            assert await members(net, name) == [one]


async def test_a_lost_node_takes_its_members_with_it():
    """And brings them back when it is linked again, with what has changed meanwhile (G7)."""
    async with linked("a", "b") as net:
        await scoped(net, "a", "b")
        net.connect("a", "b")
        one, two = await on(net, "b", lambda: spawn(idle)), await on(net, "b", lambda: spawn(idle))
        await on(net, "b", lambda: pg.join("g", [one, two]))
        await settled()

        async def body():
            ref, now = pg.monitor("g")
            assert now == [one, two]
            net.cut("a", "b")
            assert await mail() == [pg.Leave(ref, "g", (one, two))]
            net.mend("a", "b")
            await on(net, "b", lambda: pg.leave("g", one))
            await on(net, "b", lambda: pg.join("g", two))
            net.connect("a", "b")
            assert await mail() == [pg.Join(ref, "g", (two, two))]

        await net["a"].run(body)


async def test_members_elsewhere_can_be_sent_to():
    """A broadcast to a group reaches the members of every node."""
    async with linked("a", "b") as net:
        await scoped(net, "a", "b")
        net.connect("a", "b")

        async def body():
            pg.join("room", self_pid())
            me = seen_from(net, "b", self_pid())
            await settled()

            async def talk():
                assert pg.get_members("room") == [me]
                for pid in pg.get_members("room"):
                    await send(pid, "news")

            await net["b"].run(talk)
            assert await mail() == ["news"]

        await net["a"].run(body)


async def test_a_group_whose_name_cannot_travel_stays_here():
    """Others do not see it, and everything else goes on."""
    async with linked("a", "b") as net:
        await scoped(net, "a", "b")
        pid = await on(net, "a", lambda: spawn(idle))
        strange = object()
        await on(net, "a", lambda: (pg.join(strange, pid), pg.join("g", pid)))
        net.connect("a", "b")
        await settled()
        assert await members(net, "b") == [pid]
        assert await members(net, "a", strange) == [pid]
        assert await on(net, "b", pg.which_groups) == ["g"]
        await on(net, "a", lambda: exit(pid, "gone"))
        await settled()
        assert await on(net, "b", pg.which_groups) == []
        assert len(net["a"].table.names) == 1  # the scope lives


@pytest.mark.parametrize("seed", range(12))
async def test_all_nodes_agree_in_the_end(seed):
    """Whatever joins, leaves, dies and is cut, linked nodes agree at rest, in order of each node's own (G5)."""
    dice = random.Random(seed)
    async with linked("a", "b", "c", seed=seed) as net:
        await scoped(net, "a", "b", "c")
        pids = {name: [await on(net, name, lambda: spawn(idle)) for _ in range(4)] for name in "abc"}
        for _ in range(120):
            name = dice.choice("abc")
            pid, group = dice.choice(pids[name]), dice.choice(["g", ("h", 1)])
            match dice.choice(("join", "join", "leave", "die", "cut", "link", "wait", "pause")):
                case "join":
                    await on(net, name, lambda pid=pid, group=group: pg.join(group, [pid] * dice.randint(1, 2)))
                case "leave":
                    await on(net, name, lambda pid=pid, group=group: pg.leave(group, pid))
                case "die":
                    await on(net, name, lambda pid=pid: exit(pid, "gone"))
                    pids[name].append(await on(net, name, lambda: spawn(idle)))
                case "cut":
                    net.cut(*dice.sample("abc", 2))
                case "link":
                    one, other = dice.sample("abc", 2)
                    net.mend(one, other)
                    if frozenset((one, other)) not in net.links:
                        net.connect(one, other)
                case "wait":
                    await trio.sleep(0.01)  # virtual
                case "pause":
                    net.pause()
                    await trio.sleep(0.001)  # virtual
                    net.resume()
        for pair in ("ab", "bc", "ac"):
            net.mend(*pair)
            if frozenset(pair) not in net.links:
                net.connect(*pair)
        await settled()
        for group in ("g", ("h", 1)):
            local = {name: await on(net, name, lambda group=group: pg.get_local_members(group)) for name in "abc"}
            for name in "abc":
                seen = await members(net, name, group)
                assert sorted(map(str, seen)) == sorted(str(pid) for own in local.values() for pid in own)
                assert {pid for pid in seen if pid.node == name} == set(local[name])
