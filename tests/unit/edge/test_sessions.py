"""Sessions: whatever connections do, a client reads every frame once and in order, or starts anew."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime import Misuse
from runtime.edge.sessions import (
    Alarm,
    Answers,
    Attach,
    Cut,
    Detach,
    Effect,
    Outgoing,
    Overdue,
    Push,
    Refresh,
    Send,
    Welcome,
    Written,
)


def outgoing(keep: int = 8, keep_bytes: int = 1000, window: int = 4, patience: float = 5.0) -> Outgoing:
    return Outgoing(keep=keep, keep_bytes=keep_bytes, window=window, patience=patience)


def test_the_first_connection_is_welcomed_and_refreshed() -> None:
    """A session that nobody has carried yet resumes nothing, whatever its client believes to know."""
    session = outgoing()
    assert session.handle(Attach("a", after=0)) == [Welcome("a", resumed=False, sequence=0), Refresh()]


def test_a_push_is_handed_to_the_connection() -> None:
    """Frames are numbered from 1 and handed over at once."""
    session = outgoing()
    session.handle(Attach("a", None))
    assert session.next == 1
    assert session.handle(Push(b"x")) == [Send("a", 1, b"x")]
    assert session.handle(Push(b"y")) == [Send("a", 2, b"y")]


def test_a_client_that_comes_back_is_sent_what_it_lacks() -> None:
    """After a resume the next frame is the one after the last that the client had read."""
    session = outgoing()
    session.handle(Attach("a", None))
    for frame in (b"1", b"2", b"3"):
        session.handle(Push(frame))
    session.handle(Detach("a"))
    assert session.handle(Push(b"4")) == []
    assert session.handle(Attach("b", after=2)) == [
        Welcome("b", resumed=True, sequence=2),
        Send("b", 3, b"3"),
        Send("b", 4, b"4"),
    ]


@pytest.mark.parametrize("after", [0, 99, None])
def test_a_gap_that_cannot_be_closed_asks_for_absolutes(after: int | None) -> None:
    """Who lacks what is no longer kept, or claims to have read the future, starts anew at the present."""
    session = outgoing(keep=4)
    session.handle(Attach("a", None))
    session.handle(Detach("a"))
    for _ in range(6):
        session.handle(Push(b"x"))
    assert session.handle(Attach("b", after)) == [Welcome("b", resumed=False, sequence=6), Refresh()]
    assert session.handle(Push(b"all")) == [Send("b", 7, b"all")]


def test_a_newer_connection_displaces_the_older() -> None:
    """One connection carries a session; the older is cut with a reason, and what it says is no matter."""
    session = outgoing()
    session.handle(Attach("a", None))
    assert session.handle(Attach("b", None))[0] == Cut("a", "displaced")
    assert session.handle(Detach("a")) == []
    assert session.connection == "b"


def test_the_window_bounds_what_is_handed_over() -> None:
    """At most `window` frames are under way; what is written makes room once half of it is free."""
    session = outgoing(window=4)
    session.handle(Attach("a", None))
    told = [effect for n in range(6) for effect in session.handle(Push(b"%d" % n))]
    assert told == [*[Send("a", n + 1, b"%d" % n) for n in range(4)], Alarm(5.0, 1)]
    assert session.behind
    assert session.handle(Written("a", 1)) == []
    assert session.handle(Written("a", 2)) == [Send("a", 5, b"4"), Send("a", 6, b"5")]
    assert not session.behind


@pytest.mark.parametrize("report", [Written("a", 0), Written("a", 5), Written("b", 2)])
def test_a_report_that_cannot_be_is_ignored(report: Written) -> None:
    """A report of more than was handed over, or from another connection, makes no room."""
    session = outgoing(window=4)
    session.handle(Attach("a", None))
    for _ in range(6):
        session.handle(Push(b"x"))
    assert session.handle(report) == []
    assert session.behind
    assert session.handle(Written("a", 1)) == []


def test_who_stays_behind_is_cut() -> None:
    """An alarm that finds its client still behind ends the connection; the session stays."""
    session = outgoing(window=2)
    session.handle(Attach("a", None))
    for _ in range(3):
        session.handle(Push(b"x"))
    assert session.handle(Overdue(1)) == [Cut("a", "slow")]
    assert session.connection is None
    assert session.handle(Attach("b", after=2)) == [Welcome("b", True, 2), Send("b", 3, b"x")]


def test_an_alarm_of_yesterday_cuts_nobody() -> None:
    """Who has caught up meanwhile is left alone, also when it has fallen behind again since."""
    session = outgoing(window=2)
    session.handle(Attach("a", None))
    for _ in range(3):
        session.handle(Push(b"x"))
    session.handle(Written("a", 2))
    assert session.handle(Overdue(1)) == []
    assert [session.handle(Push(b"x")), session.handle(Push(b"x"))] == [
        [Send("a", 4, b"x")],
        [Alarm(5.0, 3)],
    ]
    assert session.handle(Overdue(1)) == []
    assert session.handle(Overdue(3)) == [Cut("a", "slow")]


def test_who_was_so_slow_that_frames_were_dropped_gets_the_present() -> None:
    """A client that catches up after its frames were no longer kept is refreshed, not sent a gap."""
    session = outgoing(keep=4, window=2)
    session.handle(Attach("a", None))
    for _ in range(9):
        session.handle(Push(b"x"))
    assert session.handle(Written("a", 2)) == [Refresh()]
    assert session.handle(Push(b"all")) == [Send("a", 10, b"all")]


def test_bytes_are_bounded_too() -> None:
    """No more than `keep_bytes` are kept, but always the newest frame."""
    session = outgoing(keep_bytes=10)
    session.handle(Attach("a", None))
    session.handle(Detach("a"))
    for frame in (b"12345", b"12345", b"12345"):
        session.handle(Push(frame))
    assert session.handle(Attach("b", after=1)) == [
        Welcome("b", True, 1),
        Send("b", 2, b"12345"),
        Send("b", 3, b"12345"),
    ]
    session.handle(Push(b"x" * 100))
    assert session.handle(Attach("c", after=3))[1:] == [
        Welcome("c", True, 3),
        Send("c", 4, b"x" * 100),
    ]


@pytest.mark.parametrize("wrong", [{"window": 1}, {"window": 9}, {"keep_bytes": 0}, {"patience": 0.0}])
def test_bounds_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    """A window of at least 2 that is kept whole, and patience, are wanted."""
    with pytest.raises(Misuse):
        outgoing(**wrong)


class Clients(RuleBasedStateMachine):
    """Invariant: what a client has read is every frame in order, or starts anew with an absolute.

    The model is a client that applies what it reads to a counter: an absolute sets it, a delta follows it.
    A frame is the value that the client must have after it: `=n` an absolute, `+n` a delta to n.
    """

    @initialize(keep=st.integers(3, 10), window=st.integers(2, 3), keep_bytes=st.integers(4, 40))
    def begin(self, keep: int, window: int, keep_bytes: int) -> None:
        self.session = Outgoing(keep=keep, keep_bytes=keep_bytes, window=window, patience=1.0)
        self.keep, self.keep_bytes, self.window = keep, keep_bytes, window
        self.value = 0
        self.connection = 0  # the newest one
        self.live = False
        self.wire: list[tuple[int, bytes]] = []  # handed over, not written
        self.written = 0
        self.alarms: list[int] = []
        self.last_read = 0
        self.client: int | None = None
        self.fresh = True  # whether the client must not count on what it knows

    def perform(self, effects: list[Effect]) -> None:
        # Whoever is told that they lack nothing is not sent an absolute in the same breath.
        resumed = any(isinstance(effect, Welcome) and effect.resumed for effect in effects)
        assert not (resumed and Refresh() in effects)
        for effect in effects:
            match effect:
                case Send(connection, sequence, frame):
                    assert (connection, self.live) == (self.connection, True)
                    self.wire.append((sequence, frame))
                case Welcome(connection, resumed, sequence):
                    assert connection == self.connection
                    if resumed:
                        assert sequence == self.last_read
                    else:
                        self.fresh, self.client = True, None
                        self.last_read = sequence
                case Refresh():
                    self.perform(self.session.handle(Push(b"=%d" % self.value)))
                case Cut(connection, "slow"):
                    assert connection == self.connection
                    self.live = False
                case Cut(connection, "displaced"):
                    assert connection != self.connection
                case Alarm(_, alarm):
                    self.alarms.append(alarm)

    @rule()
    def push(self) -> None:
        self.value += 1
        self.perform(self.session.handle(Push(b"+%d" % self.value)))

    @rule(resume=st.booleans())
    def connect(self, resume: bool) -> None:
        self.connection += 1
        self.live, self.wire, self.written = True, [], 0
        after = self.last_read if resume and self.client is not None else None
        self.perform(self.session.handle(Attach(self.connection, after)))

    @precondition(lambda self: self.live)
    @rule()
    def lose(self) -> None:
        self.live = False
        self.wire = []
        self.perform(self.session.handle(Detach(self.connection)))

    @precondition(lambda self: self.live and self.wire)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.wire)))
        for sequence, frame in self.wire[:count]:
            assert sequence > self.last_read
            if frame[:1] == b"=":
                self.client = int(frame[1:])
            else:
                assert sequence == self.last_read + 1
                assert self.client is not None
                assert int(frame[1:]) == self.client + 1
                self.client += 1
            self.last_read = sequence
        del self.wire[:count]
        self.written += count
        self.perform(self.session.handle(Written(self.connection, self.written)))

    @precondition(lambda self: self.alarms)
    @rule()
    def ring(self) -> None:
        self.perform(self.session.handle(Overdue(self.alarms.pop(0))))

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "session"):
            return
        assert len(self.wire) <= self.window
        assert len(self.session._frames) <= self.keep
        assert sum(map(len, self.session._frames)) == self.session._bytes
        assert self.session._bytes <= self.keep_bytes or len(self.session._frames) == 1

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A living client that has read all it was handed knows the present."""
        if hasattr(self, "session") and self.live and not self.wire:
            assert self.client == self.value


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=200, stateful_step_count=40)


def test_an_answer_is_repeated() -> None:
    """A command that is sent again gets the answer that it got; one without an answer is carried out."""
    answers = Answers(keep=2)
    assert answers.begin(1, "sit") == "new"
    assert answers.begin(1, "sit") == "new"
    answers.answered(1, "sit", b"ok")
    answers.answered(1, "sit", b"another")
    assert answers.begin(1, "sit") == b"ok"


def test_a_number_means_one_command() -> None:
    """A number that was another command's is told apart from a repetition."""
    answers = Answers(keep=2)
    answers.begin(5, "sit")
    assert answers.begin(5, "leave") == "other"
    answers.answered(5, "leave", b"wrong")
    assert answers.begin(5, "sit") == "new"


def test_old_numbers_are_told_as_old() -> None:
    """Numbers rise: one below the highest that is not kept, or was never used, is old."""
    answers = Answers(keep=2)
    assert [answers.begin(n, "x") for n in (3, 7, 9, 3, 5)] == ["new", "new", "new", "old", "old"]


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab"), st.booleans())))
def test_answers_agree_with_a_model(steps: list[tuple[int, str, bool]]) -> None:
    """The first answer to a number is its answer for as long as it is kept, and never another command's."""
    answers, told = Answers(keep=3), dict[int, tuple[str, bytes]]()
    for number, digest, answer in steps:
        verdict = answers.begin(number, digest)
        if isinstance(verdict, bytes):
            assert told[number] == (digest, verdict)
        if answer:
            text = b"%d%s" % (number, digest.encode())
            answers.answered(number, digest, text)
            if verdict == "new":
                told[number] = (digest, text)
    assert answers.highest == max((n for n, _, _ in steps), default=0)
