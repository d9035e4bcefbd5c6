"""The target of a move, step by step: it stages, and takes the shard by the token and the row, or leaves nothing."""

from __future__ import annotations

import pytest

from runtime.kernel.ids import Pid
from supervisors.shards.handoff import AGAIN, IN_FLIGHT, SILENCE, TRIES
from supervisors.shards.handoff_events import (
    Check,
    Commit,
    Done,
    Effect,
    Erase,
    Event,
    GiveUp,
    Install,
    Keep,
    Linked,
    Look,
    Reserve,
    Row,
    Say,
    Serve,
    Served,
    Start,
    Tick,
    Unknown,
    Verify,
)
from supervisors.shards.handoff_events import Heard as H
from supervisors.shards.handoff_frames import (
    Accept,
    Ask,
    Chunk,
    Got,
    Offer,
    Prepare,
    Ready,
    Taken,
    Token,
    Void,
)
from supervisors.shards.handoff_target import Target, TargetPhase

OFFER = Offer("m1", 7, 3, "a", 16, (("bank", 1),), 10, 1000)
TOKEN = Token("m1", 1, ((False, b"last"),), b"digest", (("bank", b"bag"),))
ONE = Chunk("m1", 1, False, b"one")
UNDECIDED = Row("a", 3, "m1")


def new(*, kept: bool | None = None) -> Target:
    """A target that has not begun."""
    return Target(OFFER, "b", kept=kept)


def run(target: Target, *events: Event, now: float = 0.0) -> list[Effect]:
    """Tell it, one after the other; what it wants done about the last."""
    effects: list[Effect] = []
    for event in events:
        effects = target.handle(event, now)
    return effects


# What leads to each phase, from the one before.
RESERVING: list[Event] = [Start(), Done(), UNDECIDED]
STAGING = [*RESERVING, Done()]
VERIFYING = [*STAGING, H(ONE), Done(), H(Prepare("m1", 1))]
VERIFIED = [*VERIFYING, Done()]
KEEPING = [*VERIFIED, H(TOKEN)]
COMMITTING = [*KEEPING, Done()]
SERVING = [*COMMITTING, Row("b", 4, "")]
OWN = [*SERVING, Served()]


def test_a_move_without_faults() -> None:
    """Check, reserve, install, verify, keep the token, commit, serve; one effect at a time."""
    target = new()
    assert run(target, Start()) == [Check(OFFER)]
    assert run(target, Done()) == [Look()]
    assert run(target, UNDECIDED) == [Reserve()]
    assert run(target, Done()) == [Say(Accept("m1"))]
    assert run(target, H(ONE)) == [Install(ONE)]
    two = Chunk("m1", 2, False, b"two")
    assert run(target, H(two)) == []
    assert run(target, Done()) == [Say(Got("m1", 1, 2)), Install(two)]
    assert run(target, H(Prepare("m1", 2))) == []
    assert run(target, Done()) == [Say(Got("m1", 2, 2)), Verify()]
    assert run(target, Done()) == [Say(Ready("m1"))]
    token = Token("m1", 2, TOKEN.last, TOKEN.digest, TOKEN.luggage)
    assert not target.committed
    assert run(target, H(token)) == [Keep(token)]
    assert target.committed
    assert run(target, Done()) == [Commit()]
    assert run(target, Row("b", 4, "")) == [Serve(4, token.luggage)]
    pids = (("bank", "oak", Pid("b", 1, 5)),)
    assert run(target, Served(pids)) == [Say(Taken("m1", 4, pids))]
    assert target.phase is TargetPhase.OWN
    assert target.over
    assert target.deadline is None


def test_an_empty_shard() -> None:
    """It is verified without a chunk, and the token has the number 0."""
    target = new()
    assert run(target, *STAGING, H(Prepare("m1", 0))) == [Verify()]
    empty = Token("m1", 0, (), b"", ())
    assert run(target, Done(), H(empty)) == [Keep(empty)]


def test_refused_at_once() -> None:
    """What cannot be served here is refused with the reason, and nothing was written."""
    target = new()
    assert run(target, Start(), Done("no room")) == [Say(Void("m1", "no room"))]
    assert (target.phase, target.over, target.why) == (TargetPhase.VOID, True, "no room")
    other = new()
    assert run(other, Start(), H(Void("m1", "enough")), Done(), UNDECIDED) == [Say(Void("m1", "enough"))]
    assert other.over


@pytest.mark.parametrize("row", [Row("a", 4, ""), Row("a", 3, ""), Row("a", 3, "m2"), Row("b", 4, ""), Unknown()])
def test_an_offer_that_the_row_does_not_name(row: Event) -> None:
    """It is old, or forged: it is refused, and nothing here is touched, least of all a shard that is served."""
    target = new()
    (said,) = run(target, Start(), Done(), row)
    assert isinstance(said, Say)
    assert isinstance(said.frame, Void)
    assert target.over


@pytest.mark.parametrize("steps", [RESERVING, [*STAGING, H(ONE)], VERIFYING, KEEPING])
def test_what_fails_here_is_erased(steps: list[Event]) -> None:
    """A disk that is full, a record that cannot be decoded, a digest that differs: the source is told, all goes."""
    target = new()
    run(target, *steps)
    assert run(target, Done("it is damaged")) == [Say(Void("m1", "it is damaged")), Erase()]
    assert run(target, Done("the disk")) == []
    assert run(target, Tick(), now=AGAIN) == [Erase()]
    assert run(target, Done()) == []
    assert target.phase is TargetPhase.VOID


@pytest.mark.parametrize("event", [GiveUp("enough"), H(Void("m1", "enough"))], ids=["here", "there"])
@pytest.mark.parametrize("steps", [RESERVING, STAGING, [*STAGING, H(ONE)], VERIFYING, VERIFIED])
def test_given_up_before_the_token(steps: list[Event], event: Event) -> None:
    """Until the token is here either side gives up, and what was staged is erased when nothing is at work."""
    target = new()
    run(target, *steps)
    said = run(target, event) or run(target, Done())
    assert said[-2:] == [Say(Void("m1", "enough")), Erase()]


@pytest.mark.parametrize("event", [GiveUp("enough"), H(Void("m1", "enough"))], ids=["here", "there"])
def test_given_up_after_the_token(event: Event) -> None:
    """From the token on only the row decides."""
    target = new()
    run(target, *KEEPING, event)
    assert run(target, Done(), event) == []
    assert run(target, UNDECIDED) == [Commit()]
    assert run(target, event, Row("b", 4, "")) == [Serve(4, TOKEN.luggage)]


def test_an_answer_that_is_lost() -> None:
    """Nobody serves until the row was read: it may be ours already, undecided, or taken back."""
    target = new()
    run(target, *COMMITTING, Unknown())
    assert target.deadline == AGAIN
    assert run(target, Tick(), now=AGAIN / 2) == []
    assert run(target, Tick(), now=AGAIN) == [Look()]
    assert run(target, Unknown(), now=AGAIN) == []
    assert run(target, Tick(), now=1.0) == [Look()]
    assert run(target, UNDECIDED, now=1.0) == [Commit()]
    assert run(target, Row("b", 4, ""), now=1.0) == [Serve(4, TOKEN.luggage)]


@pytest.mark.parametrize("row", [Row("a", 4, ""), Row("a", 3, ""), Row("a", 3, "m2"), Row("c", 4, "")])
def test_the_row_has_moved_on(row: Row) -> None:
    """Another epoch, another move or another owner: what is here is erased."""
    target = new()
    run(target, *COMMITTING)
    assert run(target, row) == [Say(Void("m1", "the source has taken it back")), Erase()]


def test_chunks_are_installed_in_order_and_once() -> None:
    """One that comes twice, behind a gap or beyond the bound is not taken; the answer says what has come."""
    target = new()
    run(target, *STAGING)
    assert run(target, H(Chunk("m1", 2, False, b"two"))) == []
    assert run(target, H(ONE)) == [Install(ONE)]
    assert run(target, H(ONE)) == []
    for number in range(2, 10):
        run(target, H(Chunk("m1", number, False, b"x")))
    assert run(target, H(Ask("m1"))) == [Say(Got("m1", 0, 1 + IN_FLIGHT))]
    for number in range(1, 1 + IN_FLIGHT):
        assert run(target, Done())[0] == Say(Got("m1", number, 1 + IN_FLIGHT))
    assert run(target, Done()) == [Say(Got("m1", 1 + IN_FLIGHT, 1 + IN_FLIGHT))]


def test_what_is_asked_again() -> None:
    """An offer, a question and a prepare that come again are answered as far as it is; also in mid-work."""
    target = new()
    assert run(target, Start(), H(OFFER)) == [Say(Got("m1", 0, 0))]
    assert run(target, Done(), UNDECIDED, Done(), H(OFFER)) == [Say(Accept("m1"))]
    run(target, H(ONE), Done(), H(Prepare("m1", 1)))
    assert run(target, H(Ask("m1"))) == [Say(Got("m1", 1, 1))]
    run(target, Done())
    assert run(target, H(Ask("m1"))) == [Say(Got("m1", 1, 1)), Say(Ready("m1"))]
    assert run(target, H(Prepare("m1", 1))) == [Say(Ready("m1"))]


def test_chunks_after_it_was_verified() -> None:
    """What has changed since is installed, and the token waits for the last of it."""
    target = new()
    run(target, *VERIFIED)
    two = Chunk("m1", 2, False, b"two")
    assert run(target, H(two)) == [Install(two)]
    token = Token("m1", 2, (), b"", ())
    assert run(target, H(token)) == []
    assert run(target, Done()) == [Say(Got("m1", 2, 2)), Keep(token)]


def test_a_token_that_is_too_early() -> None:
    """Without all chunks, or before all was verified, it is not acted upon."""
    target = new()
    assert run(target, *STAGING, H(TOKEN)) == []
    assert run(target, H(ONE), Done()) == [Say(Got("m1", 1, 1))]
    assert run(target, H(Prepare("m1", 1))) == [Verify()]
    assert run(target, Done()) == [Say(Ready("m1")), Keep(TOKEN)]


def test_a_source_that_is_silent() -> None:
    """The row is read: the move stands in it no more, or at last it is given up anyway, as there is no token."""
    target = new()
    run(target, *STAGING)
    assert target.deadline == SILENCE
    assert run(target, Tick(), now=SILENCE) == [Look()]
    assert run(target, Row("a", 4, ""), now=SILENCE)[-1] == Erase()
    other = new()
    run(other, *STAGING)
    now = 0.0
    for at in range(TRIES):
        now += SILENCE
        assert run(other, Tick(), now=now) == [Look()]
        assert run(other, Unknown() if at % 2 else UNDECIDED, now=now) == []
    run(other, Linked(up=False), now=now)
    now += SILENCE
    run(other, Tick(), now=now)
    assert run(other, UNDECIDED, now=now) == [Say(Void("m1", "the source is silent")), Erase()]


def test_a_source_that_speaks_again() -> None:
    """Each word begins the wait anew."""
    target = new()
    run(target, *STAGING)
    for at in range(1, 30):
        run(target, Tick(), UNDECIDED, now=at * SILENCE) if at % 2 else run(target, H(Ask("m1")), now=at * SILENCE)
    assert not target.over
    assert target.phase is TargetPhase.STAGING


def test_who_asks_after_the_end() -> None:
    """An owner repeats what became of the processes; of a void move everybody hears that it is void."""
    target = new()
    run(target, *OWN)
    taken = Taken("m1", 4, ())
    assert run(target, H(Ask("m1"))) == [Say(taken)]
    assert run(target, H(TOKEN)) == [Say(taken)]
    assert run(target, H(Void("m1", "late"))) == []
    void = new()
    run(void, Start(), Done("no room"))
    assert run(void, H(TOKEN)) == [Say(Void("m1", "no room"))]
    assert run(void, H(Void("m1", "enough"))) == []


def test_another_move_of_the_shard() -> None:
    """Its offer says that this move is void, or ours: before the token it is given up, after it the row is read."""
    offer = H(Offer("m2", 7, 5, "a", 16, (), 0, 0))
    target = new()
    run(target, *VERIFIED)
    assert run(target, offer) == [Say(Void("m1", "its source has begun another move")), Erase()]
    other = new()
    run(other, *COMMITTING, Unknown())
    assert run(other, offer) == [Look()]
    assert run(other, offer) == []
    assert run(other, Row("a", 5, "m2"))[-1] == Erase()
    for frame in (Chunk("m0", 1, False, b""), Token("m0", 0, (), b"", ()), Void("m0", ""), Ask("m0")):
        assert run(new(), *STAGING, H(frame)) == []


@pytest.mark.parametrize("row", [Row("b", 4, ""), Row("b", 5, ""), Row("a", 4, ""), UNDECIDED])
def test_started_again_with_the_token(row: Row) -> None:
    """The row decides: ours, taken back, or still to be committed. What was in memory is gone."""
    target = new(kept=True)
    assert run(target, Start()) == [Look()]
    expected: list[Effect] = [Serve(row.epoch, ())] if row.owner == "b" else []
    expected = [Commit()] if row is UNDECIDED else expected
    assert run(target, row) == (expected or [Say(Void("m1", "the source has taken it back")), Erase()])


def test_started_again_without_the_token() -> None:
    """What was staged is erased, and the source told."""
    target = new(kept=False)
    assert run(target, Start()) == [Say(Void("m1", "the target was started again")), Erase()]
    run(target, Done())
    assert target.over


def test_an_event_out_of_place_is_a_defect() -> None:
    """What cannot come is not passed over."""
    with pytest.raises(AssertionError, match="a target that is checking got"):
        run(new(), Served())
