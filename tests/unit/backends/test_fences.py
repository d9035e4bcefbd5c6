"""What every journal promises of fences: whoever keeps it, a shard is written under one epoch or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.backends.lmdb_check import check
from runtime.durable.fence import MAX_EPOCH, MAX_SHARD, pack_fence, row_of, unpack_fence
from runtime.durable.journal import Fence, Fenced, Journal, StoreDamaged
from runtime.errors import Misuse

from .stores import LmdbStore, Store, entry, snapshot


def test_a_shard_is_written_under_the_epoch_of_its_claim(journal: Journal) -> None:
    """After a claim a group with that epoch is written, with others that belong to no shard."""
    assert journal.fence(7) == Fence()
    journal.claim({7: 5})
    journal.commit([entry("a", 1, epoch=5), entry("b", 1)], fences={7: 5})
    assert (journal.fence(7), journal.fence(8)) == (Fence(5, written=True), Fence())
    assert (journal.head("a"), journal.head("b")) == (1, 1)


@pytest.mark.parametrize("epoch", [0, 4, 6])
def test_another_epoch_writes_nothing(journal: Journal, epoch: int) -> None:
    """A group under an older or a newer epoch than the row's is refused whole; the journal goes on."""
    journal.claim({7: 5})
    with pytest.raises(Fenced) as refused:
        journal.commit([entry("a", 1), entry("b", 1)], [snapshot("a", 1)], fences={7: epoch})
    assert (refused.value.shard, refused.value.epoch, refused.value.found) == (7, epoch, Fence(5))
    assert journal.keys() == []
    journal.commit([entry("a", 1, epoch=5)], fences={7: 5})


def test_one_shard_refused_fails_the_group(journal: Journal) -> None:
    """Of several shards in one group all must be right."""
    journal.claim({1: 5, 2: 5})
    journal.claim({2: 6})
    with pytest.raises(Fenced, match=r"shard 2 under epoch 5 .*claimed here under epoch 6"):
        journal.commit([entry("a", 1, epoch=5), entry("b", 1, epoch=5)], fences={1: 5, 2: 5})
    assert journal.keys() == []


def test_an_unclaimed_shard_is_not_written(journal: Journal) -> None:
    """A shard that was never claimed here is refused, under whatever epoch."""
    for epoch in (0, 1):
        with pytest.raises(Fenced, match="it was never claimed here"):
            journal.commit([entry("a", 1)], fences={7: epoch})


def test_a_sealed_shard_is_not_written(journal: Journal) -> None:
    """After a seal nothing is written under the epoch, until a claim under a higher one."""
    journal.claim({7: 5})
    journal.seal(7, 5)
    journal.seal(7, 5)
    assert journal.fence(7) == Fence(5, sealed=True)
    with pytest.raises(Fenced, match="epoch 5 was sealed"):
        journal.commit([entry("a", 1, epoch=5)], fences={7: 5})
    with pytest.raises(Fenced):
        journal.claim({7: 5})
    journal.claim({7: 6})
    journal.commit([entry("a", 1, epoch=6)], fences={7: 6})
    assert journal.fence(7) == Fence(6, written=True)


def test_a_shard_once_written_is_known_to_be(store: Store) -> None:
    """Whether anything of a shard was ever written here is kept through claims, seals and lives of the node."""
    journal = store.open()
    journal.claim({7: 5, 8: 5})
    journal.commit([entry("a", 1, epoch=5)], fences={7: 5})
    journal.close()
    journal = store.open()
    journal.claim({7: 6, 8: 6})
    journal.seal(7, 6)
    journal.seal(8, 6)
    assert (journal.fence(7), journal.fence(8)) == (Fence(6, True, True), Fence(6, True, False))
    journal.close()


def test_a_claim_needs_a_higher_epoch_for_each_shard(journal: Journal) -> None:
    """Epochs rise strictly: a claim that raises not all of them changes none."""
    journal.claim({1: 5, 2: 5})
    for epochs in ({1: 6, 2: 5}, {1: 6, 2: 4}):
        with pytest.raises(Fenced) as refused:
            journal.claim(epochs)
        assert refused.value.shard == 2
    assert (journal.fence(1), journal.fence(2)) == (Fence(5), Fence(5))
    journal.claim({})


@pytest.mark.parametrize("epoch", [0, 4, 6])
def test_only_the_epoch_of_the_row_is_sealed(journal: Journal, epoch: int) -> None:
    """A seal under another epoch than the row's is refused: it is somebody else's business."""
    journal.claim({7: 5})
    with pytest.raises(Fenced):
        journal.seal(7, epoch)
    with pytest.raises(Fenced):
        journal.seal(8, epoch)
    assert journal.fence(7) == Fence(5)


def test_fences_are_there_after_a_reopen(store: Store) -> None:
    """Claims and seals are durable, and a new life of the node has no claim of its own."""
    journal = store.open()
    journal.claim({1: 5, 2: 6})
    journal.seal(2, 6)
    journal.close()
    journal = store.open()
    assert (journal.fence(1), journal.fence(2)) == (Fence(5), Fence(6, sealed=True))
    journal.close()


@pytest.mark.parametrize(("shard", "epoch"), [(-1, 1), (MAX_SHARD + 1, 1), (True, 1), (1, 0), (1, MAX_EPOCH + 1)])
def test_numbers_out_of_bounds_are_misuse(journal: Journal, shard: int, epoch: int) -> None:
    """A shard's number and an epoch have bounds; beyond them nothing is claimed."""
    with pytest.raises(Misuse):
        journal.claim({shard: epoch})


def test_a_check_knows_the_epochs_of_shards(tmp_path: Path) -> None:
    """An entry may be of a later epoch than the store's own only if a shard was claimed under it."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    journal.claim({7: 30})
    journal.commit([entry("a", 1, epoch=30)], fences={7: 30})
    journal.close()
    assert check(str(store.path)).problems == []
    journal = store.open()
    journal.commit([entry("a", 2, epoch=31)])
    journal.set_meta(row_of(8), b"nonsense")
    journal.close()
    assert [problem.what for problem in check(str(store.path)).problems] == [
        "the row of shard 8 does not hold what was written",
        "it is of epoch 31, the store of 30",
    ]


def test_the_row_is_of_fixed_form() -> None:
    """The row's name and bytes are a format: stores hold them for ever."""
    assert (row_of(42), pack_fence(Fence(258, sealed=True))) == ("shard/00042", bytes.fromhex("000000000000010201"))
    assert unpack_fence(bytes.fromhex("000000000000010201"), 42, "") == Fence(258, sealed=True)
    assert unpack_fence(pack_fence(Fence(1, written=True)), 42, "") == Fence(1, written=True)
    for damaged in (b"", b"x", bytes(8), bytes(10), bytes(8) + b"\4"):
        with pytest.raises(StoreDamaged, match="the row of shard 42"):
            unpack_fence(damaged, 42, "store")
