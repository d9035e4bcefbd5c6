"""The command itself: what it loads, what it says of itself, and how any failure becomes an exit code."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from runtime.behaviours.gen import StartFailed
from runtime.durable import journal
from runtime.errors import BanyanError, CallTimeout, Misuse
from runtime.kernel.exits import SHUTDOWN, Crash, Shutdown
from runtime.observe.protocol import Refusal
from supervisors import ChildRefused, FailedToStart, NodeStopped
from supervisors.cli.explain import explain
from supervisors.cli.failure import Exit, Failure, report
from supervisors.cli.main import COMMANDS, Entry, main
from supervisors.strategy import Refusal as Refused


def test_help_loads_nothing_that_takes_its_time():
    """`banyan --help` imports neither Trio nor structlog, nor anything of the runtime."""
    script = (
        "import contextlib, io, json, sys\n"
        "from supervisors.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        "    try: main(['--help'])\n"
        "    except SystemExit: pass\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(json.dumps([said.getvalue(), sorted(tops & set(sys.argv[1:]))]))\n"
    )
    heavy = ["trio", "structlog", "msgspec", "lmdb", "cbor2", "runtime", "game", "prompt_toolkit", "asyncio"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, timeout=60, check=True
    )
    said, loaded = json.loads(ended.stdout)
    assert loaded == []
    assert all(f"  {name} " in said for name in COMMANDS)


def test_the_version_is_told(capsys):
    """--version prints the distribution's version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("banyan ")


def test_nothing_given_shows_the_help(capsys):
    """Without a command the help goes to stderr, and the exit code is that of wrong usage."""
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: banyan COMMAND")


@pytest.mark.parametrize("option", ["--frobnicate", "-x"])
def test_an_unknown_option_is_wrong_usage(capsys, option):
    """An option that does not exist is exit 2, in three parts."""
    with pytest.raises(SystemExit) as caught:
        main([option])
    assert caught.value.code == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "what",
        "why",
        "next",
    ]


def test_a_misspelt_command_is_told_which_was_meant(capsys):
    """Whoever misspells a command is told the nearest; exit 2."""
    assert main(["tre"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "what: there is no command 'tre'",
        f"why: there are: {', '.join(COMMANDS)}",
        "next: did you mean `banyan tree`?",
    ]


@pytest.fixture
def command(monkeypatch):
    """A command whose work is given by the test."""

    def make(work):
        fake = SimpleNamespace(configure=lambda parser: parser.add_argument("--n", type=int, default=1), run=work)
        monkeypatch.setitem(sys.modules, "tests.unit.cli.fake_command", fake)
        monkeypatch.setitem(COMMANDS, "fake", Entry("tests.unit.cli.fake_command", "is a fake"))

    return make


def test_a_command_is_its_modules_two_functions(command, capsys):
    """`configure` declares the arguments, `run` gets them and returns the exit code."""
    command(lambda args: args.n)
    assert [main(["fake"]), main(["fake", "--n", "7"])] == [1, 7]
    with pytest.raises(SystemExit) as caught:
        main(["fake", "--n", "x"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "what: wrong usage of `banyan fake`",
        "why: argument --n: invalid int value: 'x'",
        "next: banyan fake --help tells what it takes",
    ]


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (Failure("w", "y", "n", Exit.NOT_FOUND), 4, "w"),
        (Refusal("w", "y", "n", 6), 6, "w"),
        (KeyboardInterrupt(), 130, None),
        (OSError("odd"), 1, "it failed, and should not have failed like this"),
    ],
)
def test_whatever_a_command_raises_becomes_a_code(command, capsys, error, code, what):
    """No command ends with a bare traceback."""

    def work(_args):
        raise error

    command(work)
    assert main(["fake"]) == code
    first = capsys.readouterr().err.partition("\n")[0]
    assert first == (f"what: {what}" if what is not None else "")


def test_a_missing_extra_is_named(monkeypatch, capsys):
    """A command whose extra is not installed says how to install it; one whose module is missing, which."""
    monkeypatch.setitem(sys.modules, "pokerkit", None)

    def load(name: str):
        raise ModuleNotFoundError(f"no {name}", name=missing)

    monkeypatch.setattr(importlib, "import_module", load)
    missing = "pokerkit.state"
    assert main(["demo"]) == 2
    assert "next: pip install 'banyan-runtime[game]'" in capsys.readouterr().err
    missing = "game.demo"
    assert main(["demo"]) == 2
    assert "why: this installation has no module game.demo" in capsys.readouterr().err
    missing = "somebody.elses"
    assert main(["demo"]) == 1


def test_a_reader_that_has_enough_is_no_traceback(tmp_path):
    """When the reader of our output goes away, the command ends quietly."""
    script = (
        "import sys, types\n"
        "from supervisors.cli import main as m\n"
        "def run(args):\n    for _ in range(100_000): print('a line')\n    return 0\n"
        "sys.modules['fake'] = types.SimpleNamespace(configure=lambda p: None, run=run)\n"
        "m.COMMANDS['fake'] = m.Entry('fake', 'prints a lot')\n"
        "sys.exit(m.main(['fake']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 1)


def test_a_report_shows_and_obeys_nothing(capsys):
    """Control characters in an error are spelled out, and further lines are indented."""
    report("a\x1b[31m", "first\nsecond\ttab", "")
    assert capsys.readouterr().err == "what: a\\x1b[31m\nwhy: first\n     second\\ttab\nnext: \n"


STORE = "/data/room"


@pytest.mark.parametrize(
    ("error", "code", "what", "why"),
    [
        (journal.StoreInUse(STORE, 7), 5, "cannot open the store /data/room", "process 7 has it open"),
        (journal.StoreInUse(STORE, 7, "a"), 5, "cannot open the store /data/room", "node a has adopted it (process 7)"),
        (journal.StoreNotReadable(STORE, "no"), 5, "cannot read the store /data/room", "no"),
        (journal.StoreNotWritable(STORE, "no"), 5, "cannot write the store /data/room", "no"),
        (
            journal.StoreNewer(STORE, 9, 1),
            5,
            "cannot read the store /data/room",
            "it is of format 9, and this program reads up to 1",
        ),
        (journal.StoreDamaged(STORE, "x"), 5, "will not serve the store /data/room", "it is damaged: x"),
        (journal.StoreForeign(STORE, "x"), 5, "will not use /data/room as a store", "found x"),
        (
            journal.StoreMissing(STORE),
            4,
            "cannot read the store /data/room",
            "no node has made one there",
        ),
        (journal.StoreFailed(STORE, "x"), 1, "the store /data/room has failed", "x"),
        (
            NodeStopped("n", SHUTDOWN),
            1,
            "the node stopped",
            "an application ended, or used up its restarts",
        ),
        (NodeStopped("n", "odd"), 1, "the node stopped", "its reason was 'odd'"),
        (StartFailed("it", Crash(ValueError("odd"))), 1, "the node did not start", "ValueError: odd"),
        (
            ChildRefused("r", Refused("start_failed", Shutdown(FailedToStart("c", Crash(KeyError("k")))))),
            1,
            "the application did not start",
            "KeyError: 'k'",
        ),
        (
            ChildRefused("r", Refused("start_failed", Crash(journal.StoreInUse(STORE, 7)))),
            5,
            "cannot open the store /data/room",
            "process 7 has it open",
        ),
        (CallTimeout("late", None, None, 1.0), 6, "no answer in time", "late"),
        (Misuse("no: never"), 2, "no", "never"),
        (BanyanError("odd"), 1, "it failed", "odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_kind_of_error_has_its_code_and_words(error, code, what, why):
    """What the runtime raises is told in three parts, with the exit code that scripts rely on."""
    told = explain(error)
    assert (told.code, told.what, told.why) == (code, what, why)
    assert told.next


def test_an_unexpected_error_asks_for_a_report():
    """A defect is told with its traceback, and a wish to hear of it."""
    told = explain(ZeroDivisionError("odd"))
    assert (told.code, told.why.splitlines()[-1]) == (1, "ZeroDivisionError: odd")
    assert "report" in told.next
