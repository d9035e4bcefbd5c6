"""`banyan remsh` without a node: its banner and words; and at a terminal of its own, with one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from runtime.observe.protocol import At, Crashes, Doctor, Ps, State
from supervisors.cli.remsh import _WORD, banner, duration, word_request
from tests.unit.cli.running import BANYAN, LIMIT, Place


def test_durations_have_two_units():
    """Seconds are said in the two greatest units that they reach."""
    told = {
        0.4: "0s",
        59.9: "59s",
        60: "1m00s",
        3_599: "59m59s",
        11_520: "3h12m",
        90_000: "1d01h",
        864_000: "10d00h",
    }
    assert {seconds: duration(seconds) for seconds in told} == told


def test_the_banner_names_the_node():
    """The banner tells version, node, uptime, size and level."""
    node = {"version": "0.1", "name": "room-1", "uptime": 11_520.0, "processes": 1204, "level": "view+act"}
    assert banner(node) == "banyan 0.1  node room-1  up 3h12m  1,204 processes   (view+act; h() for help)"


@pytest.mark.parametrize(
    ("line", "word", "name"),
    [
        ("tree", "tree", None),
        ("tree table/t-1", "tree", "table/t-1"),
        ("tree()", "tree", None),
        ("tree('a b')", "tree", "a b"),
        ('info( "<1.5>" )', "info", "<1.5>"),
        ("1 + 1", None, None),
        ("tree; ps", None, None),
        ("import os", "import", "os"),
    ],
)
def test_words_may_look_like_calls(line, word, name):
    """Without typed lines a word and a name are understood, written as words or as a call."""
    found = _WORD.fullmatch(line)
    if word is None:
        assert found is None
    else:
        assert found is not None
        assert (found["word"], found["name"] or found["argument"] or None) == (word, name)


@pytest.mark.parametrize(
    ("word", "name", "request_"),
    [
        ("top", None, Ps(limit=100)),
        ("state", "till", State(of="till")),
        ("at", "till 5", At(of="till", position=5)),
        ("at", "till, -1", At(of="till", position=-1)),
        ("at", "till", At(of="till")),
        ("crashes", None, Crashes()),
        ("doctor", None, Doctor()),
        ("state", None, None),
        ("doctor", "till", None),
        ("kill", "till", None),
    ],
)
def test_a_word_asks_what_its_command_asks(word, name, request_):
    """Words that look are the requests of the commands of that name; what changes something is no word."""
    asked = word_request(word, name)
    assert (asked[0] if asked is not None else None) == request_


# The leader of a session gets the first terminal that it opens as its controlling one: the source of Ctrl-C.
TAKE_THE_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"
# Where the cursor goes and which colour it has is of no matter here.
STEERING = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command at a terminal of its own; what it shows is collected."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self._own, other = pty.openpty()
        termios.tcsetwinsize(other, (50, 120))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_THE_TERMINAL, *BANYAN, *arguments],
            cwd=place.folder,
            env={**place.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._seen = ""

    def wait_for(self, text: str) -> str:
        """Read on until it shows some text; what came until then."""
        while text not in self._seen:
            self._read()
        before, _, self._seen = self._seen.partition(text)
        return before

    def wait_for_file(self, path: Path) -> None:
        """Read on until a file is there."""
        while not path.exists():
            self._read(0.01)

    def _read(self, patience: float = LIMIT) -> None:
        ready, _, _ = select.select([self._own], [], [], patience)
        if not ready:
            assert patience < LIMIT, f"it went silent after {self._seen!r}"
            return
        try:
            data = os.read(self._own, 65536)
        except OSError:
            data = b""
        assert data, f"it ended after {self._seen!r}"
        self._seen = STEERING.sub("", self._seen + data.decode(errors="replace"))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._own, text.encode())

    def end(self) -> int:
        """Read on until it has ended by itself; its exit code. What nobody reads it may wait to write for ever."""
        while True:
            ready, _, _ = select.select([self._own], [], [], LIMIT)
            assert ready, "it neither ends nor says anything"
            try:
                if not os.read(self._own, 65536):
                    break
            except OSError:  # nobody has the other end any more
                break
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End it, if it still lives."""
        self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._own)


@pytest.mark.processes
@pytest.mark.slow
def test_a_terminal_has_interrupts_blocks_and_completion(tmp_path):
    """At a terminal Ctrl-C ends the line and not the node, Tab completes, Ctrl-D leaves with exit 0."""
    pytest.importorskip("prompt_toolkit", reason="the extra [repl] is not installed")
    place = Place(tmp_path)
    with place.node("shop:Shop", "--name", "one", "--allow-eval") as node:
        terminal = Terminal(place, "remsh")
        try:
            terminal.wait_for("h() for help)")
            terminal.wait_for("one>")
            terminal.type("40 + 2\r")
            terminal.wait_for("42\r\n")
            terminal.wait_for("one>")
            terminal.type("open('begun', 'w').close(); await trio.sleep_forever()\r")
            terminal.wait_for_file(tmp_path / "begun")
            terminal.type("\x03")
            terminal.wait_for("Interrupted: this line; the node goes on.")
            terminal.wait_for("one>")
            terminal.type("node.na\t")
            terminal.wait_for("me")
            terminal.type(" + '!'\r")
            terminal.wait_for("'one!'\r\n")
            terminal.wait_for("one>")
            terminal.type("\x04")
            assert terminal.process.wait(LIMIT) == 0
        finally:
            terminal.close()
        node.signal(signal.SIGTERM)
        assert node.end() == 0
    history = tmp_path / "state" / "banyan" / "remsh_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+40 + 2" in history.read_text().splitlines()
