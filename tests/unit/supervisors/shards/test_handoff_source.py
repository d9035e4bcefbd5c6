"""The source of a move, step by step: it serves until the seal, and after it only what the row says counts."""

from __future__ import annotations

import pytest

from runtime.kernel.ids import Pid
from supervisors.shards import handoff
from supervisors.shards.handoff import AGAIN, ASK, FEW, IN_FLIGHT, MOST_VOIDED, PATIENCE, SILENCE, Source, SourcePhase
from supervisors.shards.handoff_events import (
    Clear,
    Done,
    Effect,
    Event,
    Follow,
    Freeze,
    GiveUp,
    Heard,
    Linked,
    Look,
    Plan,
    Portion,
    Read,
    ReadLast,
    Rest,
    Resume,
    Retire,
    Row,
    Say,
    Seal,
    Start,
    TakeBack,
    Thaw,
    Tick,
    Unknown,
)
from supervisors.shards.handoff_frames import (
    Accept,
    Ask,
    Chunk,
    Frame,
    Got,
    Offer,
    Prepare,
    Ready,
    Taken,
    Token,
    Void,
    of_a_stranger,
)

OFFER = Offer("m1", 7, 3, "a", 16, (("bank", 1),), 10, 1000)
REST = Rest(((False, b"last"),), b"digest", (("bank", b"bag"),))
TOKEN = Token("m1", 1, REST.last, REST.digest, REST.luggage)
VOID = SourcePhase.VOID


def new(*, sealed: bool | None = None) -> Source:
    """A source that has not begun."""
    return Source(OFFER, "b", sealed=sealed)


def run(source: Source, *events: Event | Frame, now: float = 0.0) -> list[Effect]:
    """Tell it, one after the other; what it wants done about the last."""
    effects: list[Effect] = []
    for event in events:
        is_frame = isinstance(event, (Accept, Got, Ready, Taken, Void, Offer, Token, Ask, Prepare, Chunk))
        effects = source.handle(Heard(event) if is_frame else event, now)  # type: ignore[arg-type]  # by the line above
    return effects


# What leads to each phase, from the one before.
OFFERED: list[Event | Frame] = [Start(), Done()]
COPYING = [*OFFERED, Accept("m1")]
TAILING = [*COPYING, Portion(False, b"one", 0, False)]
FREEZING = [*TAILING, Got("m1", 1, 1), Ready("m1"), Portion(False, b"", 0, False)]
SEALING = [*FREEZING, Done(), REST]
SEALED = [*SEALING, Done()]


def test_a_move_without_faults() -> None:
    """Plan, offer, copy, tail, freeze, read the rest, seal, token, retire; one effect at a time."""
    source = new()
    assert run(source, Start()) == [Plan()]
    assert run(source, Done()) == [Say(OFFER)]
    assert run(source, Accept("m1")) == [Read()]
    one, two = Chunk("m1", 1, False, b"one"), Chunk("m1", 2, True, b"two")
    assert run(source, Portion(False, b"one", 9, True)) == [Say(one), Read()]
    assert run(source, Portion(True, b"two", 0, False)) == [Say(two), Say(Prepare("m1", 2)), *[]]
    assert source.phase is SourcePhase.TAILING
    assert run(source, Got("m1", 1, 2)) == []
    assert run(source, Got("m1", 2, 2)) == []
    assert run(source, Ready("m1")) == [Read()]
    assert run(source, Portion(False, b"", 0, False)) == [Freeze(False)]
    assert run(source, Done()) == [ReadLast()]
    assert run(source, REST) == [Seal()]
    token = Token("m1", 2, REST.last, REST.digest, REST.luggage)
    assert run(source, Done()) == [Say(token)]
    assert source.sealed
    assert not source.over
    pid = Pid("b", 1, 5)
    pids = (("bank", "oak", pid),)
    assert run(source, Taken("m1", 4, pids)) == [Retire("b", 4), Follow(pids)]
    assert source.phase is SourcePhase.RETIRED
    assert source.over
    assert run(source, Tick(), GiveUp("late"), Void("m1", "late")) == []


@pytest.mark.parametrize("steps", [OFFERED, COPYING, TAILING], ids=["offered", "copying", "tailing"])
def test_given_up_before_the_freeze(steps: list[Event]) -> None:
    """Whoever gives up before the freeze takes the move out of the row; nothing was paused."""
    source = new()
    run(source, *steps)
    said = run(source, GiveUp("enough"))
    if not said:  # a read is under way
        said = run(source, Portion(False, b"", 0, False))
    assert said == [Say(Void("m1", "enough")), Clear()]
    assert run(source, Done()) == []
    assert (source.phase, source.why, source.over, source.deadline) == (VOID, "enough", True, None)


@pytest.mark.parametrize("event", [GiveUp("enough"), Void("m1", "enough")], ids=["here", "there"])
def test_given_up_while_frozen(event: Event) -> None:
    """What was given up during the freeze is thawed, whether it was reading or not."""
    for steps, answer in ([*FREEZING], Done()), ([*FREEZING, Done()], REST):
        source = new()
        run(source, *steps, event)
        assert run(source, answer) == [Thaw(), Say(Void("m1", "enough")), Clear()]


def test_given_up_while_planning() -> None:
    """A plan that was given up before it was there is cleared, and the target never hears an offer."""
    source = new()
    assert run(source, Start(), GiveUp("enough"), Done()) == [Say(Void("m1", "enough")), Clear()]


def test_a_plan_that_is_refused() -> None:
    """Who may not plan says why; it is cleared all the same, which leaves a row of another move alone."""
    source = new()
    assert run(source, Start(), Done("it moves already")) == [Say(Void("m1", "it moves already")), Clear()]
    run(source, Done())
    assert (source.phase, source.why) == (VOID, "it moves already")


def test_a_plan_without_an_answer() -> None:
    """A plan whose answer was lost is tried again, until it is known whether it is there; also if given up."""
    source = new()
    assert run(source, Start(), GiveUp("enough"), Unknown()) == []
    assert source.deadline == AGAIN
    assert run(source, Tick(), now=AGAIN / 2) == []
    assert run(source, Tick(), now=AGAIN) == [Plan()]
    assert run(source, Done(), now=AGAIN) == [Say(Void("m1", "enough")), Clear()]


@pytest.mark.parametrize("answer", [Done("no answer"), Unknown()])
def test_a_clear_without_an_answer(answer: Event) -> None:
    """The move is taken out of the row again and again until that has worked."""
    source = new()
    run(source, *OFFERED, GiveUp("enough"), answer)
    assert run(source, Tick(), now=AGAIN) == [Clear()]
    run(source, Done())
    assert source.over


def test_a_target_that_says_nothing() -> None:
    """It is asked once a second, and the move is given up after ten."""
    source = new()
    run(source, *OFFERED)
    assert source.deadline == ASK
    assert run(source, Tick(), now=ASK) == [Say(OFFER)]
    assert source.deadline == 2 * ASK
    assert run(source, Tick(), now=1.5 * ASK) == []
    said = run(source, Tick(), now=SILENCE)
    assert said == [Say(Void("m1", f"b has said nothing for {SILENCE:g} seconds")), Clear()]


def test_a_target_that_works_and_answers() -> None:
    """Who answers may take as long as it likes to check and to verify."""
    source = new()
    run(source, *OFFERED)
    for now in range(1, 100):
        run(source, Tick(), Got("m1", 0, 0), now=float(now))
    assert run(source, Accept("m1"), now=99.0) == [Read()]
    run(source, Portion(False, b"one", 0, False), Got("m1", 1, 1), now=99.0)
    for now in range(100, 200):
        assert run(source, Tick(), now=float(now)) == [Say(Ask("m1"))]
        assert run(source, Got("m1", 1, 1), now=float(now)) == [Say(Prepare("m1", 1))]
    assert run(source, Ready("m1"), now=200.0) == [Read()]


def test_no_more_than_so_many_chunks_are_under_way() -> None:
    """It reads on when one more is in the target's store."""
    source = new()
    run(source, *COPYING)
    for number in range(1, IN_FLIGHT):
        assert run(source, Portion(False, b"x", 9, True))[-1] == Read(), number
    assert run(source, Portion(False, b"x", 9, True)) == [Say(Chunk("m1", IN_FLIGHT, False, b"x"))]
    assert run(source, Got("m1", 1, 2)) == [Read()]


def test_a_link_that_was_away() -> None:
    """What may be lost is asked for, and sent again from there on; meanwhile nothing new is read."""
    source = new()
    run(source, *COPYING, Portion(False, b"1", 9, True), Portion(False, b"2", 9, True))
    run(source, Linked(up=False))
    assert run(source, Portion(False, b"3", 9, True)) == []
    assert run(source, Linked(up=True), now=1.0) == [Say(Ask("m1"))]
    assert run(source, Got("m1", 1, 2), now=1.0) == [Say(Chunk("m1", 3, False, b"3")), Read()]


def test_a_link_that_was_away_while_tailing() -> None:
    """The question whether all is in order is asked again too; a link that stays away ends the move."""
    source = new()
    run(source, *TAILING, Got("m1", 1, 1), Linked(up=False))
    assert run(source, Linked(up=True)) == [Say(Ask("m1"))]
    assert run(source, Got("m1", 1, 1)) == [Say(Prepare("m1", 1))]
    run(source, Linked(up=False), now=1.0)
    assert source.deadline == 1.0 + SILENCE
    assert run(source, Tick(), now=1.0 + SILENCE)[-1] == Clear()


def test_a_link_that_breaks_while_frozen() -> None:
    """Nothing is sealed for a target that cannot be told: it is thawed, and goes on when the link is back."""
    for steps, answer in ([*FREEZING], Done()), ([*FREEZING, Done()], REST):
        source = new()
        run(source, *steps, Linked(up=False))
        assert run(source, answer) == [Thaw()]
        assert source.phase is SourcePhase.TAILING
        assert run(source, Linked(up=True)) == [Say(Ask("m1"))]
        assert run(source, Got("m1", 1, 1)) == [Read()]


def test_a_freeze_over_its_budget() -> None:
    """It is tried again later with what has changed meanwhile, then by force, and at last the move is given up."""
    source = new()
    run(source, *FREEZING)
    now, forced = 0.0, []
    for voided in range(1, MOST_VOIDED):
        late: Event = Done("late") if voided % 2 else Rest(why="late")
        if voided % 2 == 0:
            run(source, Done(), now=now)
        assert run(source, late, now=now) in ([], [Thaw()])
        assert source.deadline is not None
        assert source.deadline > now
        now = source.deadline
        assert run(source, Tick(), now=now) == [Read()]
        (freeze,) = run(source, Portion(False, b"", 0, False), now=now)
        assert isinstance(freeze, Freeze)
        forced.append(freeze.force)
    assert forced == [False, False, True, True, True]
    assert run(source, Done("late"), now=now)[-1] == Clear()
    assert source.why == f"{MOST_VOIDED} freezes were over their budget"


def test_a_tail_that_grows_as_fast_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many reads a freeze is tried anyway: its budget decides."""
    monkeypatch.setattr(handoff, "ROUNDS", 3)
    source = new()
    assert run(source, *TAILING, Got("m1", 1, 1), Ready("m1")) == [Read()]
    many = Portion(False, b"x", FEW + 1, False)
    assert run(source, many)[-1] == Read()
    assert run(source, many)[-1] == Read()
    assert run(source, many) == [Say(Chunk("m1", 4, False, b"x"))]
    assert run(source, Got("m1", 4, 4)) == [Freeze(False)]


def test_a_seal_that_fails() -> None:
    """The shard is open still: it goes on, and the move is void."""
    source = new()
    run(source, *SEALING)
    assert run(source, Done("the disk")) == [Thaw(), Say(Void("m1", "the disk")), Clear()]


def test_from_the_seal_on_nothing_is_given_up() -> None:
    """Who wants to give up is heard too late, also by the target's silence; the row decides."""
    for steps in SEALING, SEALED:
        source = new()
        run(source, *steps, GiveUp("enough"))
        assert source.why is None


def test_a_token_without_an_answer() -> None:
    """The row is read; the token is repeated while nothing is decided, and then the shard is taken back."""
    source = new()
    undecided = Row("a", 3, "m1")
    run(source, *SEALED)
    now = 0.0
    for _ in range(handoff.TRIES - 1):
        now += PATIENCE
        assert source.deadline == now
        assert run(source, Tick(), now=now) == [Look()]
        assert run(source, undecided, now=now) == [Say(TOKEN)]
    assert run(source, Tick(), now=now + PATIENCE) == [Look()]
    assert run(source, undecided) == [TakeBack()]
    assert run(source, Row("a", 4, "")) == [Resume(4), Say(Void("m1", "b did not take it"))]
    assert source.phase is VOID


def test_a_row_that_cannot_be_read() -> None:
    """A sealed source waits: it serves nothing, and looks again."""
    source = new()
    run(source, *SEALED)
    for now in range(1, 50):
        assert run(source, Tick(), now=float(now)) == [Look()]
        assert run(source, Unknown(), now=float(now)) == []
        assert source.deadline == now + AGAIN
    assert run(source, Tick(), now=60.0) == [Look()]
    assert run(source, Row("b", 4, ""), now=60.0) == [Retire("b", 4), Say(Ask("m1"))]


def test_taken_back_and_taken_at_once() -> None:
    """Both want the row: if the target has it, the source retires; its own lost answer is found in the row."""
    source = new()
    assert run(source, *SEALED, Void("m1", "no room")) == [TakeBack()]
    assert run(source, Unknown()) == []
    run(source, Tick(), now=AGAIN)
    assert run(source, Row("b", 4, ""))[0] == Retire("b", 4)
    other = new()
    run(other, *SEALED, Void("m1", "no room"), Unknown())
    run(other, Tick(), now=AGAIN)
    assert run(other, Row("a", 4, "")) == [Resume(4), Say(Void("m1", "no room"))]


def test_a_target_that_gives_up_while_it_is_sealed() -> None:
    """Its word in the middle of the seal, or of a look, is not lost: the shard is taken back at once."""
    source = new()
    assert run(source, *SEALING, Void("m1", "full")) == []
    assert run(source, Done()) == [TakeBack()]
    source = new()
    run(source, *SEALED)
    run(source, Tick(), now=PATIENCE)
    assert run(source, Void("m1", "full")) == []
    assert run(source, Row("a", 3, "m1")) == [TakeBack()]


def test_a_link_that_breaks_while_sealed() -> None:
    """The row is read at once: the shard is taken back, or it is the target's already."""
    source = new()
    run(source, *SEALED)
    assert run(source, Linked(up=False)) == [Look()]
    assert run(source, Row("a", 3, "m1")) == [TakeBack()]


def test_a_third_node_has_it() -> None:
    """Who holds the source's data may own the shard meanwhile: the source retires towards it."""
    source = new()
    run(source, *SEALED)
    run(source, Tick(), now=PATIENCE)
    assert run(source, Row("c", 9, "")) == [Retire("c", 9), Follow(None)]
    assert source.over


def test_the_word_of_who_was_taken_is_lost() -> None:
    """A source that has retired by the row asks what became of its processes, and gives that up after a while."""
    for answer, follow in (Taken("m1", 4, ()), [Follow(())]), (Void("m1", "?"), []):
        source = new()
        run(source, *SEALED)
        run(source, Tick(), now=PATIENCE)
        assert run(source, Row("b", 4, "")) == [Retire("b", 4), Say(Ask("m1"))]
        assert not source.over
        assert run(source, GiveUp("late"), Tick()) == []
        assert run(source, Tick(), now=ASK) == [Say(Ask("m1"))]
        assert run(source, answer, now=ASK) == follow
        assert source.over
    source = new()
    run(source, *SEALED, Linked(up=False))
    assert run(source, Row("b", 4, "")) == [Retire("b", 4)]
    assert run(source, Tick(), now=SILENCE) == [Follow(None)]
    assert source.over


def test_the_target_has_forgotten_after_the_link_was_lost() -> None:
    """Its processes are asked for, one by one; but what they owed is lost, if the target has lived again since."""
    source = new()
    run(source, *SEALED, Linked(up=False), Row("b", 4, ""), Linked(up=True))
    assert run(source, Void("m1", "?")) == [Follow((), bare=("bank",))]
    assert source.over
    source = new()
    run(source, *SEALED, Linked(up=False, mover_only=True), Row("b", 4, ""), Linked(up=True))
    assert run(source, Void("m1", "?")) == []
    assert source.over


@pytest.mark.parametrize(("sealed", "effects"), [(False, [Say(Void("m1", "w")), Clear()]), (True, [Look()])])
def test_a_mover_that_was_started_again(sealed: bool, effects: list[Effect]) -> None:
    """What it left behind is cleared, or, if it was sealed, taken back; unless the target has it."""
    source = new(sealed=sealed)
    said = run(source, Start())
    assert [type(one) for one in said] == [type(one) for one in effects]
    if sealed:
        assert run(source, Row("a", 3, "m1")) == [TakeBack()]
        assert run(source, Row("a", 4, ""))[0] == Resume(4)
    else:
        run(source, Done())
    assert source.phase is VOID


def test_frames_of_other_moves() -> None:
    """A word of another move changes nothing, in no phase."""
    source = new()
    steps = [*SEALED]
    for at in range(len(steps)):
        run(source, steps[at])
        phase = source.phase
        for frame in (Taken("m0", 4, ()), Void("m0", "x"), Got("m0", 9, 9), Ready("m0"), Accept("m0")):
            assert run(source, frame) == []
        assert source.phase is phase


def test_an_event_out_of_place_is_a_defect() -> None:
    """What cannot come is not passed over."""
    with pytest.raises(AssertionError, match="a source that is planning got"):
        run(new(), Portion(False, b"", 0, False))


def test_a_stranger_is_told_that_the_move_is_void() -> None:
    """Who asks about a move that is not known hears so; an end is not answered, so nothing goes round."""
    assert [of_a_stranger(one) for one in (OFFER, Taken("m1", 4, ()), Void("m1", "w"))] == [None] * 3
    for frame in (Accept("m1"), Got("m1", 1, 1), Ready("m1"), Chunk("m1", 1, False, b""), Prepare("m1", 1), TOKEN):
        told = of_a_stranger(frame)
        assert told is not None
        assert told.move == "m1"
