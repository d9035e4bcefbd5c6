"""Token buckets and the census: what is allowed, and what is left afterwards."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Misuse
from runtime.edge.limits import Census, TokenBucket


def test_a_bucket_holds_its_burst_and_refills_at_its_rate() -> None:
    """After a burst there is one more for each 1/rate seconds, and never more than the burst."""
    bucket = TokenBucket(2.0, 3, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_time_that_runs_backwards_refills_nothing() -> None:
    """A clock that steps back gives no one more than their rate."""
    bucket = TokenBucket(1.0, 1, now=10.0)
    assert bucket.take(10.0)
    assert [bucket.take(5.0), bucket.take(10.9), bucket.take(11.0)] == [False, False, True]


def test_a_bucket_tells_how_long_to_wait() -> None:
    """`wait` is the time after which `take` succeeds; for more than the burst there is none."""
    bucket = TokenBucket(2.0, 2, now=0.0)
    assert bucket.wait(0.0) == 0.0
    assert bucket.take(0.0, 2)
    assert (bucket.wait(0.0), bucket.wait(0.25), bucket.wait(0.0, 3)) == (0.5, 0.25, math.inf)


def test_an_infinite_rate_refuses_nothing() -> None:
    """A bucket without a rate is no bound."""
    bucket = TokenBucket(math.inf, 1, now=0.0)
    assert all(bucket.take(0.0) for _ in range(1000))
    assert bucket.wait(0.0, 5) == 0.0


@given(st.lists(st.floats(0, 10), max_size=60), st.floats(0.1, 50), st.integers(1, 20))
def test_no_more_passes_than_burst_and_rate_allow(steps: list[float], rate: float, burst: int) -> None:
    """Over any time at most `burst + rate * time` units are taken."""
    bucket, now, taken = TokenBucket(rate, burst, now=0.0), 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0), (1, math.inf), (1, math.nan)])
def test_a_bucket_that_cannot_work_is_refused(rate: float, burst: float) -> None:
    """A rate above 0 and a finite burst of at least 1 are wanted."""
    with pytest.raises(Misuse):
        TokenBucket(rate, burst, now=0.0)


def test_the_census_bounds_all_and_each() -> None:
    """There is room for `most` in all, and for `most_each` of one key; who leaves makes room."""
    census = Census(3, 1)
    assert [census.enter(who) for who in "abcd"] == [True, True, True, False]
    assert [census.name("a", "ann"), census.name("b", "ann"), census.name("b", "bob")] == [True, False, True]
    census.leave("a")
    assert (len(census), census.count("ann")) == (2, 0)
    assert [census.enter("d"), census.name("d", "ann"), census.name("x", "ann")] == [True, True, False]


def test_who_is_in_already_takes_no_second_place() -> None:
    """Entering, naming and leaving twice change nothing."""
    census = Census(1, 1)
    assert [census.enter("a"), census.enter("a"), census.name("a", "k"), census.name("a", "k")] == [True] * 4
    census.leave("a")
    census.leave("a")
    assert (len(census), census.count("k")) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from(["enter", "name", "leave"]), st.integers(0, 5), st.integers(0, 2))))
def test_the_census_counts_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    """The census agrees with a dict that is counted anew after each step."""
    census = Census(4, 2)
    there: dict[int, int | None] = {}
    for what, who, key in steps:
        if what == "enter":
            assert census.enter(who) == (who in there or len(there) < 4)
            if who in there or len(there) < 4:
                there.setdefault(who, None)
        elif what == "name":
            fits = who in there and (there[who] == key or list(there.values()).count(key) < 2)
            assert census.name(who, key) == fits
            if fits:
                there[who] = key
        else:
            census.leave(who)
            there.pop(who, None)
        assert len(census) == len(there)
        assert [census.count(k) for k in range(3)] == [list(there.values()).count(k) for k in range(3)]


def test_a_census_without_room_is_refused() -> None:
    """Bounds below 1 can never work."""
    for most, each in [(0, 1), (1, 0)]:
        with pytest.raises(Misuse):
            Census(most, each)
