"""How heartbeats are judged: up, busy, suspect, down; and that only silence that was listened to counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cluster import wire
from runtime.cluster.health import (
    BEAT_SECONDS,
    DOWN_SECONDS,
    LOOK_SECONDS,
    Beat,
    Beats,
    Changed,
    Health,
    Look,
    State,
)
from runtime.cluster.wire import Frame, Kind, WireError


def looked(health: Health, start: float, end: float, *, beats: bool = False) -> list[tuple[float, State]]:
    """Look from one time to another, with a beat every BEAT_SECONDS if asked; what changed, and when."""
    changes = []
    steps = round((end - start) / LOOK_SECONDS)
    for step in range(1, steps + 1):
        now = start + step * LOOK_SECONDS
        events: list[Beat | Look] = [Look()]
        if beats and (now / BEAT_SECONDS).is_integer():
            events.insert(0, Beat(0.0))
        for event in events:
            changes += [(now, change.after) for change in health.handle(event, now)]
    return changes


def test_a_silent_node_is_suspect_and_then_down() -> None:
    """After two missed beats it is suspect, after 8 seconds down, and never before (D3)."""
    assert looked(Health(0.0), 0.0, 20.0) == [(2.0, State.SUSPECT), (8.0, State.DOWN)]


def test_a_node_that_beats_is_up() -> None:
    """Beats in time change nothing."""
    assert looked(Health(0.0), 0.0, 100.0, beats=True) == []


def test_a_suspect_that_beats_is_up_again() -> None:
    """Routing that was held goes on with the first beat."""
    health = Health(0.0)
    assert looked(health, 0.0, 7.0) == [(2.0, State.SUSPECT)]
    assert health.handle(Beat(0.0), 7.2) == [Changed(State.SUSPECT, State.UP)]
    assert looked(health, 7.2, 9.0) == []


def test_a_node_whose_loop_is_held_is_busy() -> None:
    """Beats that carry an old tick say busy, for as long as they do, and never down."""
    health = Health(0.0)
    changes = []
    for second in range(1, 60):
        changes += health.handle(Beat(second if second < 50 else 0.1), float(second))
        changes += health.handle(Look(), second + 0.5)
    assert changes == [Changed(State.UP, State.BUSY), Changed(State.BUSY, State.UP)]


def test_down_is_for_ever() -> None:
    """A beat that comes after the node was given up changes nothing: it has to connect anew."""
    health = Health(0.0)
    looked(health, 0.0, 10.0)
    assert (health.handle(Beat(0.0), 11.0), health.state) == ([], State.DOWN)


def test_whoever_was_stopped_itself_blames_nobody() -> None:
    """After 30 seconds without a look a node counts one second, not 30: it has not listened."""
    health = Health(0.0)
    assert health.handle(Look(), 30.0) == []
    assert (health.silence, health.state) == (2 * LOOK_SECONDS, State.UP)


@given(st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), st.floats(0, 5))), max_size=60))
def test_down_needs_silence_that_was_listened_to(steps: list[tuple[float, float | None]]) -> None:
    """Whatever comes when: down means that for 8 seconds of listening nothing came, and states follow their rules."""
    health, now, listened = Health(0.0), 0.0, 0.0
    for step, age in steps:
        now += step
        listened = 0.0 if age is not None else listened + min(step, 2 * LOOK_SECONDS)
        if health.state is State.DOWN:
            assert health.handle(Look() if age is None else Beat(age), now) == []
            continue
        health.handle(Look() if age is None else Beat(age), now)
        assert health.silence == pytest.approx(listened)
        assert (health.state is State.DOWN) == (health.silence >= DOWN_SECONDS)


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 50))
def test_beats_travel(ages: list[float], piece: int) -> None:
    """What one side beats the other hears, to the millisecond, however it was cut."""
    near, far = Beats(), Beats()
    data = b"".join(near.beat(age) for age in ages)
    heard = [beat for start in range(0, len(data), piece) for beat in far.feed(data[start : start + piece])]
    assert heard == [Beat(round(age * 1000) / 1000) for age in ages]


@pytest.mark.parametrize("frame", [Frame(Kind.BEAT, 1, 1, b"x"), Frame(Kind.SEND), Frame(99)])
def test_what_is_no_beat_is_refused(frame: Frame) -> None:
    """A heartbeat's connection carries nothing else, and no payload."""
    with pytest.raises(WireError):
        Beats().feed(wire.encode(frame))
