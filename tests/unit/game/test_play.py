"""`banyan play` as a person would use it: lines by a pipe, against bots, at a real node."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import trio

from game.audit import audit
from game.play_screen import Screen, Unseen
from game.play_seat import MOST_OF_A_LINE, Lines, lines_of
from supervisors import open_store
from tests.unit.cli.running import BANYAN, LIMIT, Place

SETTINGS = ("tables=1", "seats=3", "think=0", "pause=0", "turn=30")
ROOM = ["game.app:application", "--data", "store", *(part for one in SETTINGS for part in ("--set", one))]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.processes
@pytest.mark.slow
def test_a_hand_is_played_by_a_pipe(place: Place) -> None:
    """Lines wait for their turn, nonsense is told, the end of the input leaves; not a chip is lost."""
    # The last line waits for the next turn, or for the loss of all chips: so the first hand has ended.
    typed = "dance\nraise 0.001\nall-in\ncall"
    with place.node(*ROOM) as node:
        played = place.run("play", "--name", "ann", "--stack", "300", stdin=typed)
        assert (played.returncode, played.stderr) == (0, "")
        assert place.run("play", "--name", "bob", "--table", "oak", stdin="leave\ncall\n").returncode == 0
        node.signal(signal.SIGTERM)
        assert node.end() == 0
    lines = played.stdout.splitlines()
    assert "you sit down with 300" in lines
    assert any(line.startswith("ann, you are at oak with 300.") for line in lines)
    assert any(line.startswith("! wanted one of: fold, ") for line in lines)
    assert any(line.startswith("! wanted an amount of chips") for line in lines)
    assert any(re.fullmatch(r"ann (raises to|calls|bets) [0-9.]+, all-in", line) for line in lines)
    assert any(re.fullmatch(r"you have [0-9.]+", line) for line in lines)
    assert lines[-1] == "you leave oak; your chips go back to your wallet"
    store = open_store(place.folder / "store", read_only=True)
    try:
        found = audit(store)
    finally:
        store.close()
    assert (found.held, found.hands > 0) == (found.granted, True)


@pytest.mark.processes
@pytest.mark.slow
def test_what_cannot_be_is_refused_in_three_parts(place: Place) -> None:
    """An unknown table or node, a name or stack that cannot be: each has its exit code, and a way on."""
    refused = [
        (("--table", "nowhere"), 4, "next: name another one with --table"),
        (("-n", "nobody"), 3, "next: name a running one: node"),
        (("--name", "a\nb"), 5, "next: choose another with --name"),
        (("--stack", "0"), 2, "next: banyan play --help tells what it takes"),
        (("--stack", "900000000"), 5, "next: try another table, or fewer chips with --stack"),
    ]
    with place.node(*ROOM):
        for options, code, advice in refused:
            ended = place.run("play", *options)
            assert (ended.returncode, ended.stderr.splitlines()[-1]) == (code, advice)
    with place.node("shop:Shop", "--name", "shop"):
        ended = place.run("play")
        assert (ended.returncode, ended.stderr.splitlines()[1]) == (5, "why: node shop has no gateway")


@pytest.mark.processes
@pytest.mark.slow
def test_without_a_node_one_is_started_and_ended(place: Place) -> None:
    """Where no node runs, the game has its own, which is gone afterwards with all that it kept."""
    scratch = place.folder / "scratch"
    scratch.mkdir()
    ended = place.run("play", "--name", "ann", stdin="leave\n", TMPDIR=str(scratch))
    assert (ended.returncode, ended.stderr) == (0, "no node is running: one is started for this game\n")
    assert ended.stdout.splitlines()[-1] == "you leave oak; your chips go back to your wallet"
    assert (list(scratch.iterdir()), list((place.folder / "banyan").glob("*.sock"))) == ([], [])


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_ends_the_game_and_its_node(place: Place, number: signal.Signals, code: int) -> None:
    """Whoever stops the game by Ctrl-C, by kill or by closing the terminal leaves no node behind."""
    scratch = place.folder / "scratch"
    scratch.mkdir()
    game = subprocess.Popen(
        [*BANYAN, "play", "--name", "ann"],
        cwd=place.folder,
        env={**place.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with game:
        try:
            assert game.stdout is not None
            assert any(line.startswith("you sit down") for line in game.stdout)
            game.send_signal(number)
            _, said = game.communicate(timeout=LIMIT)
        finally:
            game.kill()
    assert (game.returncode, said) == (code, "no node is running: one is started for this game\n")
    assert (list(scratch.iterdir()), list((place.folder / "banyan").glob("*.sock"))) == ([], [])


@pytest.mark.processes
@pytest.mark.slow
def test_a_game_goes_on_at_a_node_that_came_back(place: Place) -> None:
    """A node that is killed and started again has another port: the game finds it, and its seat."""
    with place.node(*ROOM) as node:
        game = subprocess.Popen(
            [*BANYAN, "play", "--name", "ann"],
            cwd=place.folder,
            env=place.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with game:
            try:
                assert game.stdin is not None
                assert game.stdout is not None
                assert any(line.startswith("your turn: ") for line in game.stdout)
                node.signal(signal.SIGKILL)
                node.end()
                assert any(line == "! the connection was lost: coming back\n" for line in game.stdout)
                with place.node(*ROOM):
                    assert any(line.startswith("your turn: ") for line in game.stdout)
                    game.stdin.write("call\nleave\n")
                    rest, _ = game.communicate(timeout=LIMIT)
            finally:
                game.kill()
    assert re.search("^ann (calls [0-9.]+|checks)", rest, re.MULTILINE)
    assert (game.returncode, rest.splitlines()[-1]) == (0, "you leave oak; your chips go back to your wallet")


def test_who_reads_no_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen whose reader has gone says so under a name of its own."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("w") as written:
        theirs.close()
        monkeypatch.setattr("sys.stdout", written)
        with pytest.raises(Unseen):
            Screen().say("x" * 100_000)
        monkeypatch.undo()


# -- lines ---------------------------------------------------------------------------------------------


def lines(*chunks: bytes) -> Lines:
    left = [*chunks, b""]

    async def read() -> bytes:
        return left.pop(0)

    return lines_of(read)


async def all_of(line: Lines) -> list[str]:
    found = []
    with trio.fail_after(5):
        while (one := await line()) is not None:
            found.append(one)
    return found


async def test_lines_are_cut_from_chunks() -> None:
    """A line may come in pieces, several at once, and without an end at the end."""
    assert await all_of(lines(b"fo", b"ld\ncall\r\n\nra", b"ise 4")) == ["fold", "call", "", "raise 4"]
    assert await all_of(lines()) == []


async def test_any_bytes_are_a_line() -> None:
    """What is no text is a line that means nothing; one without an end is cut, so nothing piles up."""
    assert await all_of(lines(b"\xff\xfe\n")) == ["\ufffd\ufffd"]
    found = await all_of(lines(*[b"x" * MOST_OF_A_LINE] * 4))
    assert max(map(len, found)) <= 2 * MOST_OF_A_LINE
    assert sum(map(len, found)) == 4 * MOST_OF_A_LINE
