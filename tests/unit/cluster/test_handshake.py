"""Two handshakes that talk to each other: who becomes a link, and with which word everybody else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cluster import handshake, wire
from runtime.cluster.handshake import (
    HELLO_SECONDS,
    MOST_NODES,
    Acquaintances,
    Agreed,
    Effect,
    Handshake,
    Hello,
    Identity,
    Looked,
    Opened,
    Received,
    Refusal,
    Refused,
    Say,
)
from runtime.cluster.wire import Frame, Kind
from runtime.codec.cbor import encode

from .linking import identity

A, B = identity("a"), identity("b")


class Side:
    """One end of a connection, which keeps what it says and how it ended."""

    def __init__(self, machine: Handshake) -> None:
        self.machine = machine
        self.out = b""
        self.end: Agreed | Refusal | None = None

    def handle(self, event: handshake.Event, now: float = 0.0) -> None:
        for effect in self.machine.handle(event, now):
            assert self.end is None, "nothing comes after the end"
            match effect:
                case Say(data):
                    self.out += data
                case Agreed():
                    self.end = effect
                case Refused(refusal):
                    self.end = refusal

    def word(self) -> str:
        """How it ended."""
        return self.end.reason if isinstance(self.end, Refusal) else "agreed" if self.end is not None else ""


def side(known: Acquaintances, dialled: str | None = None, vouched: str | None = None, role: str = "node") -> Side:
    """One end, before anything has happened."""
    return Side(Handshake(known, dialled=dialled, vouched=vouched, now=0.0, role=role))  # type: ignore[arg-type]  # a test's own word


def talk(dialler: Side, listener: Side, piece: int = 1 << 20) -> tuple[str, str]:
    """Let both talk, in pieces of so many bytes, until nobody has anything to say; how it ended for each."""
    dialler.handle(Opened())
    listener.handle(Opened())
    while dialler.out or listener.out:
        for source, target in ((dialler, listener), (listener, dialler)):
            data, source.out = source.out[:piece], source.out[piece:]
            if data:
                target.handle(Received(data))
    dialler.machine.end()
    listener.machine.end()
    return dialler.word(), listener.word()


def meet(one: Acquaintances, other: Acquaintances, **options: str) -> tuple[str, str]:
    """`one` dials `other`, under its right name unless `dialled` says otherwise."""
    dialled = options.get("dialled", other.me.name)
    role = options.get("role", "node")
    return talk(side(one, dialled, options.get("sees"), role), side(other, None, options.get("seen")))


@given(st.integers(1, 200))
def test_two_nodes_agree_however_their_bytes_are_cut(piece: int) -> None:
    """Both end with the other's identity, the version of both, and no byte too many."""
    near, far = side(Acquaintances(A), "b"), side(Acquaintances(B))
    assert talk(near, far, piece) == ("agreed", "agreed")
    assert (near.end, far.end) == (Agreed(B, "node", 1, b""), Agreed(A, "node", 1, b""))


def test_what_comes_behind_the_welcome_belongs_to_the_link() -> None:
    """Bytes of the link that came in one piece with the handshake are handed on."""
    near, far = side(Acquaintances(A), "b"), side(Acquaintances(B))
    near.handle(Opened())
    far.handle(Opened())
    hello, near.out, said, far.out = near.out, b"", far.out, b""
    far.handle(Received(hello))
    near.handle(Received(said + far.out))
    far.handle(Received(near.out + b"more"))
    assert far.end == Agreed(A, "node", 1, b"more")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (identity("a", cluster="x"), B, ("cluster", "cluster")),
        (identity("b"), B, ("self", "self")),
        (identity("b", instance=7), B, ("two_of_a_name", "two_of_a_name")),
    ],
)
def test_who_does_not_belong_together_parts(one: Identity, other: Identity, words: tuple[str, str]) -> None:
    """Another cluster, the node itself, and another node of the same name are refused by both."""
    assert meet(Acquaintances(one), Acquaintances(other)) == words


def test_a_name_must_be_that_of_the_certificate() -> None:
    """A hello that says another name than the certificate is refused, and told so."""
    assert meet(Acquaintances(A), Acquaintances(B), seen="c") == ("name", "name")
    assert meet(Acquaintances(A), Acquaintances(B), sees="c") == ("name", "name")
    assert meet(Acquaintances(A), Acquaintances(B), seen="a", sees="b") == ("agreed", "agreed")


def test_a_node_must_be_the_one_that_was_dialled() -> None:
    """An address that leads to another node is no way to the one that was meant."""
    assert meet(Acquaintances(A), Acquaintances(B), dialled="c") == ("name", "name")


def test_only_names_on_the_list_are_linked_with() -> None:
    """Where there is a list of names, any other name is refused."""
    assert meet(Acquaintances(A), Acquaintances(B, ["c"])) == ("not_allowed", "not_allowed")
    assert meet(Acquaintances(A, ["b"]), Acquaintances(B, ["a"])) == ("agreed", "agreed")


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9), st.integers(0, 9))
def test_the_version_is_the_newest_of_both(oldest: int, more: int, ours: int, ours_more: int) -> None:
    """Nodes whose versions overlap agree on the newest in common; others part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "OLDEST", ours)
        patch.setattr(handshake, "NEWEST", ours + ours_more)
        far = side(Acquaintances(B))
        far.handle(Received(Hello(A, "node", oldest, oldest + more).to_bytes()))
        common = min(oldest + more, ours + ours_more)
        if common >= max(oldest, ours):
            assert far.out == wire.encode(Frame(Kind.WELCOME, number=common))
        else:
            assert far.word() == "version"


def test_later_versions_may_say_more() -> None:
    """A hello with more parts than this program knows is a hello."""
    longer = encode(("banyan", 1, 7, "c", "a", 1, 97, "node", "more", 8))
    assert Hello.read(longer) == Hello(A, "node", 1, 7)


# -- lives, and who is linked already ------------------------------------------------------------------


def linked(known: Acquaintances, who: Identity) -> Acquaintances:
    """With a link."""
    known.link(who)
    return known


def test_an_earlier_life_is_refused_for_ever() -> None:
    """Once a node's later life was linked with, an earlier one is refused, whether the link stands or not (D4)."""
    known = linked(Acquaintances(B), identity("a", 3))
    assert meet(Acquaintances(identity("a", 2, 5)), known) == ("older_creation", "older_creation")
    known.unlink(identity("a", 3))
    assert meet(Acquaintances(identity("a", 2, 5)), known) == ("older_creation", "older_creation")
    assert meet(Acquaintances(identity("a", 4, 5)), known) == ("agreed", "agreed")


def test_a_later_life_takes_the_place_of_an_earlier_link() -> None:
    """A node that was restarted is linked with, though its old link has not been found dead yet."""
    known = linked(Acquaintances(B), identity("a", 3))
    assert meet(Acquaintances(identity("a", 4, 5)), known) == ("agreed", "agreed")


def test_two_nodes_in_one_life_are_told_apart() -> None:
    """Two programs with one name and the same creation: the one that came first stays (D4)."""
    known = linked(Acquaintances(B), identity("a", 3, 1))
    assert meet(Acquaintances(identity("a", 3, 2)), known) == ("two_of_a_name", "two_of_a_name")


def test_a_node_that_dials_again_has_given_its_link_up() -> None:
    """The same life says hello while its link still stands here: it is agreed with, and replaces it."""
    assert meet(Acquaintances(A), linked(Acquaintances(B), A)) == ("agreed", "agreed")


def test_whoever_was_dialled_meanwhile_is_not_linked_twice() -> None:
    """A dialler whose node has come by another connection leaves this one."""
    assert meet(linked(Acquaintances(A), B), Acquaintances(B)) == ("connected", "connected")


def test_two_that_dial_at_once_keep_one_connection() -> None:
    """The listener with the greater name refuses, the one with the lesser agrees: both know which is left."""
    one, other = Acquaintances(A), Acquaintances(B)
    one.dial("b")
    other.dial("a")
    assert meet(one, other) == ("simultaneous", "simultaneous")
    assert meet(other, one) == ("agreed", "agreed")
    other.dialled("a")
    assert meet(one, other) == ("agreed", "agreed")


class Crossing:
    """Two nodes that dial each other, and what is under way between them, which arrives when the test says so."""

    def __init__(self) -> None:
        self.known = {"a": Acquaintances(A), "b": Acquaintances(B)}
        # By the dialler: its own side of the connection, and the other one's.
        self.sides: dict[str, dict[str, Side]] = {}
        self.under_way: dict[tuple[str, str], list[bytes]] = {}
        self.ups: dict[str, list[str]] = {"a": [], "b": []}

    def steps(self) -> list[tuple[str, ...]]:
        """What can happen next: a node dials, or what comes next to a side of a connection arrives."""
        dials = [
            ("dial", name)
            for name, known in self.known.items()
            if name not in self.sides and not known.linked and not known.promised("ab".replace(name, ""))
        ]
        return dials + [("arrive", *key) for key, queue in sorted(self.under_way.items()) if queue]

    def take(self, step: tuple[str, ...]) -> None:
        if step[0] == "dial":
            dialler, listener = step[1], "ab".replace(step[1], "")
            self.known[dialler].dial(listener)
            self.sides[dialler] = {
                dialler: side(self.known[dialler], listener),
                listener: side(self.known[listener]),
            }
            for name in (dialler, listener):
                self.handle(dialler, name, Opened())
        else:
            _, dialler, name = step
            self.handle(dialler, name, Received(self.under_way[dialler, name].pop(0)))

    def handle(self, dialler: str, name: str, event: handshake.Event) -> None:
        one, other = self.sides[dialler][name], "ab".replace(name, "")
        before = one.end
        one.handle(event)
        if one.out:
            self.under_way.setdefault((dialler, other), []).append(one.out)
            one.out = b""
        if one.end is before:
            return
        one.machine.end()
        if dialler == name:
            self.known[name].dialled(other)
        if isinstance(one.end, Agreed):
            self.known[name].link(one.end.who)
            self.ups[name].append(dialler)
        else:
            self.under_way.setdefault((dialler, other), []).append(b"")


@given(st.lists(st.integers(0, 9), max_size=60))
def test_whatever_crosses_one_connection_is_left(choices: list[int]) -> None:
    """Both dial when they please, bytes arrive when they do: each has one link, over the same connection (D1)."""
    crossing = Crossing()
    while steps := crossing.steps():
        crossing.take(steps[choices.pop() % len(steps) if choices else 0])
    (kept,) = crossing.ups["a"]
    assert crossing.ups["b"] == [kept]
    assert not crossing.known["a"].promised("b")
    assert not crossing.known["b"].promised("a")


def test_a_heartbeat_needs_its_link() -> None:
    """A heartbeat's connection is agreed on beside a link of the same life, and refused without one."""
    assert meet(Acquaintances(A), Acquaintances(B), role="heart") == ("no_link", "no_link")
    one, other = linked(Acquaintances(A), B), linked(Acquaintances(B), A)
    assert meet(one, other, role="heart") == ("agreed", "agreed")
    later = linked(Acquaintances(identity("a", 2, 9)), B)
    assert meet(later, other, role="heart") == ("no_link", "no_link")


def test_what_changes_between_hello_and_welcome_counts() -> None:
    """A link that came about meanwhile is seen when the welcome comes, not only at the hello."""
    known = Acquaintances(A)
    near = side(known, "b")
    near.handle(Received(Hello(B).to_bytes()))
    known.link(B)
    near.handle(Received(wire.encode(Frame(Kind.WELCOME, number=1))))
    assert near.word() == "connected"


def test_only_so_many_nodes_are_remembered() -> None:
    """One more name than are kept is refused, and a known one is not."""
    known = Acquaintances(B)
    for number in range(MOST_NODES):
        known.link(identity(f"n{number}"))
    assert meet(Acquaintances(A), known) == ("too_many", "too_many")
    assert meet(Acquaintances(identity("n7")), known) == ("agreed", "agreed")


# -- what is no handshake ------------------------------------------------------------------------------

HELLO = Hello(A).to_bytes()
WELCOME = wire.encode(Frame(Kind.WELCOME, number=1))
NONSENSE = {
    "plain text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20),
    "a length over the cap": wire.encode(Frame(Kind.HELLO, payload=bytes(4097)))[:21],
    "a frame of a link": wire.encode(Frame(Kind.SEND, 1, 1, b"x")),
    "a kind that nobody knows": wire.encode(Frame(255)),
    "a welcome before a hello": WELCOME,
    "two hellos": HELLO + HELLO,
    "a welcome with more in it": HELLO + wire.encode(Frame(Kind.WELCOME, number=1, payload=b"x")),
    "no value": wire.encode(Frame(Kind.HELLO, payload=b"\xff")),
    "another value": wire.encode(Frame(Kind.HELLO, payload=encode("hello"))),
    "too few parts": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", 1, 1, "c", "a")))),
    "a bool for a number": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", True, 1, "c", "a", 1, 97, "node")))),
    "no name": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", 1, 1, "c", "", 1, 97, "node")))),
    "a long name": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", 1, 1, "c", "a" * 256, 1, 97, "node")))),
    "a client's role": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", 1, 1, "c", "a", 1, 97, "client")))),
    "a falling creation": wire.encode(Frame(Kind.HELLO, payload=encode(("banyan", 1, 1, "c", "a", -1, 97, "node")))),
    "versions the wrong way round": wire.encode(
        Frame(Kind.HELLO, payload=encode(("banyan", 2, 1, "c", "a", 1, 97, "node")))
    ),
    "a tag of CBOR's own": wire.encode(Frame(Kind.HELLO, payload=b"\xc2\x41\x01")),
    "deep nesting": wire.encode(Frame(Kind.HELLO, payload=b"\x81" * 4000 + b"\x00")),
    "a refusal of another form": wire.encode(Frame(Kind.REFUSED, payload=encode(("because",)))),
    "a refusal without a known word": wire.encode(Frame(Kind.REFUSED, payload=encode(("because", "I say so")))),
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_without_an_answer(data: bytes) -> None:
    """What is no handshake ends the connection; nothing is said to whoever sent it."""
    far = side(Acquaintances(B))
    far.handle(Received(data))
    assert far.word() == "malformed"
    assert far.out in (b"", WELCOME), "a welcome answers the one hello that was right"


@given(st.binary(max_size=5000), st.integers(1, 5000))
def test_any_bytes_end_or_wait(data: bytes, piece: int) -> None:
    """No bytes do anything but end the handshake or make it wait, and never more are kept than a frame may have."""
    far = side(Acquaintances(B))
    for start in range(0, len(data), piece):
        far.handle(Received(data[start : start + piece]))
        assert far.machine._decoder.unfinished <= wire.HELLO_CAP + wire.HEADER_SIZE
    assert far.word() in ("", "malformed")


@given(st.binary(max_size=200))
def test_any_payload_of_a_hello_is_refused(payload: bytes) -> None:
    """A hello whose payload is any bytes is malformed."""
    far = side(Acquaintances(B))
    far.handle(Received(wire.encode(Frame(Kind.HELLO, payload=payload))))
    assert (far.word(), far.out) == ("malformed", b"")


def test_an_endless_hello_is_too_slow() -> None:
    """However slowly bytes come: when the time is up the connection is ended, at the next byte or look."""
    for event in (Received(b"\x00"), Looked()):
        far = side(Acquaintances(B))
        far.handle(Received(HELLO[:9]), HELLO_SECONDS - 0.1)
        assert far.word() == ""
        far.handle(event, HELLO_SECONDS)
        assert (far.word(), far.out) == ("too_slow", b"")


def test_whoever_leaves_has_left() -> None:
    """An end before both have agreed is a refusal too."""
    far = side(Acquaintances(B))
    far.handle(Received(b""))
    assert far.word() == "left"


def test_a_wrong_agreement_is_refused() -> None:
    """A welcome with another version than both speak is none."""
    far = side(Acquaintances(B))
    far.handle(Received(HELLO + wire.encode(Frame(Kind.WELCOME, number=2))))
    assert far.word() == "version"


def test_nothing_happens_after_the_end() -> None:
    """A handshake that is over does nothing more."""
    far = side(Acquaintances(B))
    far.handle(Received(b"x" * 21))
    events: list[handshake.Event] = [Opened(), Received(HELLO), Looked()]
    nothing: list[list[Effect]] = [[], [], []]
    assert [far.machine.handle(event, 99.0) for event in events] == nothing


def test_a_refusal_is_told_with_its_sentence() -> None:
    """The other side learns the word and the sentence, and that it was not its own judgement."""
    near, far = side(Acquaintances(A), "b"), side(Acquaintances(B, ["c"]))
    talk(near, far)
    assert isinstance(near.end, Refusal)
    assert isinstance(far.end, Refusal)
    assert (near.end.told, far.end.told, near.end.text, near.end.node) == (True, False, far.end.text, "b")


def test_another_nodes_sentence_is_one_line_of_a_log() -> None:
    """What a node says when it refuses is cut, and its control characters are taken out."""
    near = side(Acquaintances(A), "b")
    said = encode(("cluster", "wanted\nanother\x1b[2J" + "x" * 1000))
    near.handle(Received(wire.encode(Frame(Kind.REFUSED, payload=said))))
    assert isinstance(near.end, Refusal)
    assert near.end.text == "wanted?another?[2J" + "x" * (handshake.MOST_TEXT - 18)
