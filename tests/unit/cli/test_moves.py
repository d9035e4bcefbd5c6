"""`banyan move`, `drain`, `adopt`, `rebalance` and `moves`: what they ask, what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.observe.protocol import Abort, Adopt, Code, Drain, Move, Moves, Plan, Rebalance, Refusal, Request
from supervisors.cli import drain, following, target
from supervisors.cli.main import main

# An answer, or what is raised.
Answer = dict[str, Any] | Refusal


def fact(**more: Any) -> dict[str, Any]:
    """A move as a node tells of it."""
    plain = {"id": "m1", "shard": 3, "source": "a", "target": "b", "phase": "copying", "bytes": 1 << 20}
    plain |= {"total": 4 << 20, "held": 2, "freeze_ms": None, "why": "", "started": 1000.0, "ended": 0.0}
    return {**plain, **more}


def standing(**more: Any) -> dict[str, Any]:
    """How a node stands."""
    return {"node": "a", "draining": True, "owned": 2, "why": "", **more}


def told(*moves: dict[str, Any], nodes: tuple[dict[str, Any], ...] = (), silent: tuple[str, ...] = ()) -> Answer:
    """An answer to `moves`."""
    return {"node": "a", "moves": list(moves), "nodes": list(nodes), "silent": list(silent)}


BEGUN = {"move": "m1", "shard": 3, "source": "a", "target": "b"}
DONE = fact(phase="retired", bytes=4 << 20, held=0, freeze_ms=3.25, ended=1001.5)


class Played:
    """A node that answers as a test has laid down: the last answer of a kind again and again."""

    timeout = 5.0
    path = Path("a.sock")

    def __init__(self, answers: dict[type[Request], list[Answer]]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def request(self, request: Request, *, timeout: float | None = None) -> Any:
        """The next answer to a request of that kind."""
        self.asked.append(request)
        left = self.answers[type(request)]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Refusal):
            raise answer
        return answer


Play = Callable[..., Played]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Lays down what the node answers that the command finds; no time passes between two looks."""
    now = [0.0]

    def played(answers: dict[type[Request], list[Answer]]) -> Played:
        node = Played(answers)
        monkeypatch.setattr(target, "AdminClient", lambda path, timeout: node)
        return node

    def pause(_client: object, length: float) -> None:
        now[0] += length

    monkeypatch.setattr(target, "_socket", lambda args: Path(f"{args.name}.sock"))
    monkeypatch.setattr(following, "pause", pause)
    monkeypatch.setattr(following, "monotonic", lambda: now[0])
    monkeypatch.setattr(drain, "nodes", list)
    return played


def parts(said: str) -> list[str]:
    """The labels of what stderr says."""
    return [line.partition(":")[0] for line in said.splitlines()]


def test_a_move_is_seen_through(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked for once, looked at until it is over, and told in one line, or as JSON; exit 0."""
    node = play({Move: [BEGUN], Moves: [told(), told(fact()), told(fact(phase="sealed")), told(DONE)]})
    assert main(["move", "3", "b"]) == 0
    assert capsys.readouterr() == ("shard 3 went from a to b: 4.0 MiB in 1.5 s, frozen for 3.2 ms\n", "")
    assert [one for one in node.asked if isinstance(one, Move)] == [Move(shard=3, node="b")]
    assert main(["move", "3", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DONE


def test_a_dry_run_changes_nothing(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It tells what would move and the freeze that is expected, and asks for nothing else."""
    said = {"shard": 3, "source": "a", "target": "b", "keys": 1200, "bytes": 5 << 20, "entities": 7, "freeze_ms": 2.5}
    node = play({Plan: [said]})
    assert main(["move", "3", "b", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "shard     3, from a to b",
        "keys      1,200, about 5.0 MiB",
        "entities  7 run, and go on there",
        "frozen    for about 2.5 ms",
    ]
    assert main(["move", "3", "b", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert node.asked == [Plan(shard=3, node="b")] * 2


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (Refusal("shard 9 was not moved", "there is no shard 9", "banyan shards", Code.NOT_FOUND), 4, "no shard 9"),
        (Refusal("shard 3 was not moved", "b is draining", "banyan nodes", Code.REFUSED), 5, "b is draining"),
        (Refusal("shard 3 was not moved", "a cannot be reached", "banyan nodes", Code.UNREACHABLE), 3, "reached"),
        (Refusal("shard 3 was not moved", "no answer", "banyan doctor", Code.TIMEOUT), 6, "no answer"),
    ],
)
def test_a_move_that_is_refused_says_why(
    play: Play, capsys: pytest.CaptureFixture[str], answer: Refusal, code: int, says: str
) -> None:
    """Three parts on stderr, nothing on stdout, and the exit code of the refusal."""
    play({Move: [answer]})
    assert main(["move", "3", "b"]) == code
    out, err = capsys.readouterr()
    assert (out, parts(err)) == ("", ["what", "why", "next"])
    assert says in err


@pytest.mark.parametrize(
    ("copied", "why", "code"),
    [
        (0, "b has no code for till of version 2", 5),
        (0, "b has two moves coming in already", 5),
        (1 << 20, "b: no space left on device", 1),
        (1 << 20, "the digest is another", 1),
    ],
)
def test_a_void_move_says_why_and_who_serves(
    play: Play, capsys: pytest.CaptureFixture[str], copied: int, why: str, code: int
) -> None:
    """A target that will not have it is a refusal; what went wrong later is a failure. The shard stays where it is."""
    play({Move: [BEGUN], Moves: [told(fact()), told(fact(phase="void", bytes=copied, why=why, ended=1002.0))]})
    assert main(["move", "3", "b"]) == code
    out, err = capsys.readouterr()
    assert (out, parts(err)) == ("", ["what", "why", "next"])
    assert f"why: {why}\n" in err
    assert "a serves it as before" in err


def test_a_move_that_takes_too_long_goes_on(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """After --wait seconds the command ends with 6 and says so; one that nobody knows of any more ends with 1."""
    play({Move: [BEGUN], Moves: [told(fact())]})
    assert main(["move", "3", "b", "--wait", "3"]) == 6
    assert "after 3 s it is copying; it goes on" in capsys.readouterr().err
    play({Move: [BEGUN], Moves: [told(silent=("a",))]})
    assert main(["move", "3", "b", "--wait", "30"]) == 6
    assert "it is out of sight" in capsys.readouterr().err
    play({Move: [BEGUN], Moves: [told(fact()), told()]})
    assert main(["move", "3", "b"]) == 1
    assert "banyan shards tells who owns it now" in capsys.readouterr().err


def test_a_drain_is_seen_through(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends when the node has no shards; what stands in the way is told on stderr as soon as it is known."""
    looks = [
        told(nodes=(standing(owned=left, why=why),)) for left, why in ((2, ""), (1, "shard 3: b is busy"), (0, ""))
    ]
    node = play({Drain: [standing()], Moves: looks})
    assert main(["drain", "a"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a has no shards: 2 went to others in ")
    assert err == "a: shard 3: b is busy\n"
    assert node.asked[:2] == [Drain(node="a"), Moves(of="a")]
    assert main(["drain", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["node"], said["owned"], said["moved"]) == ("a", 0, 2)


def test_a_drain_that_does_not_end_says_what_is_left(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """Out of time: 6, and it goes on; undone by somebody else: 1; nowhere to go: refused."""
    play({Drain: [standing()], Moves: [told(nodes=(standing(why="no other node is up"),))]})
    assert main(["drain", "a", "--wait", "2"]) == 6
    assert "after 2 s it has 2 of 2 shards; it goes on (no other node is up)" in capsys.readouterr().err
    play({Drain: [standing()], Moves: [told(nodes=(standing(draining=False),))]})
    assert main(["drain", "a"]) == 1
    assert "its drain was undone" in capsys.readouterr().err
    again = told(nodes=(standing(draining=False, creation=2),))
    play({Drain: [standing(creation=1)], Moves: [told(nodes=(standing(creation=1),)), again]})
    assert main(["drain", "a"]) == 1
    assert "a was started again meanwhile, and takes part again" in capsys.readouterr().err
    play({Drain: [Refusal("node a does not drain", "there is no other node", "banyan nodes", Code.REFUSED)]})
    assert main(["drain", "a"]) == 5
    assert "there is no other node" in capsys.readouterr().err


def test_a_drain_is_undone(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked for, and nothing is waited for."""
    node = play({Drain: [standing(draining=False)]})
    assert main(["drain", "--undo"]) == 0
    assert capsys.readouterr().out == "a takes part again; it has 2 shards\n"
    assert node.asked == [Drain(undo=True)]


def test_a_dead_nodes_store_is_adopted_and_given_back(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked for once; who serves how many shards out of which directory is one line, a refusal has its code."""
    said = {"node": "b", "by": "a", "data": "/srv/b", "shards": 3}
    node = play({Adopt: [said]})
    assert main(["adopt", "b"]) == 0
    assert capsys.readouterr().out == "a serves 3 shards out of /srv/b, in the place of b\n"
    assert main(["adopt", "b", "--undo"]) == 0
    assert capsys.readouterr().out == "a has let go of /srv/b: b can be started, and then has its 3 shards\n"
    assert main(["adopt", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert node.asked == [Adopt(node="b"), Adopt(node="b", undo=True), Adopt(node="b")]
    play({Adopt: [Refusal("node b was not adopted", "it is up", "banyan drain b", Code.REFUSED)]})
    assert main(["adopt", "b"]) == 5
    assert parts(capsys.readouterr().err) == ["what", "why", "next"]


def test_the_moves_are_a_table(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, with how far it is and why it was given up; who drains and who is silent stand above."""
    void = fact(id="m0", phase="void", why="the target was started again", ended=1.0)
    said = told(void, fact(freeze_ms=2.0), nodes=(standing(why="shard 3: b is busy"),), silent=("c",))
    play({Moves: [said]})
    assert main(["moves"]) == 0
    drains, silent, head, first, second = capsys.readouterr().out.splitlines()
    assert drains == "a drains, and has 2 shards left (shard 3: b is busy)"
    assert silent == "no word from c"
    assert head.split() == ["ID", "SHARD", "FROM", "TO", "PHASE", "COPIED", "HELD", "FREEZE", "SINCE", "WHY"]
    assert first.split()[:5] == ["m0", "3", "a", "b", "void"]
    assert first.endswith("the target was started again")
    assert "1.0 MiB of 4.0 MiB     2  2.0 ms" in second
    assert main(["moves", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == said
    play({Moves: [told()]})
    assert main(["moves", "--of", "b"]) == 0
    assert capsys.readouterr().out == "no shard moves, and none has moved of late\n"


def test_a_move_is_given_up(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """--abort names it; one that is sealed is refused, one that nobody knows is not found."""
    node = play({Abort: [fact()]})
    assert main(["moves", "--abort", "m1"]) == 0
    assert capsys.readouterr().out == "the move of shard 3 to b is given up; a serves it as before\n"
    assert node.asked == [Abort(move="m1")]
    play({Abort: [Refusal("move m1 was not given up", "it is sealed and goes through", "banyan moves", Code.REFUSED)]})
    assert main(["moves", "--abort", "m1"]) == 5
    assert "it is sealed" in capsys.readouterr().err
    assert main(["moves", "--abort", "m1", "--of", "a"]) == 2


def test_the_load_is_evened_out(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """--plan says which shards would move; without it all nodes are asked to look."""
    play({Plan: [{"moves": [{"shard": 7, "source": "a", "target": "b"}], "silent": []}]})
    assert main(["rebalance", "--plan"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["SHARD", "FROM", "TO"], ["7", "a", "b"]]
    play({Plan: [{"moves": [], "silent": ["b"]}]})
    assert main(["rebalance", "--plan"]) == 0
    assert capsys.readouterr().out == "no word from b\nnothing would move: the load is even enough\n"
    play({Rebalance: [{"asked": ["a", "b"], "silent": []}]})
    assert main(["rebalance"]) == 0
    assert capsys.readouterr().out == "asked a, b: banyan moves --watch shows what moves\n"


@pytest.mark.parametrize(
    "typed",
    [
        ["move"],
        ["move", "3"],
        ["move", "three", "b"],
        ["move", "-1", "b"],
        ["move", "99999999999", "b"],
        ["move", "3", "b", "--wait", "soon"],
        ["drain", "a", "--wait", "-1"],
        ["drain", "a", "b"],
        ["adopt"],
        ["rebalance", "a"],
        ["moves", "--abort"],
        ["moves", "--abort", "m1", "--watch"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(play: Play, capsys: pytest.CaptureFixture[str], typed: list[str]) -> None:
    """What cannot be meant asks no node."""
    node = play({})
    try:
        code: object = main(typed)
    except SystemExit as end:
        code = end.code
    assert (code, capsys.readouterr().out, node.asked) == (2, "", [])
