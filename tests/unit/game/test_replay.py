"""`banyan replay` on several nodes, as real processes: exact, also when one of them is killed."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest

from game import replay_command
from game.deal import deal_from, shuffle_deck
from game.hand import CheckOrCall, Fold, Hand
from tests.unit.cli.running import Place
from tests.unit.game.samples import written

pytestmark = [pytest.mark.processes, pytest.mark.slow]

# A name may have blanks, and a player may be at both tables.
TABLES = {"north": ("Ann", "Bob the 2nd", "Cy"), "south": ("Dee", "Ann")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with two files of two hands each."""
    rng = random.Random(1)
    for name, players in TABLES.items():
        texts = []
        for number in (1, 2):
            stacks = tuple(10_000 for _ in players)
            hand = Hand(deal_from(shuffle_deck(rng), number, players, stacks, (50, 100)))
            if len(players) == 3:
                actor = hand.actor
                assert actor is not None
                hand.act(actor, Fold())
            while (actor := hand.actor) is not None:
                hand.act(actor, CheckOrCall())
            texts.append(written(hand))
        (tmp_path / f"{name}.txt").write_text("\n\n".join(texts))
    return Place(tmp_path)


def test_two_nodes_play_what_one_plays(place: Place) -> None:
    """Each file's hands come out as recorded, also over moves and the death of a node; nothing is lost or doubled."""
    files = ("north.txt", "south.txt")
    told = place.json("replay", *files, "--nodes", "2", "--node-kills", "1", "--moves", "2", "--data", "d")
    chips = 2 * 10_000 * 5
    expected = {
        "hands": 4,
        "mismatches": 0,
        "chips_in": chips,
        "chips_out": chips,
        "node_kills": 1,
        "moves": 2,
        "lost_commands": 0,
        "doubled_commands": 0,
    }
    assert {key: told[key] for key in expected} == expected
    stores = sorted(one.name.rpartition("-")[2] for one in (place.folder / "d" / "store").glob("replay-*"))
    assert stores == ["1", "2"]


def test_players_come_and_go(place: Place) -> None:
    """A file may name more players than its table has seats: who does not play the next hand leaves, with all chips."""
    rng = random.Random(2)
    players = [f"p{number}" for number in range(15)]
    texts = []
    for number in range(1, 8):
        seated = tuple(players[number * 2 - 2 : number * 2 + 1])  # the last one stays for the next hand
        hand = Hand(deal_from(shuffle_deck(rng), number, seated, (10_000, 12_000, 9_000), (50, 100)))
        while (actor := hand.actor) is not None:
            hand.act(actor, CheckOrCall())
        texts.append(written(hand))
    Path(place.folder, "many.txt").write_text("\n\n".join(texts))
    told = place.json("replay", "many.txt")
    assert (told["hands"], told["mismatches"], told["lost_commands"], told["doubled_commands"]) == (7, 0, 0, 0)
    assert told["chips_in"] == told["chips_out"] > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--moves", "-1"], "--moves is -1"),
        (["--moves", "1"], "a node of its own has nobody to move a shard to"),
        (["--node-kills", "-1"], "--node-kills is -1"),
    ],
)
def test_moves_and_kills_that_cannot_be_are_refused(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With words, before a file is read."""
    parser = argparse.ArgumentParser()
    replay_command.configure(parser)
    assert replay_command.run(parser.parse_args(["north.txt", *options])) == 2
    assert capsys.readouterr().err.splitlines()[1] == f"why:  {why}"


def test_a_count_of_nodes_that_cannot_be_is_refused(place: Place) -> None:
    """Neither none nor too many; and what was begun on one node is not gone on with on two."""
    for count in ("0", "17"):
        ended = place.run("replay", "north.txt", "--nodes", count)
        assert (ended.returncode, ended.stderr.splitlines()[1]) == (2, f"why:  --nodes is {count}")
    assert place.run("demo", "--nodes", "9").returncode == 2
    (place.folder / "d").mkdir()
    (place.folder / "d" / "manifest.json").write_text('{"replay": "", "hands": 2, "version": 2}')
    ended = place.run("replay", "north.txt", "--nodes", "2", "--data", "d")
    assert ended.returncode == 5
    assert "of other files, or on another count of nodes" in ended.stderr
