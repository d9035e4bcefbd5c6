"""Durable timers: set and cancelled by events, fired once, and what becomes of those that were missed."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runtime import Call, EventSourced, Query, Refuse, call, message, start, sys
from runtime.durable.commands import Numbered, Refused
from runtime.durable.durability import Kept, periodic
from runtime.durable.timers import DurableTimer, due_now, number_of
from runtime.durable.writer import WRITER
from runtime.errors import Misuse

from .purse import killed, settled


@message("tests.timers.set")
class Set(Call[None]):
    """Set a timer, in place of the one of that name."""

    name: str
    due: float
    every: float | None = None
    missed: str = "once"


@message("tests.timers.cancel")
class Cancel(Call[None]):
    name: str


@message("tests.timers.ring")
class Ring(Call[None]):
    name: str


@message("tests.timers.look")
class Look(Query[list]):
    pass


@message("tests.timers.was_set")
class WasSet:
    name: str
    due: float
    every: float | None
    missed: str


@message("tests.timers.was_cancelled")
class WasCancelled:
    name: str


@message("tests.timers.rang")
class Rang:
    name: str
    at: float


class Clock(EventSourced):
    """A set of timers, and a list of what rang when; one that is named "deaf" is refused, "once" goes when it rings."""

    def initial(self, key):
        return (), ()

    def handle(self, state, command):
        match command:
            case Set(name, due, every, missed):
                return WasSet(name, due, every, missed), None
            case Cancel(name):
                return WasCancelled(name), None
            case Ring("deaf"):
                return Refuse("deaf")
            case Ring("silent"):
                return None, None
            case Ring(name):
                rang = Rang(name, self.world.wall() - 1e9)
                return ([rang, WasCancelled(name)] if name == "once" else rang), None

    def apply(self, state, event):
        timers, rang = state
        others = tuple(one for one in timers if one[0] != event.name)
        match event:
            case WasSet(name, due, every, missed):
                return (*others, (name, due, every, missed)), rang
            case WasCancelled():
                return others, rang
            case Rang(name, at):
                return timers, (*rang, (name, round(at, 3)))

    def timers(self, state):
        for name, due, every, missed in state[0]:
            yield DurableTimer(name, due + 1e9, Ring(name), every, missed)

    def query(self, state, request):
        return list(state[1])


async def clock(key="clock", *kept):
    return await start(Clock, key, *kept, name=key)


async def down_for(pid, seconds):
    """The process dies, and lives again after a while."""
    await killed(pid)
    await trio.sleep(seconds)  # virtual
    return await clock()


async def test_a_timer_fires_when_it_is_due(node):
    """Not before, once, and in the order of due times."""
    pid = await clock()
    for name, due in (("b", 20), ("a", 10), ("once", 15)):
        await call(pid, Set(name, due))
    await trio.sleep(9.9)  # virtual
    assert await call(pid, Look()) == []
    await trio.sleep(500)  # virtual
    assert await call(pid, Look()) == [("a", 10), ("once", 15), ("b", 20)]


async def test_a_timer_that_was_cancelled_or_moved_does_not_fire(node):
    """Its time is what the state says when it comes."""
    pid = await clock()
    await call(pid, Set("a", 10))
    await call(pid, Set("b", 10))
    await call(pid, Cancel("a"))
    await call(pid, Set("b", 30))
    await trio.sleep(20)  # virtual
    assert await call(pid, Look()) == []
    await trio.sleep(20)  # virtual
    assert await call(pid, Look()) == [("b", 30)]


async def test_a_timer_outlives_its_process(node):
    """After a kill it is set as before; if it has fired it does not fire again, though it is still in the state."""
    pid = await clock()
    await call(pid, Set("a", 10))
    pid = await down_for(pid, 5)
    await trio.sleep(10)  # virtual
    assert await call(pid, Look()) == [("a", 10)]
    for _ in range(3):
        pid = await down_for(pid, 5)
        await settled()
        assert await call(pid, Look()) == [("a", 10)]


@pytest.mark.parametrize(
    ("missed", "rang"),
    [("once", [45, 50, 60]), ("all", [45, 45, 45, 45, 50, 60]), ("skip", [50, 60])],
)
async def test_what_was_missed(node, missed, rang):
    """A timer of every ten seconds, from 10 on, whose process is down until 45."""
    pid = await clock()
    await call(pid, Set("a", 10, 10.0, missed))
    pid = await down_for(pid, 45)
    await trio.sleep(20)  # virtual
    assert await call(pid, Look()) == [("a", at) for at in rang]
    pid = await down_for(pid, 1)
    assert await call(pid, Look()) == [("a", at) for at in rang]


@pytest.mark.parametrize(("missed", "rang"), [("once", [45]), ("all", [45]), ("skip", [])])
async def test_what_was_missed_of_one_that_fires_once(node, missed, rang):
    """Late, or not at all."""
    pid = await clock()
    await call(pid, Set("a", 10, None, missed))
    pid = await down_for(pid, 45)
    await trio.sleep(20)  # virtual
    assert await call(pid, Look()) == [("a", at) for at in rang]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_around_the_commit_fires_once(node, when):
    """Killed with the timer's entry under way or just committed: it is applied once in either case."""
    pid = await clock()
    await call(pid, Set("a", 10))
    await sys.suspend(WRITER)
    await trio.sleep(11)  # virtual
    assert await call(pid, Look()) == []
    if when == "after":
        await sys.resume(WRITER)
        await settled()
    await killed(pid)
    if when == "before":
        await sys.resume(WRITER)
    pid = await clock()
    await trio.sleep(5)  # virtual
    assert [name for name, _ in await call(pid, Look())] == ["a"]


async def test_a_full_disk_delays_a_timer(node):
    """A timer whose entry found no room fires again later, and is applied once."""
    pid = await clock()
    await call(pid, Set("a", 10))
    node.journal._disk.full = True
    await trio.sleep(30)  # virtual
    assert await call(pid, Look()) == []
    node.journal._disk.full = False
    await trio.sleep(5)  # virtual
    assert [name for name, _ in await call(pid, Look())] == ["a"]


@pytest.mark.parametrize("name", ["deaf", "silent"])
async def test_a_timer_that_brings_about_nothing_is_over_all_the_same(node, name):
    """A refusal, or no event, is an entry without events: nothing fires for ever."""
    pid = await clock()
    await call(pid, Set(name, 10))
    await trio.sleep(100)  # virtual
    assert node.journal.head("clock") == 2
    await down_for(pid, 5)
    await settled()
    assert node.journal.head("clock") == 2


async def test_a_clock_that_is_set_forward_is_noticed(node):
    """Within a minute; and one that is set back makes timers wait."""
    pid = await clock()
    await call(pid, Set("a", 10_000))
    await call(pid, Set("b", 20_000))
    node.world.wall = lambda: 1e9 + trio.current_time() + 9_990
    await trio.sleep(80)  # virtual
    assert [name for name, _ in await call(pid, Look())] == ["a"]
    node.world.wall = lambda: 1e9 + trio.current_time()
    await trio.sleep(9_990)  # virtual
    assert [name for name, _ in await call(pid, Look())] == ["a"]


async def test_what_has_fired_is_forgotten_with_its_timer(node):
    """A snapshot keeps a number for each timer that is set, and for no other."""

    class Often(Clock):
        snapshot_every = 1

    pid = await start(Often, "clock", name="clock")
    await call(pid, Set("tick", 1, 1.0))
    for n in range(5):
        await call(pid, Set("once", n + 0.5))
        await trio.sleep(1)  # virtual
    await trio.sleep(1)  # virtual
    payload = node.journal.load("clock")[0].payload
    assert (payload.count(b"@timer/tick"), payload.count(b"@timer/once")) == (1, 0)
    await killed(pid)
    pid = await start(Often, "clock", name="clock")
    assert [name for name, _ in await call(pid, Look())].count("once") == 5


@pytest.mark.parametrize(("durability", "rang"), [("relaxed", 1), (periodic(3), 2), ("volatile", 1)], ids=str)
async def test_timers_share_the_fate_of_the_state(node, durability, rang):
    """What is lost with the state is due again, and fires again: once in each history."""
    pid = await clock("clock", Kept(durability))
    await call(pid, Set("a", 10))
    await trio.sleep(8)  # virtual
    if durability == periodic(3):
        await trio.sleep(2.5)  # virtual
        assert len(await call(pid, Look())) == 1
        await killed(pid)
        pid = await clock("clock", Kept(durability))
        await settled()
        assert len(await call(pid, Look())) == 1
        return
    await trio.sleep(5)  # virtual
    assert len(await call(pid, Look())) == rang


@pytest.mark.parametrize("seed", range(8))
async def test_no_time_is_handled_twice_in_any_life(node, seed):
    """Kills, full disks, suspended writers, clocks that jump: of each timer each due time makes one entry at most."""
    dice = random.Random(seed)
    ahead = 0.0
    node.world.wall = lambda: 1e9 + trio.current_time() + ahead
    pid = await clock()
    disk = node.journal._disk
    for name, missed in (("a", "all"), ("b", "once"), ("c", "skip")):
        await call(pid, Set(name, 5, 7.0, missed))
    for _ in range(60):
        match dice.randrange(6):
            case 0:
                pid = await down_for(pid, dice.uniform(0, 30))
            case 1:
                disk.full = True
                await trio.sleep(dice.uniform(0, 20))  # virtual
                disk.full = False
            case 2:
                await sys.suspend(WRITER)
                await trio.sleep(dice.uniform(0, 10))  # virtual
                await killed(pid)
                await sys.resume(WRITER)
                pid = await clock()
            case 3:
                ahead += dice.uniform(-40, 40)
            case _:
                await trio.sleep(dice.uniform(0, 30))  # virtual
    await trio.sleep(200)  # virtual
    handled = [(entry.sender, entry.number) for entry in node.journal.read("clock") if entry.sender]
    assert len(handled) == len(set(handled)) > 60
    for name in ("a", "b", "c"):
        numbers = [number for sender, number in handled if sender == f"@timer/{name}"]
        assert numbers == sorted(numbers)
    every = [number for sender, number in handled if sender == "@timer/a"]
    assert [later - one for one, later in itertools.pairwise(every)] == [7_000_000] * (len(every) - 1)


async def test_nobody_can_pass_for_a_timer(node):
    """A sender of that name is refused."""
    pid = await clock()
    with pytest.raises(Refused):
        await call(pid, Numbered("@timer/a", 1, Ring("a")))


@pytest.mark.parametrize(
    "wrong",
    [{"due": -1.0}, {"due": math.inf}, {"due": math.nan}, {"every": 0.0}, {"every": math.nan}, {"missed": "some"}],
    ids=str,
)
def test_a_timer_out_of_bounds_is_misuse(wrong):
    """Times are finite and not negative, periods at least a millisecond."""
    with pytest.raises(Misuse):
        DurableTimer(**{"name": "a", "due": 1.0, "command": None, **wrong})


@given(
    due=st.floats(0, 1e6),
    every=st.one_of(st.none(), st.floats(0.001, 1e4)),
    missed=st.sampled_from(["once", "all", "skip"]),
    moments=st.lists(st.floats(0, 1e5), min_size=1, max_size=8),
    lives=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_numbers_rise_and_nothing_comes_early(due, every, missed, moments, lives):
    """Over any life: each fire has a number above the last and is due; with skip it was not missed."""
    timer = DurableTimer("a", due, None, every, missed)
    fired, since, now = 0, 0.0, 0.0
    for step, new_life in zip(moments, lives, strict=False):
        now += step
        since = now if new_life else since
        for _ in range(5):
            fires, again = due_now([timer], lambda _, fired=fired: fired, now, since)
            if not fires:
                assert again is None or again > now
                break
            [fire] = fires
            assert fire.number > fired
            assert fire.number <= number_of(now)
            assert missed != "skip" or fire.number >= number_of(since)
            fired = fire.number
            if missed != "all":
                assert due_now([timer], lambda _, fired=fired: fired, now, since)[0] == []
