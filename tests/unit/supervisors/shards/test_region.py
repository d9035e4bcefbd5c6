"""A region on a node of its own: entities are found, started, woken, restarted and put to sleep."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from runtime import (
    NOPROC,
    NORMAL,
    Busy,
    CalleeExited,
    CallingSelf,
    Delivery,
    Down,
    MailboxFull,
    Misuse,
    NoProcess,
    Refused,
    Session,
    StartFailed,
    Stop,
    call,
    cast,
    is_alive,
    monitor,
    receive,
    send,
    send_after,
    spawn,
    start,
    sys,
    whereis,
)
from supervisors import BadSpec
from supervisors.shards import BadKey, EntityNotStarted, Region, ShardFact, UnknownRegion, region, shard_facts
from supervisors.shards.router import router_of
from supervisors.shards.window import HELD, SIZE
from tests.support.processes import as_process, exit_and_wait, running_node
from tests.unit.supervisors.shards.entities import (
    Account,
    Balance,
    Break,
    Counter,
    Deposit,
    End,
    Give,
    House,
    Read,
    unbroken,
)

accounts, counters = region("account"), region("counter")


@pytest.fixture
async def node():
    """A node with a region of accounts, which are durable, and one of counters, which are not."""
    with unbroken():
        async with running_node(data=":memory:") as node:
            await node.start(House, region("account", Account), region("counter", Counter, "blue", idle=10.0))
            yield node


@as_process
async def test_an_entity_is_started_by_its_first_request(node):
    """A call starts the entity under its region's name and key; later ones find the same process."""
    assert whereis("counter/x") is None
    assert await counters.call("x", Deposit(5)) == 1
    pid = whereis("counter/x")
    assert await counters.call("x", Deposit(6)) == 2
    assert await counters.start("x") == pid == whereis("counter/x")


@as_process
async def test_calls_casts_and_sends_of_one_caller_keep_their_order(node):
    """Whatever one process asks of one entity arrives in its order, from the very first request on."""
    await counters.cast("x", Give(1))
    await counters.send("x", 2)
    assert await counters.call("x", Deposit(3)) == 3
    await counters.cast("x", Give(4))
    assert await counters.call("x", Read()) == (1, 2, 3, 4)


@as_process
async def test_an_entity_is_a_destination_for_all_who_take_one(node):
    """The plain verbs, a monitor, a timer and a Session take an entity as they take a pid."""
    entity = counters.entity("x")
    ref = monitor(entity)
    assert await receive(lambda m: isinstance(m, Down)) == Down(ref, entity, NOPROC)
    assert await call(entity, Deposit(1)) == 1
    await cast(entity, Give(2))
    await send(entity, 3)
    send_after(1.0, entity, 4)
    await trio.sleep(2)  # virtual
    assert await call(entity, Read()) == (1, 2, 3, 4)
    ref = monitor(entity)
    assert whereis(entity) == whereis("counter/x")
    await cast(entity, End())
    assert await receive(lambda m: isinstance(m, Down)) == Down(ref, entity, "over")
    session = Session("ann")
    assert await session.command(accounts.entity("ann"), Deposit(7)) == 7
    assert await session.ask(accounts.entity("ann"), Balance()) == 7


@as_process
async def test_what_a_durable_entity_was_asked_when_it_crashed_is_asked_again(node):
    """A durable entity that crashes over a command is restarted and asked again; the caller sees the reply."""
    assert await accounts.call("ann", Deposit(5)) == 5
    assert await accounts.call("ann", Break()) == 1005
    assert await accounts.call("ann", Balance()) == 1005


@as_process
async def test_a_volatile_entity_that_crashes_tells_its_caller(node):
    """Of a volatile entity nobody knows how far it came: CalleeExited; the next request finds a new one."""
    assert await counters.call("x", Deposit(1)) == 1
    with pytest.raises(CalleeExited, match="counter/x ended"):
        await counters.call("x", Break())
    assert await counters.call("x", Read()) == ()


@as_process
async def test_a_refusal_is_raised_at_the_caller(node):
    """What the entity refuses is refused, and changes nothing."""
    with pytest.raises(Refused, match="not below 0"):
        await accounts.call("ann", Deposit(-1))
    assert await accounts.call("ann", Balance()) == 0


@as_process
async def test_an_entity_that_ended_in_order_is_started_by_the_next_request(node):
    """An entity that ends by itself is gone until somebody asks for it."""

    class Brief(Counter):
        def handle_cast(self, request):
            return Stop(NORMAL)

    await node.start(House, region("brief", Brief), name="more")
    briefs = region("brief")
    pid = await briefs.start("x")
    ref = monitor(pid)
    await briefs.cast("x", "end")
    assert await receive(lambda m: isinstance(m, Down)) == Down(ref, pid, NORMAL)
    again = await briefs.start("x")
    assert again != pid
    assert is_alive(again)


@as_process
async def test_a_crash_is_restarted_by_the_shards_supervisor_within_its_intensity(node):
    """A crashed entity is restarted at once; too many crashes end the shard's supervisor, and others start anew."""
    pid = await counters.start("x")
    await exit_and_wait(pid, "boom")
    await trio.testing.wait_all_tasks_blocked()
    assert whereis("counter/x") not in (None, pid)
    for _ in range(12):
        await exit_and_wait(await counters.start("x"), "boom")
    assert await counters.call("x", Deposit(1)) == 1


@as_process
async def test_an_idle_entity_is_put_to_sleep_and_woken_by_the_next_request(node):
    """Who was not asked for `idle` seconds leaves memory; a durable one goes on from where it was."""
    pid = await counters.start("x")
    await trio.sleep(9)  # virtual
    assert is_alive(pid)
    await trio.sleep(3)  # virtual
    assert whereis("counter/x") is None
    assert shard_facts(node.table)[0].entities == 0
    assert await counters.call("x", Read()) == ()
    await accounts.call("ann", Deposit(3))
    await trio.sleep(200)  # virtual
    assert whereis("account/ann") is None
    assert await accounts.call("ann", Deposit(4)) == 7


@as_process
async def test_who_is_watched_or_says_so_stays_awake(node):
    """An entity that is monitored, or whose `may_sleep` says no, is not put to sleep."""

    class Busy(Counter):
        def may_sleep(self):
            return False

    await node.start(House, region("busy", Busy, idle=1.0), name="more")
    pid, busy = await counters.start("x"), await region("busy").start("x")
    ref = monitor(pid)
    await trio.sleep(100)  # virtual
    assert is_alive(pid)
    assert is_alive(busy)
    assert ref


@as_process
async def test_who_owes_something_stays_awake(node):
    """A durable entity with an open delivery or timer is not put to sleep before that is settled."""

    class Debtor(Account):
        def pending(self, state):
            if state < 10:
                yield Delivery(state + 1, "nobody", Deposit(1), settled=Deposit(1))

    await node.start(House, region("debtor", Debtor, idle=1.0), name="more")
    pid = await region("debtor").start("x")
    await trio.sleep(60)  # virtual
    assert is_alive(pid)
    await region("debtor").call("x", Deposit(10))
    await trio.sleep(60)  # virtual
    assert not is_alive(pid)


@as_process
async def test_requests_while_an_entity_falls_asleep_wake_it(node):
    """No request is lost between the decision to put an entity to sleep and its end."""
    for pause in (9.5, 10.0, 10.1, 10.2, 10.24, 10.25, 10.26, 10.3, 10.5):
        assert await counters.call("x", Deposit(1)) > 0
        await trio.sleep(pause)  # virtual
        assert await counters.call("x", Deposit(1)) > 0


@as_process
async def test_arguments_of_the_region_and_of_one_start_reach_the_entity(node):
    """An entity gets its name, the region's arguments, then those of its own start."""
    pid = await counters.start("x", "fast")
    assert pid._process.behaviour.more == ("blue", "fast")
    assert pid._process.behaviour.key == "counter/x"


@as_process
async def test_a_start_that_fails_is_told_to_who_asked(node):
    """EntityNotStarted says why; the next request tries again."""

    class Shy(Counter):
        failing = True

        def init(self, key, *more):
            if Shy.failing:
                raise RuntimeError("not today")
            super().init(key, *more)

    await node.start(House, region("shy", Shy), name="more")
    with pytest.raises(EntityNotStarted, match="not today"):
        await region("shy").call("x", Read())
    Shy.failing = False
    assert await region("shy").call("x", Read()) == ()


@as_process
async def test_a_region_that_is_not_there_is_named(node):
    """UnknownRegion says which regions are here and what to do; as a destination it is just nobody."""
    lost = Region("tabel")
    for ask in (lost.call("x", 1), lost.cast("x", 1), lost.send("x", 1), lost.start("x")):
        with pytest.raises(UnknownRegion, match=r"wanted .* got 'tabel'; regions here: account, counter: declare"):
            await ask
    with pytest.raises(NoProcess):
        await call(lost.entity("x"), 1)


@as_process
async def test_a_key_is_text(node):
    """BadKey says what a key is, before anything is sent."""
    for key in (5, "", "x" * 201, None, b"x", "\ud800"):
        with pytest.raises(BadKey, match="an entity's key is text of 1 to 200 bytes"):
            await counters.call(key, Read())


@pytest.mark.parametrize(
    ("args", "options", "told"),
    [
        (("a/b", Counter), {}, "a region's name is letters"),
        (("", Counter), {}, "a region's name is letters"),
        (("x", print), {}, "of a behaviour's class"),
        (("x",), {"idle": 1.0}, "no class"),
        (("x", Counter), {"idle": 0}, "idle is seconds above 0"),
        (("x", Counter), {"rate": 0}, "rate is how many"),
        (("x", Counter), {"prefer": "luck"}, "consistency or availability"),
        (("x", Account), {"prefer": "availability"}, "two of it must not write"),
    ],
)
def test_a_region_that_cannot_work_is_refused(args, options, told):
    """BadSpec says what is wrong before anything is started."""
    with pytest.raises(BadSpec, match=told):
        region(*args, **options)


@as_process
async def test_calls_over_the_bound_are_busy_and_casts_wait(node):
    """When as many wait for a shard as may, a call gets Busy, a cast waits for room; nothing taken is dropped."""

    class Slow(Counter):
        async def handle_call(self, request, caller):
            await trio.sleep(1)  # virtual
            self.got.append(request.amount)
            return len(self.got)

    await node.start(House, region("slow", Slow), name="more")
    slow = region("slow")
    took = SIZE + HELD
    replies, failures = [], []

    async def ask(number):
        replies.append(await slow.call("x", Deposit(number), timeout=math.inf))

    async def too_many():
        try:
            await slow.call("x", Deposit(-1))
        except Busy as busy:
            failures.append(str(busy))

    for number in range(SIZE // 4 + HELD):
        spawn(ask, number)
    await trio.testing.wait_all_tasks_blocked()
    spawn(too_many)
    await trio.testing.wait_all_tasks_blocked()
    assert len(failures) == 1
    assert "no more are taken" in failures[0]
    with pytest.raises(MailboxFull):
        await slow.cast("x", Give(-1), timeout=0.5)
    await slow.cast("x", Give(77), timeout=10.0)
    await trio.sleep(took + 10)  # virtual
    assert sorted(replies) == [*range(1, len(replies) + 1)]
    assert len(replies) == SIZE // 4 + HELD


@as_process
async def test_the_router_that_ends_tells_who_waits(node):
    """When a region is restarted its callers get CalleeExited, and the next request finds it again."""

    class Deaf(Counter):
        async def handle_call(self, request, caller):
            await trio.sleep_forever()

    await node.start(House, region("deaf", Deaf), name="more")
    failures = []

    async def ask():
        try:
            await region("deaf").call("x", Read(), timeout=math.inf)
        except CalleeExited as error:
            failures.append(error)

    spawn(ask)
    await trio.testing.wait_all_tasks_blocked()
    await exit_and_wait(whereis("region/deaf"), "boom")
    await trio.testing.wait_all_tasks_blocked()
    # The entity ended with its region, after the router.
    assert len(failures) == 1
    assert await region("deaf").start("x")


@as_process
async def test_what_a_region_knows_can_be_seen(node):
    """The facts of each shard in use, the region's line in the tree, and its state."""
    await counters.call("x", Deposit(1))
    shard = counters.shard("x")
    assert shard_facts(node.table) == [ShardFact("counter", shard, "test", 1, 1, 0, 0)]
    assert len(shard_facts(node.table, all_shards=True)) == 512
    assert "1 shards here, 1 entities" in str(node.tree())
    router = router_of(whereis("region/counter")._process)
    assert router.state()["shards"] == [shard]


@as_process
async def test_entities_cannot_be_given_by_name(node):
    """An entity is started by its region, not under its destination as a name."""
    for key in ("x", "y"):
        with pytest.raises(StartFailed, match="did not start: its name belongs to"):
            await start(Counter, "counter/x", name=counters.entity(key))
        await counters.start("x")


@as_process
async def test_an_entity_that_calls_itself_is_told_so(node):
    """A call to oneself by the region raises CallingSelf at once, as any other."""

    class Vain(Counter):
        async def handle_call(self, request, caller):
            if request != "self":
                return None
            try:
                await region("vain").call("x", "again")
            except CallingSelf:
                return "told"

    await node.start(House, region("vain", Vain), name="more")
    assert await region("vain").call("x", "hello") is None
    assert await region("vain").call("x", "self") == "told"


@as_process
async def test_system_messages_are_for_pids(node):
    """`sys` wants a process of this node, and says so of an entity as a destination."""
    await counters.start("x")
    with pytest.raises(Misuse, match="may be anywhere"):
        await sys.get_state(counters.entity("x"))
    assert await sys.get_state("counter/x") == {"key": "counter/x", "more": ("blue",), "got": []}
