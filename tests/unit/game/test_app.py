"""The card room as an application: the settings it takes, and those that it refuses before anything starts."""

from __future__ import annotations

import pytest

from game.app import TREES, CardRoom, application
from game.gateway import GatewaySettings
from game.messages import TableConfig
from runtime import Misuse


def test_settings_have_defaults() -> None:
    """Without a setting there are two tables with bots, and a gateway on a free port of this machine."""
    tables = tuple(TableConfig(name, turn_seconds=20.0, pause_seconds=2.0) for name in TREES[:2])
    room = application({})
    assert (room.start, room.label) == (CardRoom, "card room")
    assert room.args == (tables, True, 1.0, 100_000_000, GatewaySettings(grant=100_000_000))


def test_settings_are_taken() -> None:
    """Each setting reaches what it is for."""
    settings = {
        "tables": "1",
        "seats": "2",
        "bots": "no",
        "think": "0",
        "pause": "0.5",
        "turn": "9",
        "away": "0",
        "grant": "7",
    }
    room = application({**settings, "listen": "0.0.0.0:4000", "remote": "yes"})
    tables = (TableConfig("oak", seats=2, turn_seconds=9.0, pause_seconds=0.5, away_hands=0),)
    assert room.args == (tables, False, 0.0, 7, GatewaySettings(listen="0.0.0.0:4000", remote=True, grant=7))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"table": "1"}, "there is no setting 'table'"),
        ({"tables": "9"}, "the setting tables is a whole number from 1 to 8, got '9'"),
        ({"seats": "-2"}, "the setting seats is a whole number from 2 to 10"),
        ({"bots": "maybe"}, "the setting bots is yes or no, got 'maybe'"),
        ({"remote": "maybe"}, "the setting remote is yes or no, got 'maybe'"),
        ({"away": "-1"}, "the setting away is a whole number from 0 to 1000000, got '-1'"),
        ({"turn": "nan"}, "the setting turn is seconds from 0 to 86400"),
        ({"listen": "nonsense"}, "wanted an address like 127.0.0.1:4000, got 'nonsense'"),
        ({"listen": "0.0.0.0:0"}, "wanted a loopback address to listen on, got '0.0.0.0:0'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, str], said: str) -> None:
    """A mistake in a setting is told before anything starts, as one of usage."""
    with pytest.raises(Misuse) as caught:
        application(settings)
    assert str(caught.value).startswith(said)
