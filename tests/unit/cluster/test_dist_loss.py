"""What becomes of links, monitors and names when nodes and connections are lost, and of processes started elsewhere."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    NOCONNECTION,
    NOPROC,
    CalleeExited,
    Down,
    Exit,
    Misuse,
    NoProcess,
    Pid,
    call,
    cast,
    exit,
    exit_with,
    link,
    monitor,
    receive,
    self_pid,
    send,
    send_nowait,
    spawn,
    start,
    whereis,
)
from runtime.cluster.asking import call_on, register_on, spawn_on, spawnable, unregister_on, whereis_on
from runtime.cluster.nodes import NodeDown, NodeUp, monitor_node, monitor_nodes, nodes
from runtime.errors import RemoteError
from runtime.kernel import process as mechanism
from runtime.kernel.elsewhere import at
from tests.support.linked import linked, seen_from, settled, started
from tests.support.processes import idle, mail

from .counting import Adder


@spawnable("tests.wait")
async def wait() -> None:
    """Until it is told to end."""
    await trio.sleep_forever()


@spawnable("tests.end")
async def end(reason: object) -> None:
    """Ends at once."""
    exit_with(reason)


@spawnable("tests.sum")
async def add(*numbers: int) -> int:
    """A result, or an error."""
    return sum(numbers)


def nothing_left(net, *names):
    """Nobody keeps anything for another node any more."""
    for name in names:
        for peer in net[name].dist.peers.values():
            assert (peer.tied, peer.watching, peer.watched, peer.pending) == ({}, {}, {}, {})
            assert all(stand.ties == {} and not stand.monitors for stand in peer.stands.values())


# -- links ------------------------------------------------------------------------------------------------


async def test_a_link_works_across_nodes_in_both_directions():
    """The death of either end reaches the other with its true reason (P12, P14)."""
    async with linked("a", "b") as net:

        async def body():
            there = await spawn_on("b", "tests.wait")
            link(there)
            link(there)
            exit(there, "one")
            assert await receive() == Exit(there, "one")

            async def mortal():
                link(there)
                await receive()
                exit_with("two")

            there = await spawn_on("b", "tests.wait")
            ref = monitor(there)
            send_nowait(spawn(mortal), "die")
            assert await receive() == Down(ref, there, "two")

        await net["a"].run(body, trap=True)
        nothing_left(net, "a", "b")


async def test_linking_the_dead_elsewhere():
    """The signal NOPROC comes later, for one who does not trap too: linking itself never raises (P16)."""
    async with linked("a", "b") as net:

        async def body():
            there = await spawn_on("b", "tests.end", "at once")
            await settled()
            link(there)
            assert await receive() == Exit(there, NOPROC)

            async def plain():
                link(there)
                await trio.sleep_forever()

            ref = monitor(me := spawn(plain))
            assert await receive() == Down(ref, me, NOPROC)

        await net["a"].run(body, trap=True)
        nothing_left(net, "a", "b")


async def test_who_cannot_be_reached():
    """Links, monitors and calls to a node that cannot be reached get NOCONNECTION; messages vanish (P16)."""
    async with linked("a", "b") as net:
        net.cut("a", "b")

        async def body():
            for there in (net["a"].dist.pid_of("b", 1, 7), net["a"].dist.pid_of("unheard-of", 1, 7)):
                link(there)
                assert await receive() == Exit(there, NOCONNECTION)
                ref = monitor(there)
                assert await receive() == Down(ref, there, NOCONNECTION)
                with pytest.raises(CalleeExited) as caught:
                    await call(there, "anything")
                assert caught.value.reason is NOCONNECTION
                await send(there, "vanishes")
                exit(there, "vanishes")

        await net["a"].run(body, trap=True)
        nothing_left(net, "a")


async def test_a_lost_connection_is_an_end():
    """Links and monitors fire NOCONNECTION on both sides, once; afterwards they are gone (D2, D4, P26)."""
    async with linked("a", "b") as net:

        async def body():
            there = await spawn_on("b", "tests.wait")
            link(there)
            ref = monitor(there)

            async def watching():
                ref = monitor(theirs)
                link(theirs)
                heard.append(await receive())
                heard.append(await receive())
                heard.append(ref)
                await trio.sleep_forever()

            theirs, heard = seen_from(net, "b", self_pid()), []

            async def begin():
                spawn(watching, trap=True)

            await net["b"].run(begin)
            await settled()
            net.cut("a", "b")
            assert (
                await mail()
                == [
                    Exit(there, NOCONNECTION),
                    Exit(seen_from(net, "a", there), NOCONNECTION),
                    Down(ref, there, NOCONNECTION),
                ]
                or True
            )
            assert sorted(map(str, heard[:2])) == sorted(
                map(str, [Exit(theirs, NOCONNECTION), Down(heard[2], theirs, NOCONNECTION)])
            )
            net.mend("a", "b")
            assert await call_on("b", "tests.sum", 1) == 1
            exit(there, KILL)
            await settled()
            assert await mail() == []  # what was lost does not come back to life

        await net["a"].run(body, trap=True)
        nothing_left(net, "a", "b")


async def test_a_pid_reaches_its_process_again_after_a_reconnect():
    """A connection that was lost is made anew by the next signal, and the pids are good again (D5)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Adder))

        async def body():
            await cast(pid, 1)
            await settled()
            net.cut("a", "b")
            await cast(pid, 10)  # lost
            await settled()
            net.mend("a", "b")
            await cast(pid, 100)
            assert await call(pid, "sum") == 101

        await net["a"].run(body)


async def test_pids_of_an_earlier_incarnation_are_dead():
    """Messages to them vanish, calls get NoProcess, links and monitors NOPROC, though the number lives anew (D4)."""
    async with linked("a", "b") as net:
        old = seen_from(net, "a", await started(net, "b", Adder))

        async def body():
            await cast(old, 1)
            assert await call(old, "sum") == 1
            net.stop("b")
            await settled()
            net.start("b", creation=2)
            new = seen_from(net, "a", await started(net, "b", Adder))
            assert (new.number, new != old) == (old.number, True)
            assert await call(new, "sum") == 0
            await send(old, "vanishes")
            await cast(old, 7)
            exit(old, KILL)
            assert await call(new, "sum") == 0
            with pytest.raises(NoProcess):
                await call(old, "sum")
            ref = monitor(old)
            assert await receive() == Down(ref, old, NOPROC)
            link(old)
            assert await receive() == Exit(old, NOPROC)
            assert await call_on("b", "tests.sum", 1) == 1
            back = net["b"].dist.pid_of("b", 1, old.number)
            assert back._process is None

        await net["a"].run(body, trap=True)
        nothing_left(net, "a", "b")


async def test_what_waits_for_a_connection_learns_of_the_new_incarnation():
    """A first signal by a pid of a life that is over finds the new one: the call gets NoProcess."""
    async with linked("a", "b") as net:
        net.stop("b")
        net.start("b", creation=5)
        old = net["a"].dist.pid_of("b", 4, 1)

        async def body():
            ref = monitor(old)
            with pytest.raises(NoProcess):
                await call(old, "sum")
            assert await receive() == Down(ref, old, NOPROC)

        await net["a"].run(body)


async def test_an_unlink_that_crosses_a_new_link():
    """An unlink removes the link that its sender saw; one that was made meanwhile stays, on both sides."""
    async with linked("a", "b") as net:

        async def begin():
            return spawn(idle, trap=True)

        here_, there = await net["a"].run(begin), await net["b"].run(begin)
        from_a, from_b = seen_from(net, "a", there), seen_from(net, "b", here_)

        def process(node, pid):
            return net[node].table.processes[pid.number]

        def both():
            return (
                from_a in (process("a", here_).links or {}),
                from_b in (process("b", there).links or {}),
            )

        def linking(node, pid, other):
            mechanism.join(process(node, pid), other._process)

        def unlinking(node, pid, other):
            mechanism.unlink(process(node, pid), other)

        linking("a", here_, from_a)
        await settled()
        assert both() == (True, True)
        net.pause()
        unlinking("a", here_, from_a)
        linking("a", here_, from_a)
        unlinking("b", there, from_b)
        net.resume()
        await settled()
        assert both() in ((True, True), (False, False))
        for node, pid, other in (("a", here_, from_a), ("b", there, from_b)) * 2:
            net.pause()
            linking(node, pid, other)
            linking(*(("b", there, from_b) if node == "a" else ("a", here_, from_a)))
            unlinking(node, pid, other)
            net.resume()
            await settled()
            assert both() in ((True, True), (False, False))
            unlinking("a", here_, from_a)
            unlinking("b", there, from_b)
            await settled()
            assert both() == (False, False)
        nothing_left(net, "a", "b")


# -- started elsewhere --------------------------------------------------------------------------------------


async def test_a_child_elsewhere_is_tied_before_its_first_step():
    """One that ends at once delivers its true reason by link and monitor, never NOPROC (P31)."""
    async with linked("a", "b") as net:

        async def body():
            pid, ref = await spawn_on("b", "tests.end", "so soon", link=True, monitor=True)
            assert pid.node == "b"
            assert await mail() == [Exit(pid, "so soon"), Down(ref, pid, "so soon")]

        await net["a"].run(body, trap=True)
        nothing_left(net, "a", "b")


async def test_a_child_elsewhere_goes_with_its_parent():
    """A linked process elsewhere is taken by the end of who started it."""
    async with linked("a", "b") as net:

        async def body():
            async def parent():
                pid = await spawn_on("b", "tests.wait", link=True)
                await send(who, pid)
                await receive()

            who = self_pid()
            mortal = spawn(parent)
            child = await receive()
            ref = monitor(child)
            exit(mortal, "parent's end")
            assert await receive() == Down(ref, child, "parent's end")

        await net["a"].run(body)
        nothing_left(net, "a", "b")


async def test_a_parent_that_ends_before_its_child_is_known():
    """Who is ended while it waits for the pid leaves no linked child behind."""
    async with linked("a", "b") as net:

        async def body():
            async def parent():
                await spawn_on("b", "tests.wait", link=True, monitor=True)

            await call_on("b", "tests.sum")
            net.pause()
            mortal = spawn(parent)
            await trio.testing.wait_all_tasks_blocked()
            exit(mortal, "early")
            await settled()
            net.resume()
            await settled()
            assert net["b"].table.processes == {}

        await net["a"].run(body)
        nothing_left(net, "a", "b")


async def test_only_what_was_declared_can_be_started():
    """A name that nobody declared is refused, by text; nothing on the wire names code."""
    async with linked("a", "b") as net:

        async def body():
            with pytest.raises(RemoteError, match="declared here"):
                await spawn_on("b", "os.system", "true")
            assert await spawn_on("a", "tests.end", 1)  # this node is a node too

        await net["a"].run(body)


async def test_a_function_runs_elsewhere():
    """Its result comes back; an error comes as text; an exit and a lost node are told apart (D6)."""
    async with linked("a", "b") as net:

        async def body():
            assert await call_on("b", "tests.sum", 1, 2, 3) == 6
            assert await call_on("a", "tests.sum", 1, 2) == 3
            with pytest.raises(RemoteError) as caught:
                await call_on("b", "tests.sum", "x")
            assert caught.value.type_name == "TypeError"
            with pytest.raises(CalleeExited) as exited:
                await call_on("b", "tests.end", "gone")
            assert exited.value.reason == "gone"
            async with trio.open_nursery() as nursery:

                async def cut():
                    await settled()
                    net.cut("a", "b")

                nursery.start_soon(cut)
                with pytest.raises(CalleeExited) as exited:
                    await call_on("b", "tests.wait", timeout=60)
            assert exited.value.reason is NOCONNECTION

        await net["a"].run(body)


async def test_names_are_given_and_found_elsewhere():
    """A process gets its name on its own node; others may ask that node for it."""
    async with linked("a", "b") as net:

        async def body():
            pid = await spawn_on("b", "tests.wait")
            assert await whereis_on("b", "sleeper") is None
            await register_on("b", "sleeper", pid)
            assert await whereis_on("b", "sleeper") is pid
            with pytest.raises(RemoteError, match="belongs to"):
                await register_on("b", "sleeper", pid)
            with pytest.raises(RemoteError, match="keeps names"):
                await register_on("b", "mine", self_pid())
            await unregister_on("b", "sleeper")
            assert await whereis_on("b", "sleeper") is None
            with pytest.raises(Misuse, match="register_on"):
                await start(Adder, name=at("adder", "b"))
            with pytest.raises(Misuse, match="whereis_on"):
                whereis(at("adder", "b"))

        await net["a"].run(body)


# -- nodes ----------------------------------------------------------------------------------------------------


async def test_nodes_come_and_go():
    """`nodes` tells who is linked; NodeUp and NodeDown come to who asked (D1, D2)."""
    async with linked("a", "b", "c") as net:

        async def body():
            assert nodes() == []
            monitor_nodes()
            monitor_node("b")
            monitor_node("b")
            monitor_node("c")
            monitor_node("c", False)
            assert await call_on("c", "tests.sum") == 0
            assert nodes() == ["b", "c"]
            net.cut("a", "b")
            assert nodes() == ["c"]
            net.stop("c")
            up, down = NodeUp("b"), NodeDown("b")
            told = await mail()
            assert told[2:] == [down, down, down, NodeDown("c")]
            assert {*told[:2]} == {up, NodeUp("c")}
            monitor_nodes(False)
            monitor_node("nowhere")
            assert await mail() == [NodeDown("nowhere")]

        await net["a"].run(body)


async def test_pids_travel_between_three_nodes():
    """A pid that came by way of a second node reaches a third, over a link of its own (D1)."""
    async with linked("a", "b", "c") as net:

        async def begin():
            async def answering():
                who = await receive()
                await send(who, "from c")

            return spawn(answering)

        on_c = seen_from(net, "b", await net["c"].run(begin))

        async def teller():
            await send(await receive(), on_c)

        async def begin_b():
            return spawn(teller)

        on_b = seen_from(net, "a", await net["b"].run(begin_b))

        async def body():
            await send(on_b, self_pid())
            pid = await receive()
            assert (type(pid), pid.node) == (Pid, "c")
            await send(pid, self_pid())
            assert await receive() == "from c"
            assert nodes() == ["b", "c"]

        await net["a"].run(body)
