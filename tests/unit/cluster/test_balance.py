"""Which node should have which shard: what falls to whom, what is too much, and what moves."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.cluster.balance import BYTES, COMMANDS, SLACK, Load, excess, moves_for, share

names = st.lists(st.sampled_from("abcde"), min_size=1, unique=True).map(sorted)


@given(nodes=names, owned=st.dictionaries(st.integers(0, 40), st.sampled_from("abcdefg")))
def test_a_share_goes_to_the_least_and_is_everybodys_answer(nodes: list[str], owned: dict[int, str]) -> None:
    """Each free shard is given, nobody who has more than the least gets one, and all come to the same answer."""
    free = [shard for shard in range(41) if shard not in owned]
    given_to = share(owned, free, nodes)
    assert sorted(given_to) == free
    assert given_to == share(dict(reversed(owned.items())), list(reversed(free)), nodes)
    before = Counter(owner for owner in owned.values() if owner in nodes)
    after = before + Counter(given_to.values())
    assert all(after[name] - min(after[one] for one in nodes) <= 1 for name in given_to.values())
    assert share(owned, free, []) == {}


@given(
    nodes=names, owned=st.dictionaries(st.integers(0, 40), st.sampled_from("abcde")), fixed=st.sets(st.integers(0, 40))
)
def test_what_is_too_much_is_no_more_than_needed(nodes: list[str], owned: dict[int, str], fixed: set[int]) -> None:
    """All give up only so much that the rest is balanced; who has its share or less gives nothing; nothing fixed."""
    owned = {shard: owner for shard, owner in owned.items() if owner in nodes}
    load = Counter(owned.values())
    moved = 0
    for name in nodes:
        given_up = excess(owned, 0, nodes, name, ())
        assert all(owned[shard] == name for shard in given_up)
        load[name] -= len(given_up)
        moved += len(given_up)
        assert not fixed & set(excess(owned, 0, nodes, name, fixed))
    share_of_each = len(owned) / len(nodes)
    assert max(load[name] for name in nodes) <= share_of_each + 1
    assert moved <= sum(max(0, count - int(share_of_each)) for count in Counter(owned.values()).values())
    assert excess(owned, 0, nodes, "stranger", ()) == []


# -- moves -----------------------------------------------------------------------------------------------


class Room:
    """Nodes with shards, and what each shard has to do; everybody sees the same."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.nodes = sorted(dice.sample("abcdef", dice.randint(2, 6)))
        self.limit = dice.choice((1, 2, 2, 4, 100))
        first = self.nodes[: dice.randint(1, len(self.nodes))]
        self.owners = {shard: dice.choice(first) for shard in range(dice.choice((8, 16, 32)))}
        busy = dice.choice((lambda: 0.0, lambda: dice.expovariate(0.05), lambda: dice.choice((0.0,) * 5 + (300.0,))))
        self.loads = {shard: Load(busy(), dice.choice((0, 0, 1 << 20, 1 << 29))) for shard in self.owners}
        self.draining: set[str] = set()
        self.seen = {tuple(self.owners.values())}

    def carried(self, name: str) -> float:
        """What a node carries, in idle shards."""
        return sum(1 + self.loads[shard].weight for shard, owner in self.owners.items() if owner == name)

    def measured(self, noise: float) -> dict[int, Load]:
        """The loads as somebody measures them."""
        return {
            shard: Load(load.commands * self.dice.uniform(1 - noise, 1 + noise), load.bytes)
            for shard, load in self.loads.items()
        }

    def round(self, noise: float = 0.0) -> int:
        """All look at once, and move what they want to; how much that is. No state ever comes back."""
        loads = self.measured(noise)
        others = {}
        for name in self.nodes:
            of = [loads[shard] for shard, owner in self.owners.items() if owner == name]
            others[name] = Load(sum(one.commands for one in of), sum(one.bytes for one in of))
        moves = []
        for name in self.nodes:
            mine = {shard: loads[shard] for shard, owner in self.owners.items() if owner == name}
            wanted = moves_for(self.owners, mine, self.nodes, self.draining, name, self.limit, others=others)
            assert len(wanted) <= self.limit
            assert all(self.owners[shard] == name != target for shard, target in wanted)
            moves += wanted
        self.owners.update(moves)
        if moves:
            assert tuple(self.owners.values()) not in self.seen
            self.seen.add(tuple(self.owners.values()))
        assert not any(target in self.draining for _, target in moves)
        return len(moves)

    def settle(self) -> None:
        """Rounds until nobody wants to move anything; it is not for ever."""
        for _ in range(10 * len(self.owners)):
            if not self.round():
                return
        raise AssertionError("it does not come to an end")


rooms = st.integers(0, 1 << 32).map(lambda seed: Room(Random(seed)))


@settings(max_examples=60, deadline=None)
@given(rooms)
def test_moves_come_to_an_end_and_leave_nobody_with_too_much(room: Room) -> None:
    """Under a load that stays, no state comes back, and in the end no single shard would bring two nodes closer."""
    room.settle()
    average = sum(map(room.carried, room.nodes)) / len(room.nodes)
    extra = average - len(room.owners) / len(room.nodes)
    most, least = max(room.nodes, key=room.carried), min(room.nodes, key=room.carried)
    apart = room.carried(most) - room.carried(least)
    weights = [1 + room.loads[shard].weight for shard, owner in room.owners.items() if owner == most]
    assert all(apart - weight < 1 + SLACK * extra + 1e-6 for weight in weights)


@settings(max_examples=30, deadline=None)
@given(rooms)
def test_what_is_measured_a_little_differently_moves_nothing_to_and_fro(room: Room) -> None:
    """With measures that are wrong by up to 4 % no state comes back either, and few shards move once all is settled."""
    room.settle()
    assert sum(room.round(noise=0.04) for _ in range(30)) <= len(room.owners) / 2


@settings(max_examples=30, deadline=None)
@given(rooms)
def test_idle_shards_are_shared_out_by_their_number(room: Room) -> None:
    """Where nobody does anything, all have equally many in the end, or one more."""
    room.loads = dict.fromkeys(room.owners, Load())
    room.settle()
    counts = Counter(dict.fromkeys(room.nodes, 0)) + Counter(room.owners.values())
    assert max(counts.values()) - min(counts[name] for name in room.nodes) <= 1


@settings(max_examples=30, deadline=None)
@given(rooms, st.integers(1, 3))
def test_who_is_draining_gives_all_and_gets_nothing(room: Room, many: int) -> None:
    """In as few rounds as its limit allows; while it does nobody else moves anything. With nobody left, all stays."""
    room.draining = set(room.nodes[:many])
    most = max(Counter(owner for owner in room.owners.values() if owner in room.draining).values(), default=0)
    if room.draining == set(room.nodes):
        assert room.round() == 0
        return
    others = {shard for shard, owner in room.owners.items() if owner not in room.draining}
    before = dict(room.owners)
    for _ in range(-(-most // room.limit)):
        assert room.round()
        assert most == 0 or all(room.owners[shard] == before[shard] for shard in others)
    if most:
        assert not room.draining & set(room.owners.values())


def test_the_heaviest_goes_first_and_to_who_carries_least() -> None:
    """A draining node gives its busiest shard first; a full node the shard that brings it closest to the other."""
    owners = {0: "a", 1: "a", 2: "a", 3: "b", 4: "c"}
    loads = {0: Load(1.0), 1: Load(100.0), 2: Load(10.0)}
    others = {"b": Load(50.0)}
    assert moves_for(owners, loads, "abc", "a", "a", 9, others=others) == [(1, "c"), (2, "b"), (0, "b")]
    assert moves_for(owners, loads, "abc", "a", "a", 1, others=others) == [(1, "c")]
    heavy = {0: Load(COMMANDS * 4), 1: Load(COMMANDS * 2, BYTES * 2), 2: Load(COMMANDS * 3)}
    assert moves_for(dict.fromkeys(range(3), "a"), heavy, "ab", (), "a", 9) == [(1, "b")]
    assert moves_for(dict.fromkeys(range(3), "a"), heavy, "ab", (), "a", 9, fixed=(1,)) == [(0, "b")]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_moves_nothing(limit: int) -> None:
    """Whoever has two moves under way asks for none."""
    assert moves_for({0: "a", 1: "a"}, {}, "ab", "a", "a", limit) == []


def test_what_is_moving_already_counts_for_its_target() -> None:
    """A shard that is on its way weighs there already, so that not too many follow it; and it is not moved twice."""
    owners = dict.fromkeys(range(4), "a")
    assert moves_for(owners, {}, "ab", (), "a", 9) == [(3, "b"), (2, "b")]
    assert moves_for(owners, {}, "ab", (), "a", 9, moving={3: "b"}) == [(2, "b")]
    assert moves_for(owners, {}, "ab", (), "a", 9, moving={3: "b", 0: "b"}) == []
    assert moves_for(owners, {}, "ab", "a", "a", 9, moving={3: "b"}) == [(0, "b"), (1, "b"), (2, "b")]
