"""docs/gateway.md says what the gateway does: its frames are those of the code, and so are words and bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from game import gateway
from game.action import Reason
from game.aside import Damaged
from game.gateway import GatewaySettings
from game.player import gone
from game.protocol import AnyFirst, AnyLater, TakeTurn, first, later
from runtime.edge import connection, frames
from runtime.edge.client import Keeping
from runtime.edge.deltas import apply
from runtime.edge.websocket import Bounds
from tests.support.source import ROOT
from tests.unit.game.players import house

PAGE = (ROOT / "docs/gateway.md").read_text()
BLOCKS = re.findall(r"^```json\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
FRAMES: list[dict[str, Any]] = [json.loads(block) for block in BLOCKS]


def tag(kind: Any) -> str:
    found = msgspec.structs.fields(kind) and kind.__struct_config__.tag
    assert isinstance(found, str)
    return found


def frame_of(kind: str) -> dict[str, Any]:
    return next(frame for frame in FRAMES if frame.get("type") == kind)


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_shows_every_frame_of_a_client() -> None:
    """Each op of the protocol has its example on the page, and each example is a frame that is read."""
    shown = [frame for frame in FRAMES if "op" in frame]
    ops = {tag(kind): first for kind in get_args(AnyFirst)} | {tag(kind): later for kind in get_args(AnyLater)}
    assert sorted(frame["op"] for frame in shown) == sorted(ops)
    for frame in shown:
        read = ops[frame["op"]].decode(json.dumps(frame))
        # Every field that a frame may have stands in its example.
        assert set(frame) - {"op"} == set(read.__struct_fields__)
        if isinstance(read, TakeTurn):
            read.chosen()


def test_the_page_shows_every_frame_of_the_gateway() -> None:
    """Each type that is sent has its example, with the fields that it really has."""
    refusal, cause = frames.Refusal("a", "b", id=6), frames.SLOW
    sent = [
        json.loads(frames.welcome(False, 0, {"player": "", "session": "", "resume": ""})),
        json.loads(frames.reply(1, None)),
        json.loads(frames.refused(refusal)),
        json.loads(frames.bye(cause)),
        json.loads(frames.numbered(1, {"type": "absolute", "table": "", "view": {}})),
        json.loads(frames.numbered(1, {"type": "delta", "table": "", "changes": []})),
        json.loads(frames.numbered(1, gone("", Damaged("")))),
    ]
    assert {frame["type"] for frame in FRAMES if "op" not in frame} == {frame["type"] for frame in sent}
    for frame in sent:
        assert set(frame_of(frame["type"])) == set(frame)
    assert frame_of("bye") == json.loads(frames.bye(frames.SLOW))
    drained = next(frame for frame in FRAMES if frame.get("reason") == "draining")
    assert drained == json.loads(frames.bye(frames.draining(drained["gateway"], drained["resume"])))


def test_the_delta_of_the_page_fits_its_absolute() -> None:
    """The example of a delta can be applied to the example before it, and shows what the page says."""
    before, delta = frame_of("absolute"), frame_of("delta")
    after = apply(delta["changes"], before["view"])
    assert (delta["seq"], after["sequence"], after["actor"]) == (before["seq"] + 1, 3, "ann")
    assert [seat["hole"] for seat in after["seats"]] == ["2sQs", ""]


async def test_the_answers_of_the_page_are_those_of_a_gateway() -> None:
    """A real gateway's welcome, lobby, seat and absolute have exactly the fields that the page shows."""
    answers = {frame["id"]: frame["ok"] for frame in FRAMES if frame.get("type") == "reply"}
    async with house() as room, room.player("ann") as ann:
        assert set(ann.welcome) == set(frame_of("welcome"))
        lobby, shown = await ann.done("lobby"), answers[1]
        assert (set(lobby), set(lobby["tables"][0])) == (set(shown), set(shown["tables"][0]))
        assert await ann.done("sit", table="oak", amount=5_000) == answers[5]
        view = await ann.until(lambda one: bool(one["seats"]))
        expected = frame_of("absolute")["view"]
        assert (set(view), set(view["seats"][0])) == (set(expected), set(expected["seats"][0]))
    named = {name for row in rows("What is pushed") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(view)


def test_the_page_lists_every_cut() -> None:
    """Each reason for which a connection is ended stands there with its close code."""
    causes = [one for one in vars(frames).values() if isinstance(one, frames.Cause)]
    assert {row[0].strip("`"): int(row[1]) for row in rows("Cut")} == {one.reason: one.code for one in causes}


def test_the_page_lists_every_refusal() -> None:
    """Each word with which a frame may be refused stands there, and no other."""
    modules = ("runtime/edge/frames.py", "runtime/edge/connection.py", "game/gateway.py", "game/protocol.py")
    code = "".join((ROOT / path).read_text() for path in modules)
    words = {*re.findall(r'Refusal\(\s*"(\w+)"', code), *re.findall(r'reason, wanted = "(\w+)"', code)}
    words |= {*gateway._WORDS.values(), *(word for _, word in gateway._REFUSALS), *get_args(Reason)}
    assert {row[0].split("`")[1] for row in rows("Refused")} == words
    assert connection.Refusal is frames.Refusal


BOUNDS, KEEPING, SETTINGS = Bounds(), Keeping(), GatewaySettings()


@pytest.mark.parametrize(
    "said",
    [
        f"It must be accepted within {BOUNDS.login_seconds:g} seconds.",
        f"nothing was accepted within {BOUNDS.login_seconds:g} seconds",
        f"an opening handshake has {BOUNDS.open_seconds:g} seconds",
        f"a frame above {BOUNDS.max_frame // 1024} KiB (1009)",
        f"no pong within {BOUNDS.pong_seconds:g} seconds of a ping, which comes every {BOUNDS.ping_seconds:g} seconds",
        f"took {BOUNDS.pong_seconds:g} seconds; or {BOUNDS.queue} frames waited",
        f"does not read the bye within {BOUNDS.close_seconds:g} seconds",
        f"more than {BOUNDS.rate:g} frames a second; {BOUNDS.burst:g} at once are let pass",
        f"more than {KEEPING.rate:g} frames a second; {KEEPING.burst:g} at once are let pass",
        f"more than {BOUNDS.rate:g} pings and pongs a second, {BOUNDS.burst:g} at once",
        f"{BOUNDS.strikes:g} are forgiven at once, and\none more every {1 / BOUNDS.strikes_rate:g} seconds",
        f"{KEEPING.window} pushes were not read and stayed so for {KEEPING.patience:g} seconds",
        f"the last {KEEPING.keep} pushes are kept, of at most {KEEPING.keep_bytes // 1024} KiB together",
        f"the answer to this `id` is no longer kept; {KEEPING.answers} are",
        f"A session waits {KEEPING.resume_seconds:g} seconds for its client",
        f"It is good for {SETTINGS.resume_token_seconds / 3600:g} hours",
        f"no answer in {SETTINGS.patience:g} seconds",
        f"at most {SETTINGS.watched} at a time",
        f"more than {SETTINGS.connections_each} of one player",
        f"the gateway holds {SETTINGS.connections:,} connections",
    ],
)
def test_the_page_names_the_bounds_as_they_are(said: str) -> None:
    """Every number of the page is that of the code."""
    assert said in PAGE
