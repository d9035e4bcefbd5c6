"""docs/wire.md says what the wire is: its kinds, words, parts and bounds are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from runtime.cluster import handshake, health, links, wire
from runtime.cluster.handshake import Hello
from runtime.cluster.health import State
from runtime.cluster.inbound import Outcome
from runtime.cluster.link import CLOSES, Limits
from runtime.cluster.links import LinkSettings
from runtime.cluster.wire import CREDITED, Kind
from tests.support.source import ROOT

PAGE = (ROOT / "docs/wire.md").read_text()
LIMITS = Limits()


def rows(heading: str, first: str) -> Iterator[list[str]]:
    """The cells of a table below a heading, by the title of its first column; names without their backticks."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.split(f"| {first} |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_the_page_lists_every_kind() -> None:
    """Each kind of frame stands there with its number, and which one needs credit."""
    listed = [(name, int(number)) for name, number, *_ in rows("Frames", "kind")]
    assert listed == [(kind.name, kind.value) for kind in Kind]
    assert [name for name, *_, text in rows("Frames", "kind") if "needs credit" in text] == [
        kind.name for kind in Kind if kind in CREDITED
    ]
    before = [name for name, _, between, _ in rows("Frames", "kind") if between == "connections"]
    assert before == [kind.name for kind in Kind if kind in wire.BEFORE_AUTHENTICATION]


def test_the_page_says_what_each_frame_between_processes_holds() -> None:
    """Each kind between processes has its row, in order, and each outcome of a call its number."""
    shown = re.findall(r"[A-Z_]+", " ".join(cells[0] for cells in rows("Frames", "frame")))
    assert sorted(shown) == sorted(kind.name for kind in Kind if kind >= Kind.SEND)
    (reply,) = [cells[1] for cells in rows("Frames", "frame") if cells[0] == "REPLY"]
    assert [int(number) for number in re.findall(r"\d+", reply)] == [outcome.value for outcome in Outcome]


def test_the_page_shows_the_header() -> None:
    """The fields of the header are as long as they are."""
    sizes = [int(size) for _, size, _ in rows("Frames", "field")]
    assert (sum(sizes), len(sizes)) == (wire.HEADER_SIZE, 4)
    assert f"a header of {wire.HEADER_SIZE} bytes" in PAGE


def test_the_page_lists_every_refusal() -> None:
    """Each word with which a connection is refused stands there, and no other."""
    assert {word for word, _ in rows("Refused", "word")} == handshake.REASONS


def test_the_page_lists_every_close() -> None:
    """Each word with which a link ends stands there with its sentence."""
    assert dict(rows("Ended", "word")) == CLOSES


def test_the_page_lists_every_state() -> None:
    """Each state that heartbeats can tell of stands there."""
    assert [state for state, _ in rows("Heartbeats", "state")] == [state.value for state in State]


def test_the_page_names_the_parts_of_a_hello() -> None:
    """A hello has the parts that the page names, in their order."""
    shown = re.search(r'`\("banyan", ([\w, ]+)\)`', PAGE)
    assert shown is not None
    who = list(handshake.Identity.__dataclass_fields__)
    assert shown[1].split(", ") == ["oldest", "newest", *who, "role"]
    assert set(Hello.__dataclass_fields__) == {"who", "oldest", "newest", "role"}
    assert f"this page is version {handshake.NEWEST}" in PAGE


SAID = " ".join(PAGE.split())


@pytest.mark.parametrize(
    "said",
    [
        f"at most {wire.NODE_CAP >> 20} MiB; {wire.HELLO_CAP >> 10} KiB before both know",
        f"or one over {wire.HELLO_CAP >> 10} KiB",
        f"must be done within {handshake.HELLO_SECONDS:g} seconds",
        f"No more than {links.MOST_STRANGERS} connections are in this state",
        f"{handshake.MOST_NODES:,} other nodes are known, or {links.MOST_STRANGERS} connections came after it",
        f"has {LIMITS.outbox >> 20} MiB in the outbox",
        f"or {LIMITS.window >> 20} MiB of `SEND` and `CAST` frames under way",
        f"or when {LIMITS.outbox_most >> 20} MiB wait in the outbox",
        f"a `BEAT` every second{'' if health.BEAT_SECONDS == 1 else ' no more'}",
        f"has not come round for {health.BUSY_SECONDS:g} second |",
        f"{health.SUSPECT_BEATS} beats in a row did not come",
        f"nothing came for {health.DOWN_SECONDS:g} seconds",
        f"may take {links.CONNECT_SECONDS:g} seconds to come about",
        f"again after {links.FIRST_WAIT:g} seconds, then after twice as long each time,",
        f"at most {links.LONGEST_WAIT:g}, each less up to a half",
    ],
)
def test_the_page_names_the_bounds_as_they_are(said: str) -> None:
    """Every number of the page is that of the code."""
    assert said in SAID


def test_links_have_these_bounds_unless_told_otherwise() -> None:
    """The bounds of the page are the ones that a node has by default."""
    assert LinkSettings().limits == LIMITS
    assert (LIMITS.frame, LIMITS.window >= 2 * LIMITS.frame) == (wire.NODE_CAP, True)
