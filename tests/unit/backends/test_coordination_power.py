"""What a loss of power leaves of a machine's coordination store: whatever was agreed, whole, at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import pytest
import trio

from runtime.backends import lmdb_boot
from runtime.backends.coordination_lmdb import LmdbCoordination
from runtime.cluster.coordination import MAX_VALUE, CoordinationUnreachable, Row, Rows
from runtime.codec.cbor import encode
from supervisors.node.boot import RealWorld
from tests.crash import shim
from tests.crash.image import Surface

off_loop = RealWorld().run_blocking

# Changes rows at random, some of them often, sometimes very many at once; tells of each answer.
PROGRAM = """
import os, random, sys, trio
from runtime.backends.coordination_lmdb import LmdbCoordination
from supervisors.node.boot import RealWorld
from tests.crash.shim import Shim

async def main():
    shim, dice, versions = Shim(), random.Random(int(sys.argv[3])), {}
    shim.arm(sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600))
    for life in range(3):
        store = LmdbCoordination.open(sys.argv[1] + "/store", RealWorld().run_blocking)
        for _ in range(30):
            many = dice.choice((1, 1, 1, 2, 5, 300 if dice.random() < 0.2 else 1))
            names = [f"row{dice.randrange(40)}" for _ in range(many)]
            changes = []
            for name in names:
                version = versions[name] = versions.get(name, 0) + 1
                changes.append((name, version - 1, b"%s %d " % (name.encode(), version) + bytes(dice.randrange(90))))
            shim.mark(("tried " + " ".join(names)).encode())
            assert all(await store.compare_and_set(changes))
            shim.mark(("made " + " ".join(names)).encode())
        store.close()

trio.run(main)
"""

needs_shim = pytest.mark.skipif(bool(shim.missing()), reason=f"{shim.missing()} (nothing stands before the disk)")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(built), str(shim.SOURCE), "-ldl"], check=True)
    return built


def lived(library: Path, root: Path, seed: int) -> list[shim.Op]:
    """All that a program has written while it used a store."""
    root.mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", PROGRAM, str(root), str(root) + ".log", str(seed)]
    subprocess.run(command, check=True, env=environment, timeout=120)
    return list(shim.parse(Path(str(root) + ".log").read_bytes()))


def left(surface: Surface, root: Path, dice: Random) -> dict[str, int]:
    """The versions of the rows that a loss of power leaves, each with the value that it was given."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    surface.image(root, dice)
    store = LmdbCoordination.open(root / "store", off_loop)
    rows = trio.run(store.read, "")
    # It can be used, and what was made up for is there to stay.
    version = rows.get("row0", (0, b""))[0]
    assert trio.run(store.compare_and_set, [("row0", version, b"row0 %d" % (version + 1))]) == [True]
    store.close()
    for name, (version, value) in rows.items():
        assert value.split(b" ")[:2] == [name.encode(), b"%d" % version]
    return {name: version for name, (version, _) in rows.items()}


def losses(ops: list[shim.Op], root: Path, dice: Random, count: int) -> list[str]:
    """What was lost at so many moments: answers that were given, and rows that nobody wrote."""
    moments = sorted(dice.sample(range(len(ops)), count))
    tried: dict[str, int] = {}
    made: dict[str, int] = {}
    surface, found = Surface(Path(str(root) + ".none")), []
    first = next(at for at, op in enumerate(ops) if op.kind == shim.MARK)
    for at, op in enumerate(ops):
        if op.kind == shim.MARK:
            word, *names = op.data.decode().split()
            for name in names:
                known = tried if word == "tried" else made
                known[name] = known.get(name, 0) + 1
        else:
            surface.take(op)
        if at in moments and at > first:
            versions = left(surface, root, dice)
            found += [f"{at}: {name} lost" for name in made if versions.get(name, 0) < made[name]]
            found += [f"{at}: {name} made up" for name in versions if versions[name] > tried.get(name, 0)]
    return found


@needs_shim
@pytest.mark.parametrize("seed", range(2))
def test_what_was_agreed_survives_a_loss_of_power(seed: int, library: Path, tmp_path: Path) -> None:
    """At 60 moments of three lives: every change that was answered is there, and no other that nobody tried."""
    ops = lived(library, tmp_path / "disk", seed)
    assert losses(ops, tmp_path / "left", Random(seed), 60) == []


@needs_shim
def test_an_empty_store_survives_a_loss_of_power(library: Path, tmp_path: Path) -> None:
    """Once it was opened there is a store, whatever is left of what nobody has synced."""
    surface, dice = Surface(tmp_path / "none"), Random(0)
    for op in lived(library, tmp_path / "disk", 0):
        if op.kind == shim.MARK:
            break
        surface.take(op)
    for _ in range(20):
        assert left(surface, tmp_path / "left", dice) == {}


@needs_shim
def test_without_the_notes_it_would_not(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test finds that the last change is lost if nobody makes up for it."""
    ops = lived(library, tmp_path / "disk", 1)
    monkeypatch.setattr(LmdbCoordination, "_make_up", lambda self: None)
    assert any("lost" in one for one in losses(ops, tmp_path / "left", Random(1), 60))


@needs_shim
def test_a_change_costs_one_sync(library: Path, tmp_path: Path) -> None:
    """Of all that is written for a change of few rows, one sync is waited for; very many rows take one more."""
    ops = lived(library, tmp_path / "disk", 3)
    syncs, sizes = 0, []
    for op in ops:
        if op.kind == shim.MARK and op.data.startswith(b"tried"):
            syncs = 0
        elif op.kind == shim.MARK:
            sizes.append((len(op.data.split()) - 1, syncs))
        elif op.kind == shim.SYNC or op.flags & shim.SYNCHRONOUS:
            syncs += 1
    assert all(count == (1 if rows < 10 else 2) for rows, count in sizes if rows < 10 or rows > 100)
    assert {count for _, count in sizes} == {1, 2}


async def test_what_somebody_was_about_to_change_may_be_made_later(tmp_path: Path, monkeypatch: Any) -> None:
    """Who dies between the note and the commit has changed something, or not: the next one that opens it does."""
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    await store.compare_and_set([("a", 0, b"1")])
    note = store._note

    def dies(*args: Any) -> bool:
        note(*args)
        raise lmdb.Error("it died")

    monkeypatch.setattr(store, "_note", dies)
    with pytest.raises(Exception, match="it died"):
        await store.compare_and_set([("a", 1, b"2"), ("a", 2, b"3")])
    store.close()
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.read("") == {"a": (3, b"3")}
    store.close()
    # A note that was overtaken says nothing any more, nor does one that was not written to its end.
    page = lmdb_boot.DATA
    data = bytearray((tmp_path / "store" / page).read_bytes())
    for number in range(2):
        at = data.find(b"a", number * 4096 + 1024)
        data[at] ^= 1
    (tmp_path / "store" / page).write_bytes(data)
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.read("") == {"a": (3, b"3")}
    store.close()


# -- Notes that must not be believed -----------------------------------------------------------------------

BIG = [(f"big{number}", 0, bytes(90)) for number in range(60)]


class Killed(Exception):
    """What a program does not say that is killed."""


async def noted_only(store: LmdbCoordination, *changes: tuple[str, int, bytes]) -> None:
    """A change by somebody who is killed between the note and the commit."""
    note = store._note

    def dies(*args: Any) -> bool:
        note(*args)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_note", dies)
        with pytest.raises(Killed):
            await store.compare_and_set(changes)


def metas(data: Path) -> list[bytes]:
    """LMDB's part of the two meta pages."""
    content = data.read_bytes()
    return [content[page * 4096 :][:512] for page in range(2)]


def lose_power(data: Path, safe: list[bytes]) -> None:
    """Leave what was synced of LMDB's part of the meta pages, and all the rest."""
    with data.open("r+b") as file:
        for page, meta in enumerate(safe):
            file.seek(page * 4096)
            file.write(meta)


async def test_what_was_agreed_is_not_replaced_by_what_a_dead_one_had_noted(tmp_path: Path) -> None:
    """A note stays of who was killed, a change too big to be noted takes its place, and then the power goes.

    The change that was answered is there, and not the dead one's of the same row.
    """
    data = tmp_path / "store" / lmdb_boot.DATA
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    await store.compare_and_set([("a", 0, b"1")])
    await noted_only(store, ("a", 1, b"dead"))
    assert all(await store.compare_and_set(BIG))
    safe = metas(data)
    assert await store.compare_and_set([("a", 1, b"answered")]) == [True]
    store.close()
    lose_power(data, safe)
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.read("a") == {"a": (2, b"answered")}
    store.close()


async def test_the_biggest_value_is_kept(tmp_path: Path) -> None:
    """A row whose sizes no note could hold is set as any other."""
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.compare_and_set([("a", 0, bytes(MAX_VALUE))]) == [True]
    assert await store.read("") == {"a": (1, bytes(MAX_VALUE))}
    store.close()


async def test_what_is_too_big_to_be_noted_leaves_no_other_note_in_its_place(tmp_path: Path) -> None:
    """The power goes before a big change has taken its second sync: what a dead one had noted for it is gone."""
    data = tmp_path / "store" / lmdb_boot.DATA
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    await store.compare_and_set([("a", 0, b"1")])
    await noted_only(store, ("a", 1, b"dead"))
    safe = metas(data)
    assert all(await store.compare_and_set([*BIG, ("a", 1, b"big")]))
    assert await store.compare_and_set([("b", 0, b"1")]) == [True]
    store.close()
    lose_power(data, safe)
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.read("") == {"a": (1, b"1")}
    store.close()


async def test_a_note_that_followed_what_is_lost_is_never_made(tmp_path: Path) -> None:
    """Who saw a change that the power took, and noted another one upon it, does not undo what was agreed since."""
    data = tmp_path / "store" / lmdb_boot.DATA
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    await store.compare_and_set([("a", 0, b"1")])
    safe = metas(data)
    assert all(await store.compare_and_set([*BIG, ("a", 1, b"lost")]))
    await noted_only(store, ("a", 2, b"upon what is lost"))
    store.close()
    lose_power(data, safe)
    for _ in range(2):
        store = LmdbCoordination.open(tmp_path / "store", off_loop)
        version = (await store.read("a"))["a"][0]
        assert version == 1 or (await store.read("a"))["a"] == (2, b"agreed")
        await store.compare_and_set([("a", 1, b"agreed")])
        store.close()
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert await store.read("a") == {"a": (2, b"agreed")}
    store.close()


STOPS = """
import os, signal, sys, threading, trio
from runtime.backends.coordination_lmdb import LmdbCoordination
from supervisors.node.boot import RealWorld

async def main():
    store = LmdbCoordination.open(sys.argv[1], RealWorld().run_blocking)
    await store.compare_and_set([("a", 0, sys.argv[2].encode())])
    note = store._note
    def stops(*args):
        note(*args)
        print("noted", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        # The signal goes to the main thread; until that has stopped the others, this one could go on and commit.
        threading.Event().wait()
    store._note = stops
    await store.compare_and_set([("a", 1, sys.argv[2].encode())])

trio.run(main)
"""


def test_a_writer_stopped_after_its_note_holds_up_no_start(tmp_path: Path) -> None:
    """The store opens; its first operation finds no answer in time, until that writer goes on or is dead."""
    value = encode("x")
    command = [sys.executable, "-c", STOPS, str(tmp_path / "store"), value.decode("latin-1")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"noted\n"

        async def use() -> None:
            opened: list[LmdbCoordination] = []
            with trio.move_on_after(10):

                def start() -> None:
                    opened.append(LmdbCoordination.open(tmp_path / "store", off_loop))

                await trio.to_thread.run_sync(start, abandon_on_cancel=True)
            assert opened, "it waits for the one that is stopped"
            rows = Rows(opened[0], 0.2)
            with pytest.raises(CoordinationUnreachable, match=r"cannot read .*: there was no answer in time; check"):
                await rows.read()
            other.send_signal(signal.SIGKILL)
            # What it had noted is made.
            assert await rows.read(deadline=30.0) == {"a": Row(2, "x")}
            opened[0].close()

        trio.run(use)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
