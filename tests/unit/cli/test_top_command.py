"""The command `banyan top` before its screen is there, and at a terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime.observe import places
from supervisors.cli import top
from supervisors.cli.main import main
from tests.unit.cli.running import BANYAN, Place
from tests.unit.cli.test_nodes import parts
from tests.unit.cli.test_remsh import Terminal


@pytest.mark.processes
def test_without_textual_it_says_what_to_install(tmp_path):
    """Where the extra is missing, the command ends with 2 in three parts."""
    code = "import sys; sys.modules['textual'] = None; from supervisors.cli.main import main; sys.exit(main(['top']))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=Place(tmp_path).environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, parts(ended.stderr)) == (2, ["what", "why", "next"])
    assert "why: textual is not installed\nnext: pip install 'banyan-runtime[tui]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 4), (["-n", "one"], 3), (["--interval", "0"], 2), (["--limit", "0"], 2), (["--sort", "odd"], 2)],
)
def test_without_a_node_it_refuses(tmp_path, monkeypatch, capsys, arguments, code):
    """No node is code 4, a named one that does not run 3, a strange number or word 2; each in three parts."""
    pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("BANYAN_CONFIG", raising=False)
    try:
        ended = main(["top", *arguments])
    except SystemExit as left:
        ended = left.code
    assert (ended, parts(capsys.readouterr().err)) == (code, ["what", "why", "next"])


@pytest.mark.processes
def test_help_loads_neither_textual_nor_trio(tmp_path):
    """`--help` of the program is quick, whatever the screen needs."""
    ended = subprocess.run(
        [*BANYAN[:1], "-X", "importtime", *BANYAN[1:], "--help"],
        cwd=tmp_path,
        env=Place(tmp_path).environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "look into a running node on a screen that stays" in ended.stdout
    assert [line for line in ended.stderr.splitlines() if line.rsplit("|")[-1].strip() in ("textual", "trio")] == []


@pytest.mark.slow
@pytest.mark.processes
def test_at_a_terminal_it_shows_the_node_until_q(tmp_path):
    """At a terminal a page opens at once, and q leaves with exit 0."""
    pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")
    place = Place(tmp_path)
    with place.node("shop:Shop", "--name", "one"):
        terminal = Terminal(place, "top", "--sort", "name", "till")
        try:
            terminal.wait_for("shop.Till")
            terminal.type("q")
            assert terminal.end() == 0
        finally:
            terminal.close()


def test_without_a_terminal_it_refuses(tmp_path, monkeypatch, capsys):
    """With a node but a pipe for a terminal the code is 2, in three parts that name what prints lines."""
    pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")
    from tests.unit.cli.front import served
    from tests.unit.observe.bank import Bank

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("BANYAN_CONFIG", raising=False)
    with served(places.private_directory(), Bank):
        assert main(["top", "-n", "n"]) == 2
    told = capsys.readouterr().err
    assert parts(told) == ["what", "why", "next"]
    assert "why: not a terminal: stdin, stdout, stderr; it needs" in told
    assert "banyan ps --watch" in told


def test_with_stderr_in_a_file_it_refuses(tmp_path, monkeypatch, capsys):
    """Textual draws on stderr: `banyan top 2>file` would be an empty screen, and ends with 2 instead."""
    pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")
    from tests.unit.cli.front import served
    from tests.unit.observe.bank import Bank

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("BANYAN_CONFIG", raising=False)
    monkeypatch.setattr(top, "is_tty", lambda stream: stream is not sys.stderr)
    with served(places.private_directory(), Bank):
        assert main(["top", "-n", "n"]) == 2
    told = capsys.readouterr().err
    assert parts(told) == ["what", "why", "next"]
    assert "why: not a terminal: stderr; it needs" in told
