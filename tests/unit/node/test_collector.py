"""What a node does about Python's garbage collector."""

from __future__ import annotations

import gc

import pytest

from runtime import Misuse
from supervisors import Node, Supervisor
from supervisors.node.config import BadConfig, configure


class Empty(Supervisor):
    """An application without children."""


@pytest.mark.parametrize("entrance", ["start", "ensure_all_started"])
async def test_freeze_puts_aside_what_the_start_has_made(entrance):
    """Once an application is up, what there is is out of the collector's sight; at the node's end it is back."""
    assert gc.get_freeze_count() == 0
    async with Node("n", gc_policy="freeze") as node:
        assert gc.get_freeze_count() == 0
        await getattr(node, entrance)(Empty)
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


async def test_an_embedded_node_leaves_the_collector_alone():
    """A host's collector is not the node's: by default nothing is frozen."""
    async with Node("n") as node:
        await node.start(Empty)
        assert gc.get_freeze_count() == 0


def test_a_policy_is_one_of_two():
    """Anything else is told at once."""
    with pytest.raises(Misuse, match="gc_policy is 'freeze', or 'python'"):
        Node("n", gc_policy="never")


@pytest.mark.parametrize(
    ("flags", "environ", "text", "policy"),
    [
        ({}, {}, "", "freeze"),
        ({"gc": "python"}, {}, '[node]\ngc = "freeze"\n', "python"),
        ({}, {"BANYAN_GC": "python"}, "", "python"),
        ({}, {}, '[node]\ngc = "python"\n', "python"),
    ],
    ids=["default", "flag", "environment", "file"],
)
def test_a_started_node_freezes_unless_told_otherwise(tmp_path, flags, environ, text, policy):
    """`banyan start` sets the policy; a flag, a variable or the file changes it."""
    assert configure(flags, environ, (tmp_path / "banyan.toml", text)).gc == policy


def test_a_wrong_policy_is_a_bad_configuration():
    """The source of the mistake is named."""
    with pytest.raises(BadConfig, match="gc"):
        configure({"gc": "never"}, {})
