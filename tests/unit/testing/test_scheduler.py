"""A seeded run takes the same steps each time; and the switches of Trio that it stands on are where they were."""

from __future__ import annotations

import gc
import random

import pytest
import trio
from trio._core import _run

from runtime.errors import InternalError, Misuse
from runtime.testing import Trace, continue_program, program, run_seeded, stop_program


async def _race(order: list[int]) -> None:
    async def runner(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(runner, number)


def _raced(seed: int) -> tuple[list[int], str]:
    order: list[int] = []
    trace = Trace()
    run_seeded(seed, _race, order, trace=trace)
    return order, trace.digest


def test_one_seed_is_one_order() -> None:
    """The same seed runs tasks in the same order, with the same hash; other seeds run them in others."""
    assert _raced(3) == _raced(3)
    assert len({tuple(_raced(seed)[0]) for seed in range(20)}) > 15


def test_trio_has_the_switches() -> None:
    """The canary: the pinned Trio has both private switches, and a run puts them and the collector back."""
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    assert (type(before[0]), type(before[1])) == (bool, random.Random)
    _raced(1)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r) == before
    assert gc.isenabled()


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r"])
def test_a_trio_without_the_switches_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A Trio that has changed inside is told at once, instead of running in an order of its own."""
    monkeypatch.delattr(_run, name)
    with pytest.raises(InternalError, match="switches"):
        run_seeded(1, trio.lowlevel.checkpoint)


def test_time_is_virtual_and_starts_at_zero() -> None:
    """Hours of sleep take no time, and are hours."""

    async def main() -> tuple[float, float]:
        start = trio.current_time()
        await trio.sleep(30_000)  # virtual
        return start, trio.current_time()

    assert run_seeded(1, main) == (0.0, 30_000.0)


def test_a_moment_in_the_midst_of_steps_can_be_waited_for() -> None:
    """`after` wakes when so many steps were taken, even though time stands still; a wait that was cancelled is gone."""
    trace = Trace()

    async def main() -> list[int]:
        woken = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_race, [])
            with trio.CancelScope() as scope:
                scope.cancel()
                await trace.after(5)
            start = trace.steps
            await trace.after(10)
            woken.append(trace.steps - start)
        return woken

    assert run_seeded(1, main, trace=trace) in ([10], [11], [12], [13], [14], [15])
    with pytest.raises(Misuse):
        trace.after(0).send(None)


def test_a_trace_keeps_its_last_notes() -> None:
    """Two traces of the same notes are equal; one that differs is not; the last notes can be read."""
    one, same, other = Trace(keep=1), Trace(), Trace()
    for trace in (one, same, other):
        trace.note("a", 1, 0.5, b"x")
    one.note("b")
    same.note("b")
    other.note("c")
    assert one.digest == same.digest != other.digest
    assert list(one.last) == ["('b',)"]


def test_a_program_that_is_stopped_takes_no_step_until_it_goes_on() -> None:
    """Its tasks stand still while time passes for the others, and find then what has come and what is over."""
    steps: list[tuple[str, float]] = []

    async def member(name: str) -> None:
        while True:
            await trio.sleep(1.0)  # virtual
            steps.append((name, trio.current_time()))

    async def run(which: object, name: str) -> None:
        program.set(which)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member, name + "'s child")
            nursery.start_soon(member, name)

    async def main() -> None:
        one, other = object(), object()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, one, "one")
            nursery.start_soon(run, other, "other")
            await trio.sleep(2.5)  # virtual
            stop_program(one)
            stop_program(one)
            await trio.sleep(5.0)  # virtual
            assert [name for name, when in steps if when > 2.5 and name.startswith("one")] == []
            continue_program(one)
            continue_program(one)
            await trio.sleep(0.1)  # virtual
            # Its sleep was over long ago: it finds that now.
            assert [when for name, when in steps if when > 2.5 and name.startswith("one")] == [7.5, 7.5]
            stop_program(other)
            nursery.cancel_scope.cancel()
            continue_program(other)

    run_seeded(1, main)
    assert len([name for name, _ in steps if name.startswith("other")]) == 14
