"""Each tool in small, and planted bugs that they find; in full it is a stage of .ci/run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from tests.crash.aged import AgedLedger
from tests.crash.bank import command_of, name_of
from tests.crash.image import Surface
from tests.crash.ledger import Ledger
from tests.crash.planted import PLANTED
from tests.crash.power import POWER
from tests.crash.shim import CREATE, LOST, RENAME, SYNC, SYNCHRONOUS, TRUNCATE, WRITE, Op
from tests.support.outside import tool
from tests.support.planted import planted
from tests.support.source import ROOT

ROWS = re.findall(
    r"^\| (\w+) \| (.*?) \| (\w+) \| ([\w, ]+) \| (\d+) \| (\d+) \|$",
    Path(__file__).with_name("README.md").read_text(),
    re.M,
)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the tools to its end."""
    command = [sys.executable, "-m", f"tests.crash.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def last_line(name: str, *arguments: str) -> str:
    """The last line of a tool that found nothing."""
    ended = run(name, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()[-1]


@pytest.mark.processes
def test_a_node_that_is_killed_loses_nothing() -> None:
    """Lives of a real node that end by SIGKILL leave nothing lost, doubled or damaged."""
    assert last_line("kill", "--cycles", "8", "--seed", "3") == "kill cycles=8 lost=0 doubled=0 damaged=0"


@pytest.mark.processes
def test_a_loss_of_power_loses_nothing() -> None:
    """At points of a node's life a loss of power leaves nothing lost or damaged."""
    tool("cc")
    assert last_line("power", "--points", "50") == "power points=50 class=durable lost=0 damaged=0"


@pytest.mark.processes
def test_a_loss_of_power_takes_one_relaxed_group_at_most() -> None:
    """Where all is relaxed, a loss of power leaves nothing damaged, and nothing lost but of the last group."""
    tool("cc")
    ended = last_line("power", "--points", "50", "--durability", "relaxed")
    assert ended == "power points=50 class=relaxed lost=0 damaged=0"


@pytest.mark.processes
def test_a_loss_of_power_takes_the_last_seconds_at_most() -> None:
    """Where all is periodic, a loss of power leaves nothing damaged, and nothing lost but of the last seconds."""
    tool("cc")
    ended = last_line("power", "--points", "50", "--durability", "periodic")
    assert ended == "power points=50 class=periodic lost=0 damaged=0"


def test_only_the_last_seconds_are_excused() -> None:
    """After a loss of power what was answered or shown in the last seconds may be gone, and nothing that is older."""
    ledger = AgedLedger(1, seconds=2.0)
    keys = [command_of(1, 0, number)[0] for number in (1, 2)]
    for number, when in ((1, 1.0), (2, 3.0)):
        ledger.hear(json.dumps(["clock", 0, 0, when]).encode() + b"\n")
        ledger.hear(json.dumps(["answer", 0, number, 5]).encode() + b"\n")
    ledger.hear(json.dumps(["clock", 0, 0, 4.0]).encode() + b"\n" + POWER)
    assert (ledger.doubtful, ledger.moves) == ({(0, 2)}, {keys[0]: 5})
    ledger.hear(json.dumps(["answer", 0, 2, 6]).encode() + b"\n")
    assert (ledger.doubtful, ledger.answered, bool(ledger.wrong)) == (set(), {(0, 1): 5, (0, 2): 6}, False)


def test_only_the_last_relaxed_group_is_excused() -> None:
    """After a loss of power what the last group answered or showed may be gone, and nothing of the one before."""
    ledger = Ledger(1)
    keys = {number: command_of(1, 0, number)[0] for number in (1, 2)}
    for number, key in keys.items():
        ledger.hear(json.dumps(["group", 0, 0, [[key, number, name_of(0), number]]]).encode() + b"\n")
        ledger.hear(json.dumps(["answer", 0, number, number]).encode() + b"\n")
    ledger.hear(POWER)
    assert ledger.doubtful == {(0, 2)}
    ledger.hear(json.dumps(["answer", 0, 2, 7]).encode() + b"\n")
    assert (ledger.doubtful, ledger.answered, bool(ledger.wrong)) == (set(), {(0, 1): 1, (0, 2): 7}, False)
    ledger.hear(POWER)
    assert ledger.doubtful == set()


@pytest.mark.processes
def test_a_class_that_does_not_exist_is_refused() -> None:
    """A durability class that no process can choose is refused, and the message names what there is."""
    ended = run("power", "--durability", "replicated")
    assert ended.returncode == 2
    assert "no process is 'replicated' yet; there is: durable" in ended.stderr


@pytest.mark.processes
def test_calls_that_fail_lose_nothing() -> None:
    """Some of the calls on the store's files fail, one at a time, and nothing is lost or damaged."""
    tool("cc")
    found = re.fullmatch(r"nth_io steps=(\d+) lost=0 damaged=0", last_line("nth_io", "--every", "25"))
    assert found is not None
    assert int(found[1]) > 5


@pytest.mark.processes
def test_a_shard_that_moves_is_all_in_one_store() -> None:
    """While shards go from store to store the power goes and calls fail: the owner has all, the other nothing of it."""
    tool("cc")
    found = re.fullmatch(r"carry steps=(\d+) lost=0 damaged=0", last_line("carry", "--points", "20", "--every", "400"))
    assert found is not None
    assert int(found[1]) > 20


@pytest.mark.processes
def test_a_forked_child_cannot_touch_the_store() -> None:
    """A child that is forked from a node in the middle of its work can neither read nor write, and does no harm."""
    assert last_line("fork", "--steps", "3") == "fork steps=3 lost=0 doubled=0 damaged=0"


@pytest.mark.processes
def test_a_flipped_bit_is_never_served() -> None:
    """With one bit of its file flipped a store refuses, or answers what was written."""
    tool("cc")
    assert re.fullmatch(r"flip points=20 .* damaged=0", last_line("flip", "--points", "20"))


@pytest.mark.processes
def test_a_full_disk_loses_nothing() -> None:
    """On a disk that is full for a while a node refuses by name, goes on afterwards, and loses nothing."""
    ended = run("full", "--steps", "1")
    if ended.returncode == 5:
        pytest.skip(ended.stderr.strip())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "full steps=1 lost=0 doubled=0 damaged=0"


@pytest.mark.processes
def test_planted_bugs_are_found() -> None:
    """A bug of each of several sorts is found: an early reply, a stale head, a forked child, a timer's second turn."""
    tool("cc")
    bugs = ("reply_before_gate", "relaxed_sync_off", "stale_head", "timer_fired_again", "fork_guard_gone")
    ended = run("planted", *bugs)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, f"planted bugs={len(bugs)} found={len(bugs)}")


def test_a_planted_bug_leaves_no_trace() -> None:
    """After a hunt the program is as it was."""
    before = [[getattr(owner, attribute) for owner, attribute, _ in plant.patches] for plant in PLANTED.values()]
    for plant in PLANTED.values():
        with planted(plant.patches):
            pass
    after = [[getattr(owner, attribute) for owner, attribute, _ in plant.patches] for plant in PLANTED.values()]
    assert after == before


def test_the_readme_lists_every_planted_bug() -> None:
    """The table of the README names each planted bug, in order, with its tool, and that it was found in time."""
    listed = [(name, wrong, by) for name, wrong, by, *_ in ROWS]
    assert listed == [(name, plant.wrong, plant.tool) for name, plant in PLANTED.items()]
    assert [name for name, *_, steps in ROWS if int(steps) > PLANTED[name].steps] == []


# -- the disk that loses what was not synced ---------------------------------------------------------------


def images(base: Path, *ops: Op) -> set[tuple[tuple[str, bytes], ...]]:
    """Everything that a loss of power after these calls may leave, as far as 80 draws show it."""
    found = set()
    for number in range(80):
        surface = Surface(base)
        for op in ops:
            surface.take(op)
        with TemporaryDirectory(dir=base.parent) as image:
            surface.image(Path(image), Random(number))
            found.add(tuple((path.name, path.read_bytes()) for path in sorted(Path(image).iterdir())))
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with one file, all of it safe."""
    path = tmp_path / "base"
    path.mkdir()
    (path / "a").write_bytes(b"old")
    return path


def write(data: bytes, flags: int = 0, name: str = "a") -> Op:
    return Op(WRITE, flags, name, 0, data)


def test_what_is_not_synced_may_be_lost(base: Path) -> None:
    """A write is there or not until its file is synced; and the order of writes is no promise."""
    assert images(base, write(b"new")) == {(("a", b"old"),), (("a", b"new"),)}
    assert images(base, write(b"new"), Op(SYNC, 0, "a", 0, b"")) == {(("a", b"new"),)}
    assert images(base, write(b"new", SYNCHRONOUS)) == {(("a", b"new"),)}
    both = images(base, write(b"new"), Op(TRUNCATE, 0, "a", 1, b""))
    assert both == {(("a", data),) for data in (b"old", b"new", b"o", b"n")}


def test_sectors_of_one_write_are_lost_by_themselves(base: Path) -> None:
    """A write of two sectors may leave either of them alone."""
    (base / "a").write_bytes(b"-" * 1024)
    found = {data[0][1][::512] for data in images(base, write(b"x" * 1024))}
    assert found == {b"--", b"xx", b"x-", b"-x"}


def test_a_failed_sync_has_saved_any_part_and_the_next_one_no_more(base: Path) -> None:
    """What was written before a failed sync is not made safe by the next one."""
    failed, again = Op(SYNC, LOST, "a", 0, b""), Op(SYNC, 0, "a", 0, b"")
    assert images(base, write(b"new"), failed) == {(("a", b"old"),), (("a", b"new"),)}
    assert images(base, write(b"new"), failed, again) == {(("a", b"old"),)}
    assert images(base, write(b"new", SYNCHRONOUS), failed, again) == {(("a", b"new"),)}


def test_a_name_is_safe_when_its_directory_is_synced(base: Path) -> None:
    """A new file, renamed: gone, there under either name, or for good under the last one."""
    made = (Op(CREATE, 0, "b", 0, b""), write(b"x", SYNCHRONOUS, "b"), Op(RENAME, 0, "b", 0, b"c"))
    old = ("a", b"old")
    assert images(base, *made) == {(old,), (old, ("b", b"x")), (old, ("c", b"x"))}
    assert images(base, *made, Op(SYNC, 0, ".", 0, b"")) == {(old, ("c", b"x"))}
