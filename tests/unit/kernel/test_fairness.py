"""Who is busy lets others run, and who is told to end does so before a long queue (P42-P44)."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import Call, GenServer, call, cast_nowait, exit, message, receive, send_nowait, spawn, start, sys
from runtime.behaviours.gen import start_link
from runtime.kernel import fairness
from runtime.kernel.exits import KILL, KILLED, NORMAL, SHUTDOWN
from runtime.kernel.fairness import BATCH, MOST, SLICE
from supervisors import DynamicSupervisor, child, count_children, start_child, terminate_child

LONG = 10_000


@message("test.fairness.count")
class Count(Call[int]):
    pass


class Worker(GenServer):
    """Counts its casts, and does nothing but that."""

    def init(self, log=None):
        self.count = 0
        self.log = log if log is not None else []

    def handle_call(self, request, caller):
        return self.count

    def handle_cast(self, request):
        self.count += 1
        self.log.append(self.count)

    def handle_info(self, message):
        return None

    def terminate(self, reason):
        self.log.append(reason)


class Waiting(Worker):
    """The same, with a callback that could wait."""

    async def handle_cast(self, request):
        self.count += 1
        self.log.append(self.count)


class Trapping(Worker):
    """The same, and told of the end as a message."""

    trap_exit = True


class Nest(DynamicSupervisor):
    intensity = 1000


def fill(pid, count=LONG):
    """Put so many casts into a mailbox."""
    for index in range(count):
        cast_nowait(pid, index)


async def mail_loop(log):
    """A process without a class, which takes whatever comes."""
    while True:
        log.append(await receive())


# -- who is told to end --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Worker, Waiting, Trapping])
async def test_a_kill_overtakes_a_long_queue(node, kind):
    """No message that waits is served after a kill, whatever kind of callbacks there are, and none of terminate."""
    log = []
    pid = await start(kind, log)
    fill(pid)
    exit(pid, KILL)
    await _gone(pid)
    assert log == []


@pytest.mark.parametrize("kind", [Worker, Waiting])
async def test_a_shutdown_overtakes_a_long_queue(node, kind):
    """One that does not trap dies of a shutdown at once, with ten thousand messages in its mailbox."""
    log = []
    pid = await start(kind, log)
    fill(pid)
    exit(pid, SHUTDOWN)
    await _gone(pid)
    assert log == []


@pytest.mark.parametrize("kind", [Worker, Waiting, Trapping])
async def test_a_supervisor_stops_a_child_before_its_queue(node, kind):
    """terminate_child returns though ten thousand messages wait: no turn begins once it was told (P34)."""
    log = []
    nest = await start(Nest)
    pid = await start_child(nest, child("busy", kind, log, restart="temporary"))
    fill(pid)
    await terminate_child(nest, pid)
    assert len(log) <= 4 * BATCH  # while the request was on its way
    assert (SHUTDOWN in log) is (kind is Trapping)


async def test_a_short_queue_is_served_before_the_parents_word(node):
    """Up to one turn of messages is served first, in order, as OTP does (N20)."""
    log = []
    nest = await start(Nest)
    pid = await start_child(nest, child("busy", Trapping, log, restart="temporary"))
    fill(pid, BATCH)
    await terminate_child(nest, pid)
    assert log == [*range(1, BATCH + 1), SHUTDOWN]


async def test_a_strangers_exit_signal_keeps_its_place(node):
    """Only the parent's word goes first: for one that traps, another's exit is a message like any other."""
    log = []
    pid = await start(Trapping, log)
    fill(pid, 100)
    exit(pid, SHUTDOWN)
    assert await call(pid, Count()) == 100
    assert log == list(range(1, 101))


async def test_a_stop_overtakes_a_long_queue(node):
    """`sys.stop` acts before the messages that wait, and runs terminate (L10)."""
    log = []
    pid = await start(Worker, log)
    fill(pid)
    await sys.stop(pid, NORMAL)
    assert log == [NORMAL]


async def test_a_kill_overtakes_the_queue_of_a_plain_process(node):
    """A function that only receives ends within one turn, however much waits for it."""
    log = []
    pid = spawn(mail_loop, log)
    for index in range(LONG):
        send_nowait(pid, index)
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    exit(pid, KILL)
    before = len(log)
    await _gone(pid)
    assert 0 < before < LONG
    assert len(log) == before


async def test_a_parent_that_dies_overtakes_a_long_queue(node):
    """The link's signal from the parent goes first too: its server does not outlive it by ten thousand messages."""
    log, made = [], []

    async def parent():
        made.append(await start_link(Trapping, log))
        await receive()

    pid = spawn(parent)
    while not made:
        await trio.lowlevel.checkpoint()
    fill(made[0])
    exit(pid, KILL)
    await _gone(made[0])
    assert len(log) <= 4 * BATCH
    assert log[-1] == KILLED


# -- turns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Worker, Waiting])
async def test_a_busy_server_lets_others_run(node, kind):
    """Between two turns others get theirs: a caller is answered before a busy neighbour is done (P44)."""
    log = []
    busy, other = await start(kind, log), await start(Worker)
    fill(busy)
    assert await call(other, Count()) == 0
    assert 0 < len(log) <= 4 * BATCH


async def test_a_busy_receiver_lets_others_run(node):
    """A process that only receives gives way as a server does."""
    log = []
    busy = spawn(mail_loop, log)
    for index in range(LONG):
        send_nowait(busy, index)
    other = await start(Worker)
    assert await call(other, Count()) == 0
    assert 0 < len(log) <= 4 * BATCH


async def test_a_busy_supervisor_lets_others_run(node):
    """Requests to a supervisor are served in turns too, and in order."""
    log = []
    nest = await start(Nest)

    async def asks(number):
        await count_children(nest)
        log.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20 * BATCH):
            nursery.start_soon(asks, number)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        other = await start(Worker)
        assert await call(other, Count()) == 0
        assert len(log) <= 6 * BATCH
    assert len(log) == 20 * BATCH


async def test_many_busy_servers_share_a_turn(node):
    """The more are hot, the less each takes: together, after their first turn, about as much as one (P44)."""
    logs = [[] for _ in range(64)]
    for log in logs:
        fill(await start(Worker, log), 200)
    other = await start(Worker)
    for _ in range(3):
        await call(other, Count())
    taken = [len(log) for log in logs]
    assert min(taken) > BATCH  # each has had its first turn, and more
    assert sum(taken) < 2 * BATCH * len(logs)  # all turns after it were smaller than one such round


async def test_what_waits_is_served_in_order(node):
    """Turns do not reorder a mailbox."""
    log = []
    pid = await start(Worker, log)
    fill(pid, 1000)
    assert await call(pid, Count()) == 1000
    assert log == list(range(1, 1001))


class Meter:
    """A table's clock and a process, as far as a turn needs them."""

    def __init__(self):
        self.time = 1.0
        self.hot = 0
        self.table = self.timers = self
        self.budget, self.since = BATCH, 0.0

    def clock(self):
        return self.time


async def test_a_turn_whose_cost_is_unknown_is_shared_by_count():
    """The first turn under load goes by how many others are hot, and is never empty."""
    for others, budget in ((0, BATCH), (1, BATCH // 2), (31, 1), (1000, 1)):
        meter = Meter()
        meter.hot = others
        assert await fairness.give_way(meter) == budget
        assert (meter.hot, meter.since) == (others, 1.0)


@pytest.mark.parametrize(
    ("cost", "others", "budget"),
    [
        (SLICE / 40, 0, 40),
        (SLICE / 40, 3, 10),
        (SLICE * 2, 0, 1),
        (1e-9, 0, MOST),
        (1e-9, 9, MOST),
        (4e-6, 99, 1),
        (math.inf, 0, 1),
    ],
)
async def test_a_measured_turn_fills_its_share_of_the_slice(cost, others, budget):
    """Hot processes share one slice: each takes as many messages as fit, at least one and at most MOST."""
    meter = Meter()
    await fairness.give_way(meter)
    meter.hot = others
    meter.time += cost * meter.budget
    assert await fairness.give_way(meter) == pytest.approx(budget, abs=1)


async def test_a_cancelled_turn_is_not_counted_as_hot():
    """Who is cancelled while it gives way is out of the count."""
    meter = Meter()
    with trio.CancelScope() as scope:
        scope.cancel()
        await fairness.give_way(meter)
    assert scope.cancelled_caught
    assert meter.hot == 0


async def _gone(pid):
    """Wait until a process has ended, by turns, not by time."""
    for _ in range(10):
        if pid._process is None:
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError(f"{pid} is still there")
