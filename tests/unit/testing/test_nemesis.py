"""Plans of faults: drawn from dice, before the run."""

from __future__ import annotations

import random

import pytest

from runtime.errors import Misuse
from runtime.testing import Fault, Menu, chosen, plan, swarm

MENU = {"kill": Menu(3.0), "full": Menu(1.0, (0.5, 2.0)), "never": Menu(0.0)}


def test_a_plan_is_a_function_of_its_dice() -> None:
    """The same dice make the same plan; its faults lie in their bounds, and what has no weight is not among them."""
    first = plan(random.Random(4), MENU, 300, 50)
    assert first == plan(random.Random(4), MENU, 300, 50)
    assert {fault.kind for fault in first} == {"kill", "full"}
    assert all(fault.after >= 1 and 0 <= fault.choice < 1 for fault in first)
    assert all(0.5 <= f.seconds <= 2.0 if f.kind == "full" else f.seconds == 0 for f in first)
    assert 35 < sum(fault.after for fault in first) / len(first) < 65


@pytest.mark.parametrize(("menu", "count"), [({}, 5), ({"never": Menu(0.0)}, 5), (MENU, 0)])
def test_an_empty_menu_is_an_empty_plan(menu: dict[str, Menu], count: int) -> None:
    """Where nothing may happen, nothing does."""
    assert plan(random.Random(1), menu, count, 10) == ()


@pytest.mark.parametrize(("count", "steps"), [(-1, 10), (1, 0)])
def test_a_plan_out_of_bounds_is_misuse(count: int, steps: int) -> None:
    """Fewer than no faults, or no steps between them, is refused."""
    with pytest.raises(Misuse, match="0 faults or more"):
        plan(random.Random(1), MENU, count, steps)


def test_a_swarm_leaves_kinds_out_and_changes_weights() -> None:
    """Over many runs every subset of kinds occurs, and no weight grows or shrinks beyond threefold or so."""
    menus = [swarm(random.Random(seed), MENU) for seed in range(100)]
    assert {frozenset(menu) for menu in menus} >= {frozenset(), frozenset(("kill",)), frozenset(MENU)}
    assert {round(menu["kill"].weight, 3) for menu in menus if "kill" in menu} == {0.9, 3.0, 9.0}


def test_a_choice_falls_on_one_of_those_there_are() -> None:
    """From 0 up to below 1 a choice names each candidate once; of nobody it names nobody."""
    assert [chosen("abc", choice) for choice in (0.0, 0.34, 0.67, 0.999)] == ["a", "b", "c", "c"]
    assert chosen("", 0.5) is None
    assert Fault("kill", 1, 0.5, 0.0) == Fault("kill", 1, 0.5, 0.0)
