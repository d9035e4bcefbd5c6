"""The seeded World: time, dice, sites and ends, all out of a seed."""

from __future__ import annotations

import pytest
import trio

from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.testing import ORIGIN, NodeExit, SeededWorld, Trace, TracedJournal, run_seeded
from tests.unit.backends.stores import entry, snapshot


def world(seed: int = 1, trace: Trace | None = None, **options: float) -> SeededWorld:
    disk = MemoryDisk()
    return SeededWorld(
        seed,
        open_store=lambda _path, node: MemoryJournal(disk, node=node),
        coordination=LocalCoordination(),
        trace=trace if trace is not None else Trace(),
        **options,
    )


def test_wall_time_starts_at_a_date_and_may_be_off() -> None:
    """The wall clock counts virtual seconds from a fixed date, plus what it is off; the other clock is not moved."""
    seeded = world()

    async def main() -> tuple[float, float, float]:
        await trio.sleep(5)  # virtual
        before = seeded.wall()
        seeded.wall_offset = -3600.0
        return before, seeded.wall(), seeded.now()

    assert run_seeded(1, main) == (ORIGIN + 5, ORIGIN + 5 - 3600, 5.0)


def test_a_site_is_on_or_off_for_a_whole_run() -> None:
    """A buggify site strikes in some runs only; in a run where it is off it never does; calm, none does."""
    struck = []
    for seed in range(100):
        seeded = world(seed, activation=0.4)
        struck.append(sum(seeded.buggify("site", 0.3) for _ in range(200)))
        assert seeded.struck["site"] == struck[-1]
        seeded.calm = True
        assert not any(seeded.buggify("site", 1.0) for _ in range(10))
    assert 25 < sum(count > 0 for count in struck) < 55


def test_sites_do_not_disturb_each_other() -> None:
    """A site that is added leaves the dice of the others, and of the node, as they were."""
    alone, beside = world(3, activation=1.0), world(3, activation=1.0)
    one = [alone.buggify("a", 0.3) for _ in range(50)]
    two = [(beside.buggify("b", 0.3), beside.buggify("a", 0.3))[1] for _ in range(50)]
    assert one == two
    assert alone.random.random() == beside.random.random()


def test_an_end_of_the_program_passes_through_everything() -> None:
    """`exit` raises what no process takes for its own failure, with the code."""
    with pytest.raises(NodeExit) as caught:
        world().exit(3)
    assert (caught.value.code, isinstance(caught.value, Exception)) == (3, False)


def test_blocking_work_takes_a_moment() -> None:
    """Work that may block is done, and others ran meanwhile."""
    seeded = world()

    async def main() -> tuple[int, bool]:
        return await seeded.run_blocking(lambda: 7), trio.current_time() > 0

    assert run_seeded(1, main) == (7, True)


def test_what_is_reached_is_counted() -> None:
    """`sometimes` counts how often a path was taken."""
    seeded = world()
    seeded.sometimes("a")
    seeded.sometimes("a")
    assert seeded.reached == {"a": 2}


def test_a_store_tells_the_trace_what_is_written() -> None:
    """Two lives that write other things have other hashes; reading leaves none."""
    digests = []
    for payload in (b"one", b"one", b"two"):
        trace = Trace()
        journal = world(trace=trace).open_store("disk", "node")
        assert isinstance(journal, TracedJournal)
        journal.commit([entry("a", 1, payload=payload)], [snapshot("a", 1)])
        journal.set_meta("m", b"v")
        before = trace.digest
        assert (journal.head("a"), journal.keys(), journal.get_meta("m"), journal.epoch) == (1, ["a"], b"v", 1)
        assert journal.load("a") == (snapshot("a", 1), [])
        assert (len(journal.read("a")), journal.stats().entries, journal.path) == (1, 1, ":memory:")
        assert trace.digest == before
        digests.append(before)
        journal.close()
    assert digests[0] == digests[1] != digests[2]
