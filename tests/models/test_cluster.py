"""Membership and placement against what must hold of them, under every order of steps that Hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from .cluster import Broken, Model
from .cluster_planted import PLANTED, hunt, walk

hosts = st.integers(0, 2)


class Cluster(RuleBasedStateMachine):
    """Three nodes, two with a disk; all the steps of `Model`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model().__enter__()

    def teardown(self) -> None:
        try:
            self.model.settle()
        finally:
            self.model.__exit__()

    @rule(host=hosts)
    def start(self, host: int) -> None:
        self.model.start(self.model.hosts[host])

    @rule(host=hosts)
    def begin(self, host: int) -> None:
        self.model.begin(self.model.hosts[host])

    @rule(host=hosts)
    def serve(self, host: int) -> None:
        self.model.serve(self.model.hosts[host])

    @rule(host=hosts)
    def hear(self, host: int) -> None:
        self.model.hear(self.model.hosts[host])

    @rule(host=hosts)
    def round(self, host: int) -> None:
        self.model.round(self.model.hosts[host])

    @rule(host=hosts, late=st.booleans())
    def deafen(self, host: int, late: bool) -> None:
        self.model.deafen(self.model.hosts[host], late=late)

    @rule()
    def land(self) -> None:
        self.model.land()

    @rule(host=hosts)
    def crash(self, host: int) -> None:
        self.model.crash(self.model.hosts[host])

    @rule(host=hosts)
    def leave(self, host: int) -> None:
        self.model.leave(self.model.hosts[host])

    @rule(host=hosts, other=hosts)
    def adopt(self, host: int, other: int) -> None:
        self.model.adopt(self.model.hosts[host], self.model.hosts[other])

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 9.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.model.wait(seconds)

    @rule(host=hosts, seconds=st.sampled_from([-3600.0, -5.0, 5.0, 3600.0]))
    def jump(self, host: int, seconds: float) -> None:
        self.model.jump(self.model.hosts[host], seconds)

    @rule(host=hosts, choice=st.integers(0, 7))
    def write(self, host: int, choice: int) -> None:
        self.model.write(self.model.hosts[host], choice)


def test_no_order_of_steps_breaks_it() -> None:
    """Whatever Hypothesis lets happen to three nodes, no shard has two owners, and all are served in the end."""
    run_state_machine_as_test(Cluster, settings=settings(max_examples=60, stateful_step_count=60, deadline=None))


def test_long_walks_break_nothing_and_reach_everything() -> None:
    """In 80 long random walks nothing breaks, and every sort of fault and of trouble was met."""
    passed: set[str] = set()
    for seed in range(80):
        passed |= walk(seed)
    assert passed == {
        *("crash", "fenced", "late change", "left", "lost answer", "written"),
        *("adopted", "given up", "store in use", "written in adopted"),
    }


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug is found within the seeds that it may take, by one of the rules that it breaks."""
    found = hunt(name)
    assert found is not None
    assert found.by in PLANTED[name].by


def test_a_planted_bug_leaves_no_trace() -> None:
    """After a hunt the program is as it was."""
    seed = hunt("cas_ignores_version").seed
    walk(seed)


def test_what_breaks_has_a_name() -> None:
    """`Broken` tells which rule it was."""
    with Model() as model:
        model.highest[1] = 5
        with pytest.raises(Broken, match=r"^twice: "):
            model._owned(model.hosts[0], 1, 5)
