"""What every coordination store promises: one suite over all backends; then what those with files add."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio

from runtime.backends.coordination import LocalCoordination
from runtime.backends.coordination_lmdb import FORMAT, LmdbCoordination
from runtime.backends.lmdb import LmdbJournal
from runtime.cluster.coordination import MAX_VALUE, Change, CoordinationUnreachable, Row, Rows
from runtime.durable.journal import StoreClosed, StoreDamaged, StoreForeign, StoreInUse, StoreNewer, StoreNotWritable
from runtime.errors import Misuse
from supervisors.node.boot import RealWorld

off_loop = RealWorld().run_blocking


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield LocalCoordination()
        return
    opened = LmdbCoordination.open(tmp_path / "store", off_loop)
    yield opened
    opened.close()


async def test_a_row_is_set_if_its_version_is_as_expected(store: Any) -> None:
    """Each change raises the version by one; one that expects another version changes nothing."""
    assert await store.read("") == {}
    assert await store.compare_and_set([("a", 0, b"1")]) == [True]
    assert await store.compare_and_set([("a", 0, b"x")]) == [False]
    assert await store.compare_and_set([("a", 2, b"x")]) == [False]
    assert await store.compare_and_set([("a", 1, b"2")]) == [True]
    assert await store.read("a") == {"a": (2, b"2")}


async def test_changes_are_judged_one_by_one_and_in_order(store: Any) -> None:
    """In one call a refused change stops no other, and a later one sees an earlier one."""
    made = await store.compare_and_set([("a", 0, b"1"), ("b", 5, b"x"), ("a", 1, b"2"), ("a", 1, b"x"), ("c", 0, b"")])
    assert made == [True, False, True, False, True]
    assert await store.read("") == {"a": (2, b"2"), "c": (1, b"")}
    assert await store.compare_and_set([]) == []


async def test_rows_are_read_by_the_beginning_of_their_names(store: Any) -> None:
    """A prefix gives the rows whose names begin with it, in order."""
    await store.compare_and_set([(name, 0, b"") for name in ("b/2", "a", "b/1", "b", "c\xff")])
    assert list(await store.read("b/")) == ["b/1", "b/2"]
    assert list(await store.read("")) == ["a", "b", "b/1", "b/2", "c\xff"]
    assert await store.read("d") == {}


@pytest.mark.parametrize("change", [("", 0, b""), ("n" * 256, 0, b""), ("a", -1, b""), ("a", 0, bytes(MAX_VALUE + 1))])
async def test_what_is_out_of_bounds_is_misuse(store: Any, change: Any) -> None:
    """A change out of its bounds is refused, and those beside it are not made."""
    with pytest.raises(Misuse):
        await store.compare_and_set([("b", 0, b""), change])
    assert await store.read("") == {}


async def test_of_many_that_want_a_row_one_gets_it(store: Any) -> None:
    """Of changes at the same time from the same version exactly one is made."""
    made: list[bool] = []

    async def try_it(number: int) -> None:
        made.extend(await store.compare_and_set([("a", 0, b"%d" % number)]))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(try_it, number)
    assert sorted(made) == [False] * 7 + [True]
    assert (await store.read("a"))["a"][0] == 1


# -- records ---------------------------------------------------------------------------------------------


class Deaf:
    """A store whose answers are lost while `lost` is set; changes are made all the same, unless `cut` is set."""

    def __init__(self) -> None:
        self.inner = LocalCoordination()
        self.lost = self.cut = False

    async def read(self, prefix: str) -> Any:
        if self.lost:
            await trio.sleep_forever()
        return await self.inner.read(prefix)

    async def compare_and_set(self, changes: Any) -> list[bool]:
        made = [] if self.cut else await self.inner.compare_and_set(changes)
        if self.lost:
            await trio.sleep_forever()
        return made


async def test_a_lost_answer_is_found_by_trying_again(autojump_clock: trio.abc.Clock) -> None:
    """A change whose answer was lost raises; the same one again holds if it had been made, and is made if not."""
    store = Deaf()
    rows = Rows(store)
    for store.cut in (False, True):
        store.lost = True
        name = f"row {store.cut}"
        with pytest.raises(CoordinationUnreachable, match="there was no answer in time"):
            await rows.change([Change(name, 0, ("mine",))])
        with pytest.raises(CoordinationUnreachable, match="read"):
            await rows.read()
        store.lost = store.cut = False
        assert await rows.change([Change(name, 0, ("mine",))]) == [True]
        assert await rows.read(name) == {name: Row(1, ("mine",))}


async def test_anothers_change_is_not_taken_for_ours() -> None:
    """A change that was refused holds only if the row has the next version and the very same value."""
    rows = Rows(LocalCoordination())
    assert await rows.change([Change("a", 0, "other"), Change("b", 0, "mine")]) == [True, True]
    assert await rows.change([Change("b", 1, "other")]) == [True]
    assert await rows.change([Change("a", 0, "mine"), Change("b", 0, "mine"), Change("c", 0, 1)]) == [
        False,
        False,
        True,
    ]
    assert await rows.change([]) == []


# -- LMDB ------------------------------------------------------------------------------------------------

SECOND = """
import sys, trio
from runtime.backends.coordination_lmdb import LmdbCoordination
from supervisors.node.boot import RealWorld

async def main():
    store = LmdbCoordination.open(sys.argv[1], RealWorld().run_blocking)
    won = 0
    for number in range(int(sys.argv[2])):
        while True:
            version, value = (await store.read("count")).get("count", (0, b"0"))
            if (await store.compare_and_set([("count", version, b"%d" % (int(value) + 1))]))[0]:
                break
    store.close()

trio.run(main)
"""
STOPPED = """
import os, signal, sys, lmdb
with lmdb.open(sys.argv[1], lib_version=0).begin(write=True) as txn:
    print("in it", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def program(text: str, *args: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", text, *map(str, args)], **options)


def test_real_processes_share_a_store(tmp_path: Path) -> None:
    """Two programs that count in one row, each by reading and compare-and-set, lose nothing."""
    both = [program(SECOND, tmp_path / "store", 100) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    assert trio.run(store.read, "") == {"count": (200, b"200")}
    store.close()


def test_a_process_stopped_in_a_transaction_blocks_only_changes(tmp_path: Path) -> None:
    """While another program stands still in a transaction, changes find no answer in time, and reads go on.

    Not the loop: it runs. When that program is dead, changes are made again, and the one left behind may be.
    """
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    other = program(STOPPED, tmp_path / "store", stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"in it\n"

        async def use() -> None:
            rows = Rows(store, 0.2)
            with pytest.raises(CoordinationUnreachable):
                await rows.change([Change("a", 0, 1)])
            assert await rows.read() == {}
            other.send_signal(signal.SIGKILL)
            with trio.fail_after(30):
                while not (await rows.change([Change("a", 0, 1)], deadline=30.0))[0]:
                    pass
            assert await rows.read() == {"a": Row(1, 1)}

        trio.run(use)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
        store.close()


async def test_the_files_are_the_users_own(tmp_path: Path) -> None:
    """The directory is 0700 and its files are 0600, whatever the mask allows; what is in it is there at a reopen."""
    mask = os.umask(0)
    try:
        store = LmdbCoordination.open(tmp_path / "above" / "store", off_loop)
    finally:
        os.umask(mask)
    await store.compare_and_set([("a", 0, b"1")])
    store.close()
    store.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "above").rglob("*")}
    assert modes == {"store": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600}
    store = LmdbCoordination.open(tmp_path / "above" / "store", off_loop)
    assert await store.read("") == {"a": (1, b"1")}
    with pytest.raises(StoreInUse):
        LmdbCoordination.open(tmp_path / "above" / "store", off_loop)
    store.close()
    with pytest.raises(StoreClosed):
        await store.read("")


def test_another_directory_is_left_alone(tmp_path: Path) -> None:
    """A node's own store, other people's files and another LMDB store are refused and not touched."""
    LmdbJournal.open(tmp_path / "journal", wall=lambda: 0.0).close()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with lmdb.open(str(tmp_path / "other"), lib_version=0) as other, other.begin(write=True) as txn:
        txn.put(b"a", b"b")
    for name in ("journal", "letters", "other"):
        with pytest.raises(StoreForeign):
            LmdbCoordination.open(tmp_path / name, off_loop)
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotWritable, match="a file, not a directory"):
        LmdbCoordination.open(tmp_path / "file", off_loop)


async def test_damage_is_found(tmp_path: Path) -> None:
    """A row whose bytes are not what was written is reported and not served; a later format is left alone."""
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    await store.compare_and_set([("shard", 0, b"somebody")])
    store.close()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"somebody", b"somebodx"))
    store = LmdbCoordination.open(tmp_path / "store", off_loop)
    with pytest.raises(StoreDamaged, match="'shard'"):
        await store.read("")
    store.close()
    row = b"\0banyan coordination"
    data.write_bytes(data.read_bytes().replace(row + b"%d" % FORMAT, row + b"%d" % (FORMAT + 1)))
    with pytest.raises(StoreNewer):
        LmdbCoordination.open(tmp_path / "store", off_loop)
