"""Which shard a key belongs to, for ever; who gets which shard; and what one node does about it."""

from __future__ import annotations

from collections import Counter

import pytest

from runtime.cluster.placement import (
    Claim,
    Lost,
    Own,
    Placement,
    Release,
    Shard,
    shard_of,
    shard_row,
    shards_of,
)
from runtime.codec.cbor import decode, encode
from runtime.errors import Misuse

ALONE = {"serving": True, "up": ["a"], "alive": ["a"]}
BOTH = {"serving": True, "up": ["a", "b"], "alive": ["a", "b"]}


@pytest.mark.parametrize(
    ("kind", "key", "shard"),
    [
        ("table", "t-042", 16),
        ("table", "t-043", 222),
        ("wallet", "ann", 213),
        ("", "", 54),
        ("tisch", "für alle ♠", 195),
    ],
)
def test_a_key_stays_in_its_shard(kind: str, key: str, shard: int) -> None:
    """Golden values: they may never change, because data lie by them."""
    assert shard_of(kind, key) == shard


def test_kind_and_key_are_kept_apart() -> None:
    """The kind's length is part of what is hashed, so moving a letter from one to the other is another entity."""
    pairs = {shard_of("table", "t1", 4096), shard_of("tablet", "1", 4096), shard_of("tabl", "et1", 4096)}
    assert len(pairs) == 3


def test_keys_are_spread() -> None:
    """Of 25,600 keys no shard of 256 has less than half or more than twice its share."""
    counts = Counter(shard_of("table", f"t-{n}") for n in range(25_600))
    assert len(counts) == 256
    assert all(50 <= count <= 200 for count in counts.values())


@pytest.mark.parametrize("shards", [0, -1, 4097])
def test_a_count_out_of_bounds_is_misuse(shards: int) -> None:
    """There are 1 to 4096 shards."""
    with pytest.raises(Misuse):
        shard_of("table", "t", shards)
    assert shard_of("table", "t", 1) == 0


# -- one node --------------------------------------------------------------------------------------------


def claims(effects: list[object]) -> dict[int, Shard]:
    return {one.shard: one.row for one in effects if isinstance(one, Claim)}


def made(placement: Placement, effects: list[object]) -> list[object]:
    """What follows when all claims are made."""
    return [more for one in effects if isinstance(one, Claim) for more in placement.claimed(one)]


def held(placement: Placement) -> dict[int, tuple[int, Shard]]:
    """The rows as the node has them."""
    return {shard: (row.epoch + 1, row) for shard, row in placement.rows().items()}


def test_the_first_node_claims_all() -> None:
    """Epochs begin above the store's own, and each shard's home is the store."""
    placement = Placement("a", 3, 4, store="disk", floor=17)
    effects = placement.looked({}, **ALONE)
    assert claims(effects) == {shard: Shard("a", 3, 18, "disk") for shard in range(4)}
    assert placement.owner(0) is None
    assert made(placement, effects) == [Own(shard, 18, "disk") for shard in range(4)]
    assert (placement.owner(3), placement.serves(3)) == (("a", 18), 18)
    assert placement.looked({}, **ALONE) == []


def test_a_node_claims_only_its_share() -> None:
    """Two nodes that find the same free shards claim disjoint halves of them."""
    one = claims(Placement("a", 1, 6).looked({}, **BOTH))
    other = claims(Placement("b", 1, 6).looked({}, **BOTH))
    assert sorted([*one, *other]) == list(range(6))
    assert len(one) == len(other) == 3


def test_a_restarted_node_claims_its_shards_anew() -> None:
    """Rows of its former life are its own, under a higher epoch, at once, whatever the others have."""
    rows = {shard: (5, Shard("a", 1, 9, "disk")) for shard in range(4)}
    placement = Placement("a", 2, 4, store="disk")
    assert claims(placement.looked(rows, **BOTH)) == {shard: Shard("a", 2, 10, "disk") for shard in range(4)}


def test_a_claim_whose_answer_was_lost_is_owned_when_it_shows() -> None:
    """A row of this life with the epoch that it tried to claim is its own."""
    placement = Placement("a", 2, 1, store="disk")
    (claim,) = placement.looked({}, **ALONE)
    assert placement.looked({0: (1, claim.row)}, **ALONE) == [Own(0, 1, "disk")]


def test_a_claim_of_before_a_pause_is_not_owned_after_it() -> None:
    """If the lease was over in between, others may act on it: the shard is claimed anew, whatever the row says."""
    placement = Placement("a", 2, 1, store="disk")
    (claim,) = placement.looked({}, **ALONE)
    assert placement.ceased() == []
    assert claims(placement.looked({0: (1, claim.row)}, **ALONE)) == {0: Shard("a", 2, 2, "disk")}


def test_after_a_pause_a_shard_is_claimed_anew() -> None:
    """What was given up with the lease is served again only under a new epoch."""
    placement = Placement("a", 2, 1, store="disk")
    made(placement, placement.looked({}, **ALONE))
    assert placement.ceased() == [Lost(0, 1)]
    assert placement.serves(0) is None
    assert placement.looked({}, serving=False, up=[], alive=[]) == []
    assert claims(placement.looked({}, **ALONE)) == {0: Shard("a", 2, 2, "disk")}


def test_a_shard_that_somebody_took_is_lost() -> None:
    """As soon as a row names another, the node stops serving; an older answer that comes late changes nothing."""
    placement = Placement("a", 2, 1)
    made(placement, placement.looked({}, **ALONE))
    taken = Shard("b", 1, 2)
    assert placement.looked({0: (2, taken)}, **BOTH) == [Lost(0, 1)]
    assert placement.looked({0: (1, Shard("a", 2, 1))}, **BOTH) == []
    assert placement.owner(0) == ("b", 2)


def test_a_dead_nodes_shards_wait_for_their_data() -> None:
    """With data elsewhere a shard waits; without, it is taken over; and who holds the data takes it in any case."""
    rows = {0: (1, Shard("b", 1, 4, "disk-b")), 1: (1, Shard("b", 1, 4, ""))}
    placement = Placement("a", 1, 2, store="disk-a")
    assert placement.looked(rows, **BOTH) == []
    assert claims(placement.looked(rows, **ALONE)) == {1: Shard("a", 1, 5, "disk-a")}
    placement.stores.add("disk-b")
    assert claims(placement.looked(rows, **ALONE))[0] == Shard("a", 1, 5, "disk-b")


def test_the_same_name_without_the_data_gets_nothing_of_it() -> None:
    """A node that bears the name, but holds another store, waits like everybody else."""
    rows = {0: (1, Shard("a", 1, 4, "old disk"))}
    assert Placement("a", 2, 1, store="new disk").looked(rows, **ALONE) == []


def test_a_second_node_is_given_what_is_not_written() -> None:
    """The first gives up half of its shards, the last ones first, but none with data; not while anybody is in doubt."""
    placement = Placement("a", 1, 8, store="disk")
    made(placement, placement.looked({}, **ALONE))
    doubt = {"serving": True, "up": ["a"], "alive": ["a", "b"]}
    assert placement.looked({}, **doubt, kept=lambda shard: False) == []
    effects = placement.looked({}, **BOTH, kept=lambda shard: shard > 5)
    assert effects == [Release(shard, 1, 1, Shard("", 0, 1, "")) for shard in (5, 4, 3, 2)]
    assert [placement.serves(shard) for shard in range(8)] == [1, 1, None, None, None, None, 1, 1]
    placement.released(effects[0])
    assert placement.owner(5) is None
    # What could not be set free after all is claimed anew.
    assert sorted(claims(placement.looked({}, **BOTH))) == [2, 3, 4]
    assert Placement("a", 1, 8).looked({}, **BOTH) != []


def test_a_node_with_all_written_gives_up_nothing() -> None:
    """Without live moves a newcomer gets only what has no data."""
    placement = Placement("a", 1, 8, store="disk")
    made(placement, placement.looked({}, **ALONE))
    assert placement.looked({}, **BOTH) == []


def test_who_leaves_sets_free_what_has_no_data() -> None:
    """The rest is lost to it, and waits for its return."""
    placement = Placement("a", 1, 2, store="disk")
    made(placement, placement.looked({}, **ALONE))
    assert placement.leaving(lambda shard: shard == 0) == [Lost(0, 1), Release(1, 1, 1, Shard("", 0, 1, ""))]
    assert placement.served == {}


def test_a_shard_whose_store_refused_is_claimed_anew() -> None:
    """What was dropped is not served, and the next look claims a higher epoch."""
    placement = Placement("a", 1, 1, store="disk")
    made(placement, placement.looked({}, **ALONE))
    assert (placement.dropped(0), placement.dropped(0)) == ([Lost(0, 1)], [])
    assert claims(placement.looked({}, **ALONE)) == {0: Shard("a", 1, 2, "disk")}


def test_rows_are_found_by_their_names() -> None:
    """A shard's row bears its number; rows of other kinds are passed over."""
    assert shard_row(42) == "shard/00042"
    moving = Shard("a", 1, 2, "disk", "m1", "b", 7)
    rows = [("cluster", 1, "x"), ("shard/00042", 2, Shard("a").stored()), ("shard/00007", 3, moving.stored())]
    assert shards_of(rows) == {42: (2, Shard("a")), 7: (3, moving)}
    assert (moving.resting(), moving.resting().resting()) == (Shard("a", 1, 2, "disk"),) * 2


def test_rows_of_before_there_were_moves_are_read() -> None:
    """A row without a move is stored as it ever was, byte for byte; one with a move is nothing that is known there."""
    stored = encode(Shard("a", 3, 18, "disk").stored())
    assert stored == bytes.fromhex("d9ba00867462616e79616e2e636c75737465722e73686172640161610312646469736b")
    assert shards_of([("shard/00001", 1, decode(stored))]) == {1: (1, Shard("a", 3, 18, "disk"))}
    assert shards_of([("shard/00001", 1, ("of a later version", 1))]) == {}


def test_a_claim_of_a_shard_whose_store_was_given_up_is_not_served() -> None:
    """The store was let go of while the row was set: the data are not here, so whoever opens it next claims them."""
    placement = Placement("a", 1, 4, store="mine", floor=1)
    rows = {0: (3, Shard("b", 1, 5, "theirs"))}
    placement.held("theirs")
    (claim,) = [one for one in placement.looked(rows, **BOTH) if isinstance(one, Claim) and one.shard == 0]
    assert claim.row == Shard("a", 1, 6, "theirs")
    assert placement.given_up("theirs") == []
    assert placement.claimed(claim) == []
    assert placement.serves(0) is None
    taken = {0: (5, Shard("b", 2, 7, "theirs"))}
    assert not [one for one in placement.looked(taken, **BOTH) if getattr(one, "shard", None) == 0]
