"""Leases by each node's own clock: who is up, suspect, down, who may serve, and who may join."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.cluster.members import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    SERVE_SECONDS,
    SUSPECT_SECONDS,
    Cease,
    Changed,
    Cluster,
    Member,
    Members,
    NameTaken,
    OtherCluster,
    OtherShards,
    Serve,
    check_cluster,
    check_join,
    members_of,
)

ME = Member("a", "127.0.0.1:1", 3, 1e9, False, "disk-a", "/a")
OTHER = Member("b", "127.0.0.1:2", 5, 1e9 + LEASE_SECONDS, False, "disk-b", "/b")


def machine(sent: float = 0.0) -> Members:
    """A node that has just joined."""
    return Members(ME, 7, sent)


def serving(at: float = 0.0) -> Members:
    """A node whose lease was renewed at a time."""
    members = machine(at)
    assert members.renewed(members.renewal(1e9), at, at) == [Serve()]
    return members


def look(members: Members, now: float, *rows: tuple[int, Member], wall: float = 1e9) -> list[object]:
    """What a look at others' rows brings, while its own lease is fresh."""
    members.renewed(members.renewal(wall), now, now)
    return list(members.looked({row.name: (version, row) for version, row in rows}, now, now, wall))


def test_a_node_serves_from_its_first_renewal_on() -> None:
    """To have joined is not to serve: the first renewal that was made in time is."""
    members = machine()
    assert (members.serving, members.alive()) == (False, [])
    row = members.renewal(1e9)
    assert (row.until, row.creation, row.left) == (1e9 + LEASE_SECONDS, 3, False)
    assert members.renewed(row, 1.0, 1.5) == [Serve()]
    assert (members.serving, members.version, members.lease_end) == (True, 8, 1.0 + SERVE_SECONDS)
    assert members.alive(sure=True) == ["a"]


def test_who_cannot_renew_stops_before_others_may_take_over() -> None:
    """A lease runs from the sending of the last renewal that was made, for less than others wait."""
    members = serving(100.0)
    assert members.tick(100.0 + SERVE_SECONDS - 0.01) == []
    (ceased,) = members.tick(100.0 + SERVE_SECONDS)
    assert isinstance(ceased, Cease)
    assert (ceased.forever, members.serving) == (False, False)
    assert members.tick(200.0) == []
    assert SERVE_SECONDS + RENEW_SECONDS <= LEASE_SECONDS


def test_a_lapse_that_nobody_noticed_is_one() -> None:
    """A node that slept beyond its lease and then renews it has ceased in between: others may have acted on it."""
    members = serving(0.0)
    effects = members.renewed(members.renewal(1e9), 30.0, 30.5)
    assert [type(one) for one in effects] == [Cease, Serve]
    assert members.renewed(members.renewal(1e9), 31.0, 31.5) == []


def test_an_answer_that_came_too_late_does_not_count() -> None:
    """A renewal whose answer comes after the time that it would have given opens nothing; the next one does."""
    members = machine()
    assert members.renewed(members.renewal(1e9), 0.0, SERVE_SECONDS) == []
    assert members.renewed(members.renewal(1e9), 20.0, 21.0) == [Serve()]


def test_a_renewal_whose_answer_was_lost_does_not_count() -> None:
    """It shows in the row, and its version is the next one's; the lease is still that of the last one known."""
    members = serving(0.0)
    assert members.looked({"a": (9, ME)}, 1.0, 1.0, 1e9) == []
    assert (members.version, members.lease_end) == (9, SERVE_SECONDS)


def test_another_life_of_the_node_ends_this_one() -> None:
    """A row of another creation under the own name means for ever that somebody else bears it."""
    members = serving()
    effects = members.looked({"a": (9, replace(ME, creation=4, address="127.0.0.1:9"))}, 1.0, 1.0, 1e9)
    assert [(type(one), one.forever) for one in effects if isinstance(one, Cease)] == [(Cease, True)]
    assert "127.0.0.1:9" in str(effects[0])
    assert members.renewed(members.renewal(1e9), 2.0, 2.0) == []
    assert not members.serving


def test_silence_makes_suspect_and_then_down() -> None:
    """Counted from when this node first saw the row as it is; a renewal makes it up again."""
    members = serving()
    assert look(members, 10.0, (1, OTHER)) == [Changed(OTHER, "up", None)]
    assert look(members, 10.0 + SUSPECT_SECONDS - 0.1, (1, OTHER)) == []
    assert look(members, 10.0 + SUSPECT_SECONDS, (1, OTHER)) == [Changed(OTHER, "suspect", "up")]
    assert (members.alive(), members.alive(sure=True)) == (["a", "b"], ["a"])
    assert look(members, 10.0 + LEASE_SECONDS, (1, OTHER)) == [Changed(OTHER, "down", "suspect")]
    assert members.alive() == ["a"]
    assert look(members, 30.0, (2, OTHER)) == [Changed(OTHER, "up", "down")]
    gone = replace(OTHER, left=True)
    assert look(members, 31.0, (3, gone)) == [Changed(gone, "left", "up")]
    assert members.nodes() == {"a": (members.me, "up"), "b": (gone, "left")}


@pytest.mark.parametrize("wall", [0.0, 1e9, 1e12])
def test_no_jump_of_a_wall_clock_makes_anybody_die(wall: float) -> None:
    """Whatever the observer's clock says, a node that renews stays up, and one that does not dies no sooner."""
    members = serving()
    for version in range(1, 5):
        look(members, version * RENEW_SECONDS, (version, OTHER), wall=1e9)
    now = 4 * RENEW_SECONDS
    assert look(members, now + 1.0, (4, OTHER), wall=wall) == []
    assert look(members, now + 2.0, (5, OTHER), wall=wall) == []
    assert look(members, now + 2.0 + LEASE_SECONDS - 0.1, (5, OTHER), wall=wall) == [Changed(OTHER, "suspect", "up")]


def test_a_row_that_is_long_over_is_suspect_at_once() -> None:
    """A node that has just come does not count on one whose row is over by the wall clock, nor takes it for dead."""
    members = serving()
    wall = OTHER.until + 3600
    assert look(members, 1.0, (1, OTHER), wall=wall) == [Changed(OTHER, "suspect", None)]
    assert look(members, 1.0 + LEASE_SECONDS, (1, OTHER), wall=wall) == [Changed(OTHER, "down", "suspect")]


def test_a_node_that_was_stopped_blames_nobody_for_the_time() -> None:
    """Time that passed while it looked does not count: the rows are from before."""
    members = serving()
    look(members, 10.0, (1, OTHER))
    members.renewed(members.renewal(1e9), 40.0, 40.0)
    assert members.looked({"b": (1, OTHER)}, 11.0, 40.0, 1e9) == []


def test_a_new_life_is_told_of_as_a_new_node() -> None:
    """A node that was started again is up, and was nothing before: its old pids are dead."""
    members = serving()
    look(members, 1.0, (1, OTHER))
    again = replace(OTHER, creation=6)
    assert look(members, 2.0, (2, again)) == [Changed(again, "up", None)]


def test_who_leaves_says_so_and_serves_no_more() -> None:
    """The row of a good-bye ends the lease with it."""
    members = serving()
    row = members.renewal(1e9, left=True)
    assert members.renewed(row, 1.0, 1.0) == [Cease("it has left the cluster")]
    assert members.nodes() == {"a": (row, "left")}


# -- joining ---------------------------------------------------------------------------------------------


def test_the_creation_rises_with_each_life() -> None:
    """It is that of the store, or one above that of the last life, whichever is more; at least 1."""
    assert check_join(replace(ME, creation=0), None, 1e9) == 1
    assert check_join(ME, None, 1e9) == 3
    assert check_join(ME, replace(ME, creation=9, left=True), 1e9) == 10
    assert check_join(ME, replace(ME, creation=1), 1e9) == 3


def test_a_node_that_was_killed_is_back_at_once() -> None:
    """The same data in the same place is the same node: it need not wait for the end of its own lease."""
    assert check_join(ME, replace(ME, until=1e9 + 9, address="elsewhere"), 1e9) == 4


@pytest.mark.parametrize("other", [{"store": "disk-x"}, {"data": "/copy"}, {"store": "", "data": ""}])
def test_two_nodes_of_one_name_are_refused(other: dict[str, str]) -> None:
    """While the other's lease holds, a second node of its name is told where the first one is and what to do."""
    found = replace(ME, until=1e9 + 6, **other)
    with pytest.raises(NameTaken, match=r"'a' is in the cluster already, at 127\.0\.0\.1:1 .*choose another name.*6 s"):
        check_join(ME, found, 1e9)
    assert check_join(ME, found, 1e9 + 6) == 4
    assert check_join(ME, replace(found, left=True), 1e9) == 4


def test_nodes_that_keep_nothing_wait_for_each_other() -> None:
    """Without data nobody can prove to be the same node: the name is free when the lease is over."""
    nobody = replace(ME, store="", data="", until=1e9 + 6)
    with pytest.raises(NameTaken, match="no directory"):
        check_join(nobody, nobody, 1e9)
    assert check_join(nobody, nobody, 1e9 + 6) == 4


def test_another_clusters_data_and_another_count_are_refused() -> None:
    """Both are told what is there, what was wanted and what to do."""
    cluster = Cluster("c1", 256)
    check_cluster(cluster, None, "")
    check_cluster(cluster, 256, "c1")
    with pytest.raises(OtherCluster, match=r"belong to cluster c2, .* that of cluster c1: name the data directory"):
        check_cluster(cluster, 256, "c2")
    with pytest.raises(OtherShards, match=r"made with 256 shards, and 64 are configured: .* so set it to 256"):
        check_cluster(cluster, 64, "c1")


def test_members_are_found_among_all_rows() -> None:
    """Rows of other kinds are passed over."""
    rows = [("cluster", 1, Cluster("c", 1)), ("member/a", 2, ME)]
    assert members_of(rows) == {"a": (2, ME)}
