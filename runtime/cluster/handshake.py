"""The handshake: what two nodes tell each other before the first message, and why one turns the other away. Pure.

Both say HELLO at once: the versions that they speak, who they are, and what the connection is for. Each judges the
other's; who does not agree says REFUSED with a word and a sentence, and closes. The listener says WELCOME first,
with the version that both speak: a promise. The dialler decides: it says WELCOME too, or leaves.

    dialler                                   listener
       HELLO ------------------------------------>
       <------------------------------------ HELLO
       <---------------------------------- WELCOME      promised
       WELCOME ---------------------------------->      a link, on both sides

Until then a connection is a `Handshake`, which knows three kinds of frame of at most HELLO_CAP bytes, and no
handler: there is no way from it to a process. Who it is has been vouched for by its certificate (`tls`), and the
hello must say the same name.

When two nodes dial each other at once, one connection is left, and both know which: the node with the greater name
refuses the other's while it dials itself; nobody begins to dial whom it has promised a link, nor decides for its own
connection then. So a node that comes while its link still stands here has really given that link up, and the new
one takes its place.

Source: Erlang's `dist_util` (send_status: ok_simultaneous, nok, alive); CVE-2025-32433 for what must have no route.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal, final, get_args

from ..codec.cbor import decode, encode
from ..errors import BanyanError
from . import wire
from .wire import Decoder, Frame, Kind, WireError

# The versions of the protocol behind the handshake that this program speaks: the oldest and the newest.
OLDEST, NEWEST = 1, 1
# Seconds from the first byte of a connection, TLS included, until both have agreed.
HELLO_SECONDS: Final = 10.0
# Bytes that a name or a cluster's id may have.
MOST_NAME: Final = 255
# The largest creation or instance.
MOST_NUMBER: Final = (1 << 64) - 1
# Other nodes that are remembered with their creation.
MOST_NODES: Final = 1024
# Characters of another node's sentence that are passed on.
MOST_TEXT: Final = 500

Role = Literal["node", "heart"]
# Of a hello's first parts; a bool is no int here.
_TYPES: Final = (str, int, int, str, str, int, int, str)

# Why a connection is refused, in a word.
Reason = Literal[
    "tls",  # no certificate, one of another authority, or no TLS at all
    "role",  # a certificate that is no node's
    "not_allowed",  # a name that is not on the list
    "name",  # not the node that was dialled, or not the name of its certificate
    "cluster",  # of another cluster
    "version",  # no version of the protocol in common
    "self",  # a node that has dialled itself
    "two_of_a_name",  # two nodes with one name
    "older_creation",  # an earlier life of a node, of which a later one is known
    "connected",  # there is a link already
    "simultaneous",  # both dialled: the other connection is the one that stays
    "no_link",  # a heartbeat for a link that is not there
    "too_many",  # more nodes, or connections without a name, than are kept
    "malformed",  # no frame of a handshake
    "too_slow",  # not done in time
    "address",  # an address that cannot be dialled like this: no keys
    "left",  # ended, or broken, before it was done
]
REASONS: Final = frozenset(get_args(Reason))


class Refusal(BanyanError):
    """A connection that did not become a link; only this connection ends.

    Attributes:
        reason: a word for programs, one of `Reason`.
        text: what was wanted, what came, and what to do, for people.
        node: who it was, as far as it is known; "" for nobody.
        told: whether the other side refused, and said this.
    """

    def __init__(self, reason: Reason, text: str, *, node: str = "", told: bool = False) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.text = text
        self.node = node
        self.told = told

    def to_bytes(self) -> bytes:
        """As a whole frame, for the other side."""
        text = self.text.encode("utf-8", "replace")[:MOST_TEXT].decode("utf-8", "ignore")
        return wire.encode(Frame(Kind.REFUSED, payload=encode((self.reason, text))))


@final
@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is.

    Attributes:
        cluster: the id of the cluster; two nodes speak only if it is the same.
        name: what it is called, and its certificate names.
        creation: which of its lives this is; a later one has a larger number.
        instance: a number drawn when this life began, so that two nodes with one name are told apart.
    """

    cluster: str
    name: str
    creation: int
    instance: int


@final
@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says first: who it is, the versions it speaks, and what the connection is for."""

    who: Identity
    role: Role = "node"
    oldest: int = OLDEST
    newest: int = NEWEST

    def to_bytes(self) -> bytes:
        """As a whole frame. The first eight parts mean the same in every version; later ones may add more."""
        who = self.who
        parts = ("banyan", self.oldest, self.newest, who.cluster, who.name, who.creation, who.instance, self.role)
        return wire.encode(Frame(Kind.HELLO, payload=encode(parts)))

    @classmethod
    def read(cls, payload: bytes) -> Hello:
        """The hello of a frame's payload; Refusal `malformed` if it is none."""
        parts = _tuple(payload)[:8]
        match parts:
            case ("banyan", int(oldest), int(newest), str(cluster), str(name), int(creation), int(instance), role):
                named = 0 < len(name) <= MOST_NAME >= len(cluster)
                counted = 1 <= oldest <= newest and 0 <= creation <= MOST_NUMBER and 0 <= instance <= MOST_NUMBER
                if tuple(map(type, parts)) == _TYPES and named and counted and (role == "node" or role == "heart"):
                    return cls(Identity(cluster, name, creation, instance), role, oldest, newest)
        raise Refusal("malformed", "wanted a hello, got another value: is the other side a node of Banyan?")


# -- who is known --------------------------------------------------------------------------------------


@final
class Acquaintances:
    """What one node knows of the others: whom it dials, whom it is linked with, and their latest lives.

    Args:
        me: who this node is.
        allowed: the names that may be linked with; None: all that a certificate vouches for.
    """

    def __init__(self, me: Identity, allowed: Collection[str] | None = None) -> None:
        self.me = me
        self.allowed = frozenset(allowed) if allowed is not None else None
        self.linked: dict[str, Identity] = {}
        self._dialling: dict[str, None] = {}
        # How many connections of theirs wait for their word.
        self._promised: Counter[str] = Counter()
        # Invariant: no creation in it ever falls.
        self._latest: dict[str, Identity] = {}

    def dial(self, name: str) -> None:
        """This node begins to dial that one."""
        self._dialling[name] = None

    def dialled(self, name: str) -> None:
        """It has ended, whether it became a link or not."""
        self._dialling.pop(name, None)

    def promise(self, name: str, count: int = 1) -> None:
        """A listener has promised a link to that node; -1: the handshake has ended."""
        self._promised[name] += count
        if not self._promised[name]:
            del self._promised[name]

    def promised(self, name: str) -> bool:
        """Whether that node may come any moment over a connection of its own."""
        return name in self._promised

    def link(self, who: Identity) -> None:
        """A link is up; it takes the place of any other one with that node."""
        self.linked[who.name] = self._latest[who.name] = who

    def unlink(self, who: Identity) -> None:
        """That link is down."""
        if self.linked.get(who.name) == who:
            del self.linked[who.name]

    def check(self, hello: Hello, *, dialled: str | None, vouched: str | None) -> None:
        """Raise the Refusal of a hello that cannot become a link now.

        Args:
            dialled: whom this node wanted to reach; None: the other one has connected.
            vouched: the name in the certificate; None: there is no TLS.
        """
        for refusal in (
            self._misnamed(hello, dialled, vouched),
            self._foreign(hello),
            self._another(hello.who),
            self._unwanted(hello, dialled),
        ):
            if refusal is not None:
                reason, text = refusal
                raise Refusal(reason, text, node=vouched or hello.who.name)

    def _misnamed(self, hello: Hello, dialled: str | None, vouched: str | None) -> tuple[Reason, str] | None:
        name = hello.who.name
        if vouched is not None and name != vouched:
            advice = "start it under that name, or make it keys of its own"
            return "name", f"wanted a hello of {vouched!r}, as the certificate says, got one of {name!r}: {advice}"
        if self.allowed is not None and name not in self.allowed:
            return "not_allowed", f"wanted a node that is allowed here, got {name!r}: add its name to the list"
        if dialled is not None and name != dialled and name != self.me.name:
            return "name", f"wanted to reach {dialled!r}, got {name!r}: correct the address of {dialled!r}"
        return None

    def _foreign(self, hello: Hello) -> tuple[Reason, str] | None:
        if hello.who.cluster != self.me.cluster:
            theirs, ours = hello.who.cluster, self.me.cluster
            return "cluster", f"wanted a node of cluster {ours!r}, got one of {theirs!r}: join it to this one first"
        if _common(hello) is None:
            spoken = f"{hello.oldest} to {hello.newest}"
            advice = "bring the older node up to date"
            return "version", f"wanted a protocol version from {OLDEST} to {NEWEST}, got {spoken}: {advice}"
        return None

    def _another(self, who: Identity) -> tuple[Reason, str] | None:
        """Whether it is another node than the one known by that name, or an earlier life of it."""
        if who.name == self.me.name:
            if who.instance == self.me.instance:
                return "self", f"node {who.name!r} has dialled itself: correct the addresses of its peers"
            return "two_of_a_name", f"this node is called {who.name!r} too: give one of the two another name"
        latest = self._latest.get(who.name)
        if latest is None:
            full = len(self._latest) >= MOST_NODES
            return ("too_many", f"{MOST_NODES} nodes are known, which is the most") if full else None
        if who.creation < latest.creation:
            text = f"wanted life {latest.creation} of node {who.name!r} or a later one, got {who.creation}"
            return (
                "older_creation",
                f"{text}: stop it; or is it another node of that name, or with an old copy of data?",
            )
        if who.creation == latest.creation and who.instance != latest.instance:
            advice = "give one of the two another name and data directory"
            return "two_of_a_name", f"another node is called {who.name!r} and is in the same life: {advice}"
        return None

    def _unwanted(self, hello: Hello, dialled: str | None) -> tuple[Reason, str] | None:
        name = hello.who.name
        if hello.role == "heart":
            if self.linked.get(name) != hello.who:
                return "no_link", f"wanted a link with {name!r} before its heartbeat: connect again"
        elif dialled is not None:
            if self.linked.get(name) == hello.who:
                return "connected", f"a link with {name!r} is up already: it is the one that stays"
            if name in self._promised:
                return "simultaneous", f"{name!r} was promised a link over the connection that it has dialled itself"
        elif name in self._dialling and self.me.name > name:
            return (
                "simultaneous",
                f"{self.me.name!r} is dialling {name!r} too, and its connection is the one that stays",
            )
        return None


def _common(hello: Hello) -> int | None:
    """The newest version that both speak."""
    version = min(hello.newest, NEWEST)
    return version if version >= max(hello.oldest, OLDEST) else None


# -- the machine ---------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is there, and TLS with it."""


@final
@dataclass(frozen=True, slots=True)
class Received:
    """Bytes have come; none at all are its end."""

    data: bytes


@final
@dataclass(frozen=True, slots=True)
class Looked:
    """Somebody has looked at the clock."""


Event = Opened | Received | Looked


@final
@dataclass(frozen=True, slots=True)
class Say:
    """Write these bytes."""

    data: bytes


@final
@dataclass(frozen=True, slots=True)
class Agreed:
    """It is a link now, with that node and in that version; `rest` are bytes of it that have come already."""

    who: Identity
    role: Role
    version: int
    rest: bytes


@final
@dataclass(frozen=True, slots=True)
class Refused:
    """Close it, and tell of the refusal."""

    refusal: Refusal


Effect = Say | Agreed | Refused


@final
class Handshake:
    """One connection, from its first byte until it is a link or refused.

    Args:
        known: the node's acquaintances; told of promises, until `end`.
        role: what the connection is for, for whoever dials; a listener takes the other's.
        dialled, vouched: see `Acquaintances.check`.
        now: when the connection came about; HELLO_SECONDS later it is too late.
    """

    __slots__ = ("_decoder", "_dialled", "_hello", "_known", "_over", "_promised", "_role", "_vouched", "deadline")

    def __init__(
        self, known: Acquaintances, *, dialled: str | None, vouched: str | None, now: float, role: Role = "node"
    ) -> None:
        self.deadline = now + HELLO_SECONDS
        self._known = known
        self._role: Role = role
        self._dialled = dialled
        self._vouched = vouched
        self._decoder = Decoder(wire.HELLO_CAP, wire.BEFORE_AUTHENTICATION)
        # Invariant: set means that the other's hello was accepted and, by a listener, that WELCOME was said.
        self._hello: Hello | None = None
        self._promised = ""
        self._over = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What is to be done about an event, in order; nothing at all after the end."""
        if self._over:
            return []
        effects: list[Effect] = []
        try:
            match event:
                case Opened():
                    effects.append(Say(Hello(self._known.me, self._role).to_bytes()))
                case Received(data):
                    if now >= self.deadline:
                        raise late(self._vouched)
                    self._read(data, effects)
                case Looked():
                    if now >= self.deadline:
                        raise late(self._vouched)
        except Refusal as refusal:
            self._over = True
            if not refusal.told and refusal.reason not in ("malformed", "too_slow", "left"):
                effects.append(Say(refusal.to_bytes()))
            effects.append(Refused(refusal))
        return effects

    def end(self) -> None:
        """The connection is a link, or of no more use: nothing is promised any more. To be called in any case."""
        self._over = True
        if self._promised:
            self._known.promise(self._promised, -1)
            self._promised = ""

    def _read(self, data: bytes, effects: list[Effect]) -> None:
        node = self._vouched or ""
        if not data:
            raise Refusal("left", "the other side ended the connection before it had agreed", node=node)
        while not self._over:
            try:
                frame, data = self._decoder.take(data)
            except WireError as error:
                raise Refusal("malformed", str(error), node=node) from error
            if frame is None:
                return
            self._take(frame, data, effects)

    def _take(self, frame: Frame, rest: bytes, effects: list[Effect]) -> None:
        if frame.kind == Kind.REFUSED:
            raise _told(frame.payload, self._vouched or self._dialled or "")
        if frame.kind == Kind.HELLO and self._hello is None:
            hello = Hello.read(frame.payload)
            if self._dialled is not None:
                hello = replace(hello, role=self._role)  # a listener cannot know it when it speaks
            self._known.check(hello, dialled=self._dialled, vouched=self._vouched)
            self._hello = hello
            if self._dialled is None:
                effects.append(_welcome(hello))
                if hello.role == "node":
                    self._promised = hello.who.name
                    self._known.promise(self._promised)
        elif frame.kind == Kind.WELCOME and self._hello is not None and not frame.payload:
            hello, version = self._hello, _common(self._hello)
            if frame.number != version:
                raise Refusal("version", f"wanted an agreement on version {version}, got {frame.number}")
            # Much may have changed since the hello: a link that came about meanwhile, a promise.
            self._known.check(hello, dialled=self._dialled, vouched=self._vouched)
            if self._dialled is not None:
                effects.append(_welcome(hello))
            self._over = True
            effects.append(Agreed(hello.who, hello.role, version, rest))
        else:
            raise Refusal(
                "malformed", f"wanted a hello and then a welcome, got frame kind {frame.kind} too soon or twice"
            )


def _welcome(hello: Hello) -> Say:
    return Say(wire.encode(Frame(Kind.WELCOME, number=_common(hello) or 0)))


def late(node: str | None) -> Refusal:
    """The refusal of a connection on which nothing was agreed in time."""
    return Refusal("too_slow", f"no agreement within {HELLO_SECONDS:g} seconds: is it a node?", node=node or "")


def _told(payload: bytes, node: str) -> Refusal:
    match _tuple(payload)[:2]:
        case (str(reason), str(text)) if reason in REASONS:
            shown = "".join(
                letter if letter.isprintable() else "?" for letter in text[:MOST_TEXT]
            )  # it goes into a log
            return Refusal(reason, shown, node=node, told=True)  # type: ignore[arg-type]  # it is one of them
    return Refusal("malformed", "wanted a word and a sentence, got a refusal of another form", node=node)


def _tuple(payload: bytes) -> tuple[object, ...]:
    try:
        value = decode(payload, checked=True)
    except BanyanError as error:
        raise Refusal("malformed", f"wanted a frame of a handshake: {error}") from error
    return value if type(value) is tuple else ()
