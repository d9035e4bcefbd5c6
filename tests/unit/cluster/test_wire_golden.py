"""Frames as version 1 of the wire once wrote them are read for ever, and written the same while it is spoken."""

from __future__ import annotations

import json

import pytest

from runtime.cluster import wire
from runtime.cluster.handshake import (
    Acquaintances,
    Agreed,
    Handshake,
    Hello,
    Identity,
    Opened,
    Received,
    Refusal,
    Refused,
    Say,
)
from runtime.cluster.health import Beat, Beats
from runtime.cluster.wire import Decoder, Frame, Kind
from tests.support.source import ROOT

GOLDEN = json.loads((ROOT / "tests/golden/wire_v1.json").read_text())
ANN, BOB = Identity("cluster-1", "ann", 3, 7), Identity("cluster-1", "bob", 1, 1 << 63)


def frames() -> dict[str, bytes]:
    """The frames of the file, as the present program makes them."""
    made = {
        "hello": Hello(ANN).to_bytes(),
        "hello of a heart": Hello(BOB, "heart").to_bytes(),
        "welcome": wire.encode(Frame(Kind.WELCOME, number=1)),
        "beat": Beats().beat(0.25),
        "credit": wire.encode(Frame(Kind.CREDIT, number=1 << 40)),
        "close": wire.encode(Frame(Kind.CLOSE, payload=b"stopping: the node is stopping")),
    }
    for kind in Kind:
        if kind >= Kind.SEND:
            made[kind.name.lower()] = wire.encode(Frame(kind, 0x0102030405060708, 9, b"\x82\x01\x02"))
    return made


def test_the_present_program_writes_the_newest_file() -> None:
    """A change of what is written needs a new version, beside the old one."""
    assert {name: data.hex() for name, data in frames().items()} == GOLDEN["frames"]


@pytest.mark.parametrize("name", GOLDEN["frames"])
def test_an_old_frame_is_read(name: str) -> None:
    """Each frame of the file is one frame, and written again it is the same."""
    data = bytes.fromhex(GOLDEN["frames"][name])
    (frame,) = Decoder().feed(data)
    assert wire.encode(frame) == data
    assert Kind(frame.kind).name.lower() == name.partition(" ")[0]


def test_an_old_hello_is_agreed_with() -> None:
    """A node that speaks version 1 is linked with, and its refusal is understood."""
    machine = Handshake(Acquaintances(BOB), dialled=None, vouched="ann", now=0.0)
    machine.handle(Opened(), 0.0)
    said = bytes.fromhex(GOLDEN["frames"]["hello"] + GOLDEN["frames"]["welcome"])
    welcome = Say(bytes.fromhex(GOLDEN["frames"]["welcome"]))
    assert machine.handle(Received(said), 0.0) == [welcome, Agreed(ANN, "node", 1, b"")]
    other = Handshake(Acquaintances(BOB), dialled="ann", vouched="ann", now=0.0)
    (effect,) = other.handle(Received(bytes.fromhex(GOLDEN["refused"])), 0.0)
    assert isinstance(effect, Refused)
    assert isinstance(effect.refusal, Refusal)
    assert (effect.refusal.reason, effect.refusal.text) == ("cluster", "wanted a node of cluster 'x'")


def test_an_old_beat_is_heard() -> None:
    """A beat of version 1 carries its age."""
    assert Beats().feed(bytes.fromhex(GOLDEN["frames"]["beat"])) == [Beat(0.25)]
