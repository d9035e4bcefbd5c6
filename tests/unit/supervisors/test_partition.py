"""PartitionSupervisor: the same child several times, and keys that are spread over them."""

from __future__ import annotations

import pytest

from runtime import GenServer, Misuse, NoProcess, StartFailed, call, cast, is_alive, self_pid, send, start, whereis
from supervisors import (
    BadSpec,
    ChildRefused,
    PartitionSupervisor,
    child,
    count_children,
    delete_child,
    partition_count,
    partition_of,
    start_child,
    terminate_child,
    which_children,
)
from supervisors.partition import number_of
from tests.support.processes import as_process, idle, mail
from tests.unit.supervisors.children import Story, Worker, settle


class Cell(GenServer):
    """Tells who it is and with what it was started."""

    def init(self, *args):
        self.args = args

    def handle_call(self, request, caller):
        return self.args if request == "args" else self_pid()

    def handle_info(self, message):
        message.append(self_pid())


class Cells(PartitionSupervisor):
    partitions = 4

    def init(self):
        return child("cell", Cell, "x")

    def arguments(self, args, number):
        return (*args, number)


@as_process
async def test_partitions_start_in_order_with_their_numbers(node):
    """There are as many children as partitions, in order, each started with what `arguments` says."""
    cells = await start(Cells, name="cells")
    assert [one.id for one in reversed(await which_children(cells))] == ["cell-0", "cell-1", "cell-2", "cell-3"]
    assert [await call(partition_of(cells, number), "args") for number in range(4)] == [("x", n) for n in range(4)]
    assert (partition_count("cells"), (await count_children(cells)).active) == (4, 4)


@as_process
async def test_a_key_always_means_the_same_partition(node):
    """Equal keys go to one process, and many keys to all of them; an int goes by its remainder."""
    await start(Cells, name="cells")
    keys = ["ann", b"ann", ("ann", 1), None, self_pid(), *(f"key {n}" for n in range(40))]
    once = [await call(partition_of("cells", key), "who") for key in keys]
    assert [await call(partition_of("cells", key), "who") for key in keys] == once
    assert len(set(once)) == 4
    assert await call(partition_of("cells", 6), "who") == await call(partition_of("cells", 2), "who")


def test_where_a_key_lives_is_the_same_in_every_run():
    """The number of a key is a function of the key alone: Python's own hash of text differs between runs."""
    keys = ["ann", b"ann", ("ann", 1), ("ann1",), None, -1, 10**30]
    assert [number_of(key, 1000) for key in keys] == [number_of(key, 1000) for key in keys]
    assert [number_of(key, 1000) for key in ("ann", b"ann", -1, 7)] == [127, 93, 999, 7]


def test_keys_that_differ_do_not_look_the_same():
    """A key's parts are told apart, however they are cut."""
    keys = [("ab", "c"), ("a", "bc"), ("abc",), "abc", b"abc", (("a",), "bc"), ("1",), (1,)]
    assert len({number_of(key, 2**32) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", [1.5, [1], {"a": 1}, object(), ("a", 1.5)])
def test_a_key_of_another_type_is_refused(key):
    """A key is an int, text, bytes, None, a pid, or a tuple of such; anything else is Misuse, at once."""
    with pytest.raises(Misuse, match="a partition's key is"):
        partition_of("cells", key)


@as_process
async def test_a_restarted_partition_has_the_same_keys(node):
    """A destination stays good when its partition is restarted."""
    story = Story()

    class Workers(PartitionSupervisor):
        partitions, intensity = 2, 5

        def init(self):
            return child("worker", Worker, story)

        def arguments(self, args, number):
            return (*args, str(number))

    await start(Workers, name="workers")
    one = partition_of("workers", 1)
    before = whereis(one)
    await cast(one, "boom")
    await settle()
    assert story.take() == "+0 +1 -1 +1"
    assert await call(one, "hello") == "hello"
    assert whereis(one) != before


@as_process
async def test_strategies_hold_for_partitions(node):
    """Partitions are restarted as `strategy` says (S13)."""
    story = Story()

    class Workers(PartitionSupervisor):
        partitions, intensity, strategy = 3, 5, "one_for_all"

        def init(self):
            return child("worker", Worker, story)

        def arguments(self, args, number):
            return (*args, str(number))

    await start(Workers, name="workers")
    story.take()
    await cast(partition_of("workers", 1), "boom")
    await settle()
    assert story.take() == "-1 -2 -0 +0 +1 +2"


@as_process
async def test_a_partition_that_is_down_is_nobody(node):
    """A key whose partition is down is NoProcess for `call`, and so is one of a supervisor that is gone."""
    cells = await start(Cells)
    destination = partition_of(cells, 0)
    seen = []
    await send(destination, seen)
    await settle()
    assert seen == [whereis(destination)]
    await terminate_child(cells, "cell-0")
    assert whereis(destination) is None
    with pytest.raises(NoProcess):
        await call(destination, "who")
    with pytest.raises(NoProcess):
        await call(partition_of("nobody", 0), "who")
    with pytest.raises(NoProcess):
        partition_count("nobody")


@as_process
async def test_its_children_are_fixed(node):
    """Children are neither added nor deleted while it runs."""
    cells = await start(Cells)
    for request in (start_child(cells, child("more", idle)), delete_child(cells, "cell-0")):
        with pytest.raises(ChildRefused) as refused:
            await request
        assert refused.value.why == "not_offered"


@as_process
async def test_what_is_no_partition_supervisor_is_refused(node):
    """`partition_of` and `partition_count` want a partition supervisor; anything else is Misuse."""
    cell = await start(Cell)
    with pytest.raises(Misuse, match="no partition supervisor"):
        partition_count(cell)
    with pytest.raises(Misuse, match="no partition supervisor"):
        await call(partition_of(cell, 1), "who")
    assert is_alive(cell)


@pytest.mark.parametrize(
    "wrong",
    [
        {"partitions": 0},
        {"partitions": "4"},
        {"strategy": "simple_one_for_one"},
        {"init": lambda self: [child("cell", Cell)]},
        {"init": lambda self: child("cell", Cell, name="cell")},
    ],
)
@as_process
async def test_one_that_cannot_work_does_not_start(node, wrong):
    """The number of partitions, the template and the strategy are checked before anything runs (S4)."""
    with pytest.raises(StartFailed) as failed:
        await start(type("Wrong", (Cells,), wrong))
    assert isinstance(failed.value.reason.error, BadSpec)
    assert await mail() == []
