"""Records: frozen values under registered names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from runtime import Call, Cast, Misuse, message


@message("unit.kernel.ask")
class Ask(Call[int]):
    amount: int
    note: str = ""


def test_a_record_is_a_frozen_slotted_value():
    """Equal fields make equal records; nothing can be changed or added after it was made."""
    ask = Ask(5)
    assert (ask, hash(ask), repr(ask)) == (Ask(5, ""), hash(Ask(5)), "Ask(amount=5, note='')")
    assert Ask(5) != Ask(6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ask.amount = 6  # type: ignore[misc]  # what this test refuses
    assert not hasattr(ask, "__dict__")


def test_a_record_matches_by_its_fields():
    """A record works in `match`, by position in the order of its fields."""
    match Ask(5, "x"):
        case Ask(amount, note):
            assert (amount, note) == (5, "x")


@pytest.mark.parametrize("name", ["", "Wallet", "a..b", ".a", "a.", "a-b", "1a", "a b"])
def test_a_malformed_name_is_refused(name):
    """A message's name is dotted lower-case words."""
    with pytest.raises(Misuse, match="dotted lower-case words"):
        message(name)


def test_versions_count_from_one():
    """A version below 1 is refused when the class is made."""
    with pytest.raises(Misuse, match="versions count from 1"):
        message("unit.kernel.version", version=0)


def test_a_name_belongs_to_one_class():
    """A second class under a name that is taken is refused, with both classes named."""

    class Other(Cast):
        pass

    with pytest.raises(Misuse, match=r"belongs to tests\.unit\.kernel\.test_messages\.Ask.*Other another"):
        message("unit.kernel.ask")(Other)


def test_a_class_may_be_made_again():
    """A module that is imported again registers the same names again."""
    made: list[Any] = [message("unit.kernel.again")(dataclasses.make_dataclass("Again", [])) for _ in range(2)]
    assert made[0] is not made[1]
