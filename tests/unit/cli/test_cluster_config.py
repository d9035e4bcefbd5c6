"""How a node's cluster is configured: flags, BANYAN_*, and the table [cluster] of banyan.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.errors import Misuse
from supervisors import Cluster
from supervisors.cli.start import cluster_of
from supervisors.node.config import BadConfig, configure
from supervisors.node.node import NodeStopped

FILE = """
[cluster]
address = "10.0.0.1:4370"
certs = "certs"
coordination = "shared"
shards = 64
peers = { b = "10.0.0.2:4370" }
"""


def configured(
    flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None, text: str = ""
) -> Cluster | None:
    return cluster_of(configure(flags or {}, environ or {}, (Path("/etc/room/banyan.toml"), text) if text else None))


def test_a_node_that_is_told_nothing_is_on_its_own() -> None:
    """Without any of its keys there is no cluster; the application's own address is none of them."""
    assert configured() is None
    assert configured({"listen": "127.0.0.1:80"}) is None
    assert configured({"clear": False}, {}, "[cluster]\n") is None


def test_the_file_says_it_all() -> None:
    """The table [cluster]; its paths are looked for from the file's own folder."""
    assert configured(text=FILE) == Cluster(
        listen="10.0.0.1:4370",
        peers={"b": "10.0.0.2:4370"},
        certs="/etc/room/certs",
        coordination="/etc/room/shared",
        shards=64,
    )


def test_a_node_may_be_told_not_to_even_out_the_load() -> None:
    """By the file or a variable; alone it makes no cluster."""
    assert configured(text="[cluster]\nrebalance = false\n") is None
    found = configured(text=FILE + "rebalance = false\n")
    assert found is not None
    assert not found.rebalance
    again = configured({"address": "127.0.0.1:2", "clear": True}, {"BANYAN_REBALANCE": "false"})
    assert again == Cluster(listen="127.0.0.1:2", clear=True, rebalance=False)


def test_a_node_may_be_told_how_long_it_keeps_what_was_moved_away() -> None:
    """By the file or a variable, in seconds from 0 up; alone it makes no cluster. What is none is exit 2."""
    assert configured(text="[cluster]\ngrace = 60\n") is None
    for grace in ("60", "0", "86400.5"):
        found = configured(text=FILE + f"grace = {grace}\n")
        assert found is not None
        assert found.grace == float(grace)
    again = configured({"address": "127.0.0.1:2", "clear": True}, {"BANYAN_GRACE": "7.5"}, "[cluster]\ngrace = 60\n")
    assert again == Cluster(listen="127.0.0.1:2", clear=True, grace=7.5)
    for grace in ("-1", "inf", "nan"):
        with pytest.raises(BadConfig, match="it is a finite number of seconds, from 0 up; 300 is the default"):
            configured(text=FILE + f"grace = {grace}\n")
        with pytest.raises(Misuse, match="wanted a grace of a finite number of seconds"):
            Cluster(listen="127.0.0.1:2", clear=True, grace=float(grace)).check("a")
    with pytest.raises(BadConfig, match="grace cannot be 'long'"):
        configured({}, {"BANYAN_GRACE": "long"})


def test_flags_go_before_variables_and_those_before_the_file() -> None:
    """Each key by itself, as everywhere."""
    environ = {"BANYAN_ADDRESS": "127.0.0.1:1", "BANYAN_SHARDS": "8", "BANYAN_PEERS": "c=unix:/c, d=unix:/d"}
    found = configured({"address": "127.0.0.1:2", "clear": True}, environ, '[cluster]\nid = "room"\nshards = 4\n')
    peers = {"c": "unix:/c", "d": "unix:/d"}
    assert found == Cluster(listen="127.0.0.1:2", clear=True, shards=8, peers=peers, id="room")
    assert configured({"peers": ["b=127.0.0.1:3"]}, environ) == Cluster(
        listen="127.0.0.1:1", shards=8, peers={"b": "127.0.0.1:3"}
    )


@pytest.mark.parametrize(
    ("flags", "environ", "text", "says"),
    [
        ({}, {"BANYAN_ADRESS": "x"}, "", "did you mean 'BANYAN_ADDRESS'?"),
        ({}, {}, '[cluster]\nadress = "x"\n', "did you mean 'address'?"),
        ({}, {}, '[clutser]\naddress = "x"\n', "did you mean 'cluster'?"),
        ({}, {}, '[node]\naddress = "x"\n', "there is no node.address"),
        ({}, {}, "[cluster]\ncluster_id = 'x'\n", "there is no cluster.cluster_id"),
        ({"peers": ["b"]}, {}, "", "wanted NAME=ADDRESS, got 'b'"),
        ({"shards": "many"}, {}, "", "shards cannot be 'many'"),
        ({"peers": ["=x"]}, {}, "", "write --peer"),
    ],
)
def test_what_means_nothing_is_refused(flags, environ, text, says) -> None:
    """An unknown key or a value that is none is exit 2, with what was probably meant."""
    with pytest.raises(BadConfig) as caught:
        configured(flags, environ, text)
    assert says in str(caught.value)
    assert caught.value.code == 2


def test_every_end_in_a_cluster_has_its_exit_code() -> None:
    """Not to belong is refused (5), keys that are missing are wrong usage (2); each in three parts."""
    from runtime.cluster.members import LeaseLost, OtherShards
    from runtime.cluster.tls import NoKeys
    from supervisors.cli.explain import explain

    for error, code, says in (
        (OtherShards(256, 8), 5, "so set it to 256"),
        (NoKeys("0.0.0.0:1", "a"), 2, "banyan certs node a --dir certs"),
        (NodeStopped("a", LeaseLost("another node has its place")), 5, "must not be started beside it"),
    ):
        failure = explain(error)
        assert (failure.code, bool(failure.what), bool(failure.why)) == (code, True, True)
        assert says in failure.next
