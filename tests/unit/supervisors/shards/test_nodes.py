"""A region on several nodes: entities are found where their shard is, and their shards change their owner."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from runtime import (
    KILL,
    Call,
    CalleeExited,
    Delivery,
    EventSourced,
    MailboxFull,
    NoProcess,
    Query,
    Refused,
    Session,
    call,
    exit,
    message,
    whereis,
)
from runtime.durable.journal import StoreFull
from supervisors.shards import EntityRaised, NoOwner, region, shard_facts
from supervisors.shards.failures import error_of, failed, packed
from supervisors.shards.intake import Intake
from tests.unit.supervisors.shards.entities import Account, Balance, Break, Counter, Deposit, Give, Read, unbroken
from tests.unit.supervisors.shards.nodes import Map, Nodes, cluster

accounts, counters = region("account"), region("counter")
BOTH = (region("account", Account), region("counter", Counter))


def own(nodes: Nodes, owner: str | None, epoch: int) -> None:
    """Another node owns all shards, and everybody hears of it."""
    nodes.placement.rows = dict.fromkeys(range(nodes.placement.shards), (owner, epoch)) if owner else {}
    for node in nodes.running.values():
        nodes.claim(node)
    nodes.tell()


async def test_a_request_is_carried_out_where_the_shard_is():
    """Asked on one node, the entity runs on the shard's owner; what it refuses and raises comes back."""
    with unbroken():
        async with cluster("ab", *BOTH, owner="b", data=":memory:") as nodes:
            with nodes.on("a"):
                assert await accounts.call("ann", Deposit(5)) == 5
                await accounts.cast("ann", Give(2))
                assert await accounts.call("ann", Break()) == 1007
                with pytest.raises(Refused, match="not below 0"):
                    await accounts.call("ann", Deposit(-1))
                await counters.send("x", 1)
                await counters.cast("x", Give(2))
                assert await counters.call("x", Read()) == (1, 2)
                with pytest.raises(CalleeExited, match="counter/x ended"):
                    await counters.call("x", Break())
                assert await Session("bob").command(accounts.entity("ann"), Deposit(1)) == 1008
                assert (await counters.start("x")).node == "b"
                assert whereis("account/ann") is None
            with nodes.on("b"):
                assert whereis("account/ann") is not None


async def test_a_sender_asks_an_owner_once_and_then_sends():
    """After the first request for a shard each command is one frame out and one back."""
    async with cluster("ab", *BOTH, owner="b") as nodes:
        with nodes.on("a"):
            for _ in range(10):
                await counters.call("x", Deposit(1))
    assert nodes.frames == {"Probe": 1, "Open": 1, "Carry": 10, "Done": 10}


async def test_a_new_owner_is_found_by_the_placement_and_by_moved():
    """After a change of the owner requests go to the new one; who has not heard of it is sent on."""
    nodes = Nodes(Map(2, "b"))
    nodes.views["a"] = Map(2, "b")  # a never hears
    with trio.fail_after(100):
        async with nodes.node("a", *BOTH), nodes.node("b", *BOTH), nodes.node("c", *BOTH):
            with nodes.on("a"):
                assert await counters.call("x", Deposit(1)) == 1
                own(nodes, "c", 2)
                await trio.testing.wait_all_tasks_blocked()
                assert await counters.call("x", Deposit(1)) == 1
                assert nodes.frames["Moved"] == 1
                assert await counters.call("x", Deposit(1)) == 2
            with nodes.on("b"):
                assert whereis("counter/x") is None


async def test_entities_of_a_shard_that_is_lost_end():
    """A node that owns a shard no more ends its entities, and begins anew when it owns it again."""
    async with cluster("ab", *BOTH, owner="b") as nodes:
        with nodes.on("b"):
            assert await counters.call("x", Deposit(1)) == 1
            own(nodes, "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            assert whereis("counter/x") is None
            own(nodes, "b", 3)
            assert await counters.call("x", Deposit(1)) == 1


async def test_a_request_waits_for_an_owner_until_its_deadline():
    """Nobody owns the shard: NoOwner at the deadline, and what was never sent is not carried out later."""
    async with cluster("ab", *BOTH, owner=None) as nodes:
        with nodes.on("a"):
            for timeout in (0.5, 3.0):
                with pytest.raises(NoOwner, match=r"wanted counter/x, which lies in shard \d, and no node has owned"):
                    await counters.call("x", Deposit(99), timeout=timeout)
            await counters.cast("x", Give(7))
            await trio.sleep(1)  # virtual
            own(nodes, "b", 1)
            assert await counters.call("x", Read()) == (7,)


async def test_a_call_that_waits_for_an_owner_gets_its_reply():
    """A shard gets its owner before the deadline: the caller sees nothing but time."""
    async with cluster("ab", *BOTH, owner=None) as nodes, trio.open_nursery() as nursery:
        replies = []

        async def ask():
            with nodes.on("a"):
                replies.append(await counters.call("x", Deposit(1), timeout=60.0))

        nursery.start_soon(ask)
        await trio.sleep(20)  # virtual
        own(nodes, "b", 1)
        await trio.sleep(1)  # virtual
        assert replies == [1]


async def test_what_is_lost_with_a_link_is_sent_again():
    """A cut link loses commands and answers; when it is whole again each is carried out, once."""
    async with cluster("ab", *BOTH, owner="b", data=":memory:") as nodes, trio.open_nursery() as nursery:
        replies = []

        async def ask(amount):
            with nodes.on("a"):
                replies.append(await accounts.call("ann", Deposit(amount), timeout=60.0))

        with nodes.on("a"):
            assert await accounts.call("ann", Deposit(1)) == 1
            nodes.down = {("b", "a")}  # it is done, and the answer does not come back
            nursery.start_soon(ask, 10)
            await trio.sleep(2)  # virtual
            nodes.cut("a", "b")
            nursery.start_soon(ask, 100)
            await trio.sleep(5)  # virtual
            assert replies == []
            nodes.heal()
            await trio.sleep(2)  # virtual
            assert sorted(replies) == [11, 111]
            assert await accounts.call("ann", Balance()) == 111


async def test_an_owner_that_lives_again_repeats_its_replies():
    """A durable owner that is restarted under a higher epoch knows what it has done, and answers it again."""
    with trio.fail_after(200):
        from runtime.backends.coordination import LocalCoordination
        from runtime.backends.memory import MemoryDisk, MemoryJournal
        from runtime.testing import SeededWorld, Trace

        disk = MemoryDisk()
        world = SeededWorld(
            1,
            open_store=lambda path, node: MemoryJournal(disk),
            coordination=LocalCoordination(),
            trace=Trace(),
            activation=0,
        )
        nodes = Nodes(Map(2, "b"))
        replies = []

        async def ask():
            with nodes.on("a"):
                replies.append(await accounts.call("ann", Deposit(10), timeout=60.0))

        async with trio.open_nursery() as nursery, nodes.node("a", *BOTH):
            async with nodes.node("b", *BOTH, data="disk", world=world):
                with nodes.on("a"):
                    assert await accounts.call("ann", Deposit(1)) == 1
                nodes.down = {("b", "a")}
                nursery.start_soon(ask)
                await trio.sleep(1)  # virtual
            own(nodes, "b", 2)
            nodes.heal()
            async with nodes.node("b", *BOTH, data="disk", world=world):
                await trio.sleep(2)  # virtual
                assert replies == [11]
                with nodes.on("a"):
                    assert await accounts.call("ann", Balance()) == 11


async def test_a_volatile_region_may_choose_availability():
    """Where nobody knows an owner such a region serves here, and gives way when there is one again."""
    free = region("free", Counter, prefer="availability")
    async with cluster("ab", free, owner="b") as nodes:
        with nodes.on("a"):
            assert await region("free").call("x", Deposit(1)) == 1
            own(nodes, None, 0)
            assert await region("free").call("x", Deposit(5)) == 1
            assert await region("free").call("x", Deposit(5)) == 2
            assert whereis("free/x") is not None
            own(nodes, "b", 1)
            await region("free").call("x", Read())
            assert whereis("free/x") is None


@message("shards.seat")
class Seat:
    """An argument of one entity's start."""

    count: int


class Table(EventSourced[int, Give]):
    """Durable, and started with arguments of its own."""

    def setup(self, seat: Seat) -> None:
        self.seat = seat

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state, command):
        return Give(1), self.seat.count

    def apply(self, state, event):
        return state + 1


async def test_a_region_remembers_its_entities_and_what_they_were_started_with():
    """Remembered entities are started again with their shard, some a second, with their own arguments."""
    tables = region("table", Table, remember=True, rate=10.0)
    from runtime.backends.coordination import LocalCoordination
    from runtime.backends.memory import MemoryDisk, MemoryJournal
    from runtime.testing import SeededWorld, Trace

    disk = MemoryDisk()
    world = SeededWorld(
        1,
        open_store=lambda path, node: MemoryJournal(disk),
        coordination=LocalCoordination(),
        trace=Trace(),
        activation=0,
    )
    nodes = Nodes(Map(2, "b"))
    with trio.fail_after(1000):
        async with nodes.node("b", tables, data="disk", world=world):
            with nodes.on("b"):
                for number in range(20):
                    await region("table").start(f"t{number}", Seat(number))
                assert await region("table").call("t7", Deposit(1)) == 7
        own(nodes, "b", 2)
        async with nodes.node("b", tables, data="disk", world=world):
            with nodes.on("b"):
                await trio.sleep(0.55)  # virtual
                begun = sum(fact.entities for fact in shard_facts(nodes.running["b"].table))
                assert 0 < begun < 10
                assert await region("table").call("t9", Deposit(1)) == 9
                await trio.sleep(500)  # virtual
                assert sum(fact.entities for fact in shard_facts(nodes.running["b"].table)) == 20
                assert await call("table/t3", Deposit(1)) == 3


async def test_a_remembering_shard_that_moves_away_is_closed():
    """A shard with a memory ends with its entities when another node owns it."""
    tables = region("table", Table, remember=True)
    async with cluster("ab", tables, owner="b", data=":memory:") as nodes:
        with nodes.on("b"):
            await region("table").start("x", Seat(2))
            own(nodes, "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            assert [name for name in nodes.running["b"].table.names if name.startswith("table/")] == []
            assert whereis(f"region/table/known/{region('table').shard('x')}") is None


async def test_what_cannot_travel_is_refused_at_once():
    """A request or a reply that is no plain value is told to the caller, and holds up nobody."""

    class Odd(Counter):
        def handle_call(self, request, caller):
            return object() if request == "odd" else super().handle_call(request, caller)

    async with cluster("ab", region("odd", Odd), owner="b") as nodes:
        with nodes.on("a"):
            odd = region("odd")
            with pytest.raises(Exception, match="object"):
                await odd.call("x", object())
            with pytest.raises(EntityRaised, match="object"):
                await odd.call("x", "odd")
            assert await odd.call("x", Deposit(1)) == 1


async def test_a_frozen_shard_holds_and_then_carries_out_in_order():
    """What comes for a frozen shard is held, from here and from elsewhere, and done when it thaws."""
    async with cluster("ab", *BOTH, owner="b") as nodes:
        with nodes.on("b"):
            await counters.call("x", Read())
        shard = router(nodes, "b").inward.shards[_shard(nodes, "x")]
        shard.intake.freeze()
        with nodes.on("a"):
            for number in range(5):
                await counters.cast("x", Give(number))
        with nodes.on("b"):
            await counters.cast("x", Give(5))
        await trio.testing.wait_all_tasks_blocked()
        assert sum(fact.held for fact in shard_facts(nodes.running["b"].table)) >= 1
        shard.thaw()
        await trio.sleep(2)  # virtual
        with nodes.on("a"):
            got = await counters.call("x", Read())
        assert [number for number in got if number < 5] == [0, 1, 2, 3, 4]
        assert 5 in got


def router(nodes: Nodes, node: str):
    """The router of the counters of a node."""
    process = nodes.running[node].table.names["region/counter"]
    return process.behaviour


def _shard(nodes: Nodes, key: str) -> int:
    with nodes.on("a"):
        return counters.shard(key)


@message("shards.pay")
class Pay(Call[int]):
    """Take this from a purse, and give it to an account."""

    amount: int
    to: str


@message("shards.paid")
class Paid:
    number: int


@message("shards.purse")
class Purse:
    """A purse's state: what it still owes."""

    last: int
    owed: tuple[tuple[int, str, int], ...]


class Payer(EventSourced[Purse, Pay | Paid]):
    """Owes what it was told to pay until it has arrived, wherever that is."""

    def initial(self, key):
        return Purse(0, ())

    def handle(self, state, command):
        return command, state.last + 1

    def apply(self, state, event):
        match event:
            case Pay(amount, to):
                return Purse(state.last + 1, (*state.owed, (state.last + 1, to, amount)))
            case Paid(number):
                return Purse(state.last, tuple(one for one in state.owed if one[0] != number))

    def pending(self, state):
        for number, to, amount in state.owed:
            yield Delivery(number, accounts.entity(to), Deposit(amount), settled=Paid(number))

    def query(self, state, request):
        return len(state.owed)


@message("shards.owing")
class Owing(Query[int]):
    pass


async def test_what_an_entity_owes_to_another_arrives_once_wherever_that_is():
    """A delivery's destination may be an entity: it is repeated over bad wires until it is acknowledged."""
    async with cluster("ab", *BOTH, region("payer", Payer), owner="b", data=":memory:") as nodes:
        shard = region_shard(nodes, "payer", "p")
        nodes.placement.rows[shard] = ("a", 2)
        nodes.running["a"].journal.claim({shard: 2})
        nodes.tell()
        nodes.loss, nodes.doubling = 0.3, 0.3
        with nodes.on("a"):
            total = 0
            for amount in (1, 10, 100, 1000):
                for to in ("ann", "bob"):
                    total += amount
                    assert await region("payer").call("p", Pay(amount, to), timeout=60.0) > 0
            await trio.sleep(60)  # virtual
            nodes.heal()
            await trio.sleep(10)  # virtual
            assert await region("payer").call("p", Owing()) == 0
            assert await accounts.call("ann", Balance()) + await accounts.call("bob", Balance()) == total


def region_shard(nodes: Nodes, kind: str, key: str) -> int:
    """The shard of an entity."""
    with nodes.on("a"):
        return region(kind).shard(key)


@pytest.mark.parametrize(
    "error",
    [
        Refused("no"),
        StoreFull("disk", "no room"),
        CalleeExited("gone", "counter/x", None, "boom"),
        ValueError("odd"),
        NoProcess("nobody", "x"),
        MailboxFull("full", None, 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_travels_as_what_it_says(error):
    """What of Banyan's own says something to a caller arrives as itself, the rest as EntityRaised."""
    told = error_of(packed(failed(error), "counter/x"))
    expected = type(error) if isinstance(error, (Refused, StoreFull, CalleeExited)) else EntityRaised
    assert type(told) is expected
    assert error_of(failed(error)) is error
    assert Intake(1, 1, "b", 1).done("a.1", 1, packed(failed(error), "counter/x")).number == 1


async def test_a_node_whose_membership_is_away_owns_nothing():
    """A clustered node that cannot tell who owns what waits, rather than take itself for the owner."""
    async with cluster("ab", *BOTH, owner="a") as nodes:
        with nodes.on("a") as a:
            assert await counters.call("x", Deposit(1)) == 1
            placement = a.table.services.pop("placement")
            with pytest.raises(NoOwner):
                await counters.call("x", Deposit(1), timeout=1.0)
            a.table.services["placement"] = placement
            assert await counters.call("x", Deposit(1)) == 1


@pytest.mark.parametrize("whom", ["region/table/shards", "region/table/shards/{shard}", "region/table/known/{shard}"])
async def test_remembered_entities_are_back_when_their_supervisors_have_ended(whom):
    """Whichever of the supervisors of a remembered entity is killed, it is started again without being asked."""
    tables = region("table", Table, remember=True)
    async with cluster("b", tables, owner="b", data=":memory:") as nodes:
        with nodes.on("b"):
            first = await region("table").start("x", Seat(2))
            for _ in range(3):
                exit(whereis(whom.format(shard=region("table").shard("x"))), KILL)
                await trio.sleep(20)  # virtual
                now = whereis("table/x")
                assert now is not None
                assert (now == first) is ("known" in whom)
                first = now
            assert await call("table/x", Deposit(1)) == 2
