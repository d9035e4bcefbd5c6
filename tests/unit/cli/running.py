"""Real nodes for the tests of commands: started in a folder of their own, and ended by the test."""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from supervisors.cli.main import main
from tests.support.forked import Forked, run_forked

Process: TypeAlias = "Forked | subprocess.Popen[str]"

# Seconds for anything that a command does here.
LIMIT = 60.0

# What every command needs is here before the first of them is forked.
for needed in ("explain", "remsh", "start", "show", "target"):
    importlib.import_module(f"supervisors.cli.{needed}")

# Warnings are errors in what is started, too.
BANYAN = [sys.executable, "-W", "error", "-m", "supervisors.cli.main"]

SHOP = '''
"""An application for tests."""

import math

import trio

from runtime import Continue, GenServer, Misuse
from supervisors import Application, Supervisor, child


class Till(GenServer):
    """A worker that counts."""

    def init(self):
        self.count = 0

    def handle_call(self, request, caller):
        self.count += request
        return self.count


class Shop(Supervisor):
    """One till."""

    intensity = 10

    def init(self):
        return [child("till", Till, name="till")]


class Slow(GenServer):
    """A worker that takes for ever to end."""

    trap_exit = True

    def init(self):
        pass

    async def terminate(self, reason):
        await trio.sleep_forever()


class Stuck(Supervisor):
    """A tree that does not stop."""

    def init(self):
        return [child("slow", Slow, shutdown=math.inf)]


class Hog(GenServer):
    """A worker that computes without ever waiting, from a moment after its start."""

    def init(self):
        return Continue("go")

    async def handle_continue(self, term):
        await trio.sleep(0.2)
        while True:
            pass


class Hogs(Supervisor):
    """A tree that hears nothing."""

    def init(self):
        return [child("hog", Hog)]


class Broken(GenServer):
    """A worker that does not start."""

    def init(self):
        raise ValueError("odd")


class Breaks(Supervisor):
    """A tree that does not start."""

    def init(self):
        return [child("broken", Broken)]


class Dies(GenServer):
    """A worker that dies soon."""

    def init(self):
        return Continue("go")

    async def handle_continue(self, term):
        await trio.sleep(0.1)
        raise ValueError("odd")


class Mortal(Supervisor):
    """A tree that cannot be kept alive."""

    intensity = 0

    def init(self):
        return [child("dies", Dies)]


class Named(Supervisor):
    """A tree whose child bears the name it is told to."""

    def init(self, name):
        return [child("till", Till, name=name)]


def configured(settings):
    """An application with settings."""
    if not settings.get("till"):
        raise Misuse("the setting till is missing: --set till=NAME")
    return Application(Named, (settings["till"],), "named")


def fails(settings):
    """A function that fails."""
    return 1 / 0


plain = 3
'''


class Place:
    """A folder in which commands run: it holds the application, and the sockets of the nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(SHOP)
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("BANYAN_", "XDG_", "PYTHON"))}
        self.environ = {
            **ours,
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": os.pathsep.join(filter(None, (_root(), os.environ.get("PYTHONPATH")))),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"PYTHONPYCACHEPREFIX": sys.pycache_prefix} if sys.pycache_prefix else {}),
        }

    def run(self, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; `more` goes into its environment."""
        return run_forked(main, arguments, cwd=self.folder, env={**self.environ, **more}, stdin=stdin, limit=LIMIT)

    def json(self, *arguments: str) -> Any:
        """What a command with --json says in its last line."""
        ended = self.run(*arguments, "--json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    @contextmanager
    def node(self, *arguments: str) -> Iterator[Running]:
        """A running node; killed at the end, if it still lives."""
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}"
        with log.open("w") as file:
            process = self.begin(["start", *arguments], file)
        with process:
            try:
                yield Running(process, log)
            finally:
                process.kill()

    def begin(self, arguments: list[str], stderr: TextIO) -> Process:
        """Start a command and do not wait for it; stdout is a pipe."""
        if sys.get_asyncgen_hooks().firstiter is None:
            return Forked(main, arguments, cwd=self.folder, env=self.environ, stderr=stderr)
        # A loop runs here: a copy of this process would have it too.
        return subprocess.Popen(
            [*BANYAN, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


class Running:
    """A node that has said that it is ready."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self._log = log
        line = self.line()
        word, self.name, pid, self.socket = line.split(" ", 3)
        assert (word, int(pid)) == ("ready", process.pid)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def line(self) -> str:
        """The next line of its stdout, without its end."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(LIMIT), f"the node said nothing: {self.log}"
        line = self.process.stdout.readline()
        assert line, f"the node ended: {self.log}"
        return line.rstrip("\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(LIMIT)

    def wait_for_log(self, text: str) -> None:
        """Wait until it has logged something: each look gives up the processor for a moment."""
        for _ in range(6000):
            if text in self.log:
                return
            try:
                self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            break
        assert text in self.log


def _root() -> str:
    return str(Path(__file__).resolve().parents[3])
