"""The story of the demo: a node is started, and what it runs is killed, step by step, until all is whole again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime import Journal
from runtime.observe.client import AdminClient
from runtime.observe.protocol import Kill, Refusal, Tree
from supervisors import open_store

from .demo_screen import Screen, folded

POLL = 0.05
# How long each step may take before the demo gives up, in seconds.
PATIENCE = 20.0
# What lies below these is counted: the tables are to be seen. The house is done as soon as it has opened.
FOLDED = ("system", "wallets", "bots", "gateway")
HIDDEN = ("house",)


class Stuck(Exception):
    """Something did not happen in time."""


# Of each process, by its path: pid, state, detail.
Snapshot = dict[str, tuple[str | None, str, str]]


def flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, tuple[str | None, str, str]]]:
    """Each process of a tree by its path: pid, state, detail."""
    path = f"{above}/{tree['name']}" if above else tree["name"]
    yield path, (tree["pid"], tree["state"], tree.get("detail", ""))
    for one in tree.get("children", ()):
        yield from flat(one, path)


class Demo:
    """The story, step by step."""

    # Of the nodes' cluster; 0: there is one node, which is in none.
    shards = 0

    def __init__(self, folder: Path, screen: Screen, seconds: float) -> None:
        self.folder = folder
        self.screen = screen
        # A third of the time before each of the three kills' next act.
        self.calm = seconds / 5
        self.node: subprocess.Popen[str] | None = None
        self.client: AdminClient | None = None
        self.restarts = 0
        self.process_kills = 0
        self.node_kills = 0
        self._log = folder / "node.log"
        self._seen: Snapshot = {}

    @property
    def healed(self) -> bool:
        """Whether all was done that was to be done, and healed."""
        return self.process_kills == 2 and self.node_kills == 1

    def told(self) -> dict[str, Any]:
        """What there is to tell beyond what every demo tells."""
        return {}

    def play(self) -> None:
        """Start, kill three times, end in order."""
        with self.screen:
            self._start("starting a node with two tables of bots")
            self._watch(self.calm, "the tables play")
            self._kill_process("table/oak", "killing a table in mid-hand", mid_hand=True)
            self._watch(self.calm, "healed: it goes on with the same hand, from its journal")
            self._kill_process("tables", "killing the supervisor of all tables", mid_hand=False)
            self._watch(self.calm, "healed: the lobby started the tables again")
            self._kill_node()
            self._watch(self.calm, "healed: the whole room came back from its data directory")
            self.screen.say("stopping the node in order")
            self._stop()

    # -- the node --------------------------------------------------------------------------------------

    def _start(self, caption: str) -> None:
        self.screen.say(caption)
        name = f"demo-{os.getpid()}"
        options = ["--set=tables=2", "--set=think=0.12", "--set=pause=0.4"]
        command = [sys.executable, "-m", "supervisors.cli.main", "start", "game.app:application"]
        with self._log.open("ab") as log:
            self.node = subprocess.Popen(
                [*command, "--name", name, "--data", str(self.folder / "store"), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                text=True,
            )
        assert self.node.stdout is not None
        ready, _, _ = select.select([self.node.stdout], [], [], PATIENCE)
        line = self.node.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            raise Stuck(f"the node said {line.strip()!r} instead of being ready")
        self.client = AdminClient(Path(line.split(" ", 3)[3].strip()))

    def _stop(self) -> None:
        assert self.node is not None
        self.node.send_signal(signal.SIGTERM)
        try:
            code = self.node.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Stuck(f"the node did not stop within {PATIENCE:g} s") from None
        if code != 0:
            raise Stuck(f"the node ended with {code}")

    def end(self) -> None:
        """Leave nothing running."""
        if self.client is not None:
            self.client.close()
        if self.node is not None:
            if self.node.poll() is None:
                self.node.kill()
            self.node.wait()
            if self.node.stdout is not None:
                self.node.stdout.close()

    def stores(self) -> list[Journal]:
        """The stores of all nodes, after the end; to be closed."""
        return [open_store(self.folder / "store", read_only=True)]

    def log_tail(self) -> str:
        """The last lines of the node's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    # -- looking ---------------------------------------------------------------------------------------

    def _look(self) -> Snapshot:
        """The tree now; counts processes that have come back under a new pid."""
        assert self.client is not None
        try:
            tree = self.client.request(Tree())
        except Refusal as refused:
            raise Stuck(str(refused)) from None
        found = dict(flat(tree))
        for path, (pid, _, _) in found.items():
            before = self._seen.get(path)
            if before is not None and pid is not None and before[0] not in (None, pid):
                self.restarts += 1
        self._seen.update(found)
        self.screen.show(folded(tree, FOLDED, HIDDEN))
        return found

    def _watch(self, seconds: float, caption: str) -> None:
        self.screen.say(caption)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._look()
            time.sleep(POLL)

    def _until(self, what: str, true: Callable[[Snapshot], bool], patience: float = PATIENCE) -> Snapshot:
        until = time.perf_counter() + patience
        while True:
            found = self._look()
            if true(found):
                return found
            if time.perf_counter() > until:
                raise Stuck(f"waited {patience:g} s until {what}")
            time.sleep(0.01)

    # -- killing ---------------------------------------------------------------------------------------

    def _kill_process(self, name: str, caption: str, *, mid_hand: bool) -> None:
        self.screen.say(caption)
        before = self._until(
            f"{name} is {'in mid-hand' if mid_hand else 'up'}",
            lambda found: in_mid_hand(found, name) if mid_hand else up(found, name),
        )
        assert self.client is not None
        self.client.request(Kill(target=name))
        self._until(f"{name} lives again", lambda found: came_back(before, found, name))
        self.process_kills += 1

    def _kill_node(self) -> None:
        self.screen.say("killing the whole node with SIGKILL")
        before = self._look()
        assert self.node is not None
        assert self.client is not None
        self.client.close()
        self.node.kill()
        self.node.wait()
        if self.node.stdout is not None:
            self.node.stdout.close()
        self._seen.clear()  # what the new node starts is no restart of a supervisor's
        self.screen.anew()
        self._start("starting it again on the same data directory")
        self._until("all is up again", lambda found: came_back(before, found, "table/oak", "table/elm"))
        self.node_kills += 1


def named(found: Snapshot, name: str) -> tuple[str | None, str, str]:
    """The process whose path ends with a name."""
    for path, seen in found.items():
        if path == name or path.endswith("/" + name):
            return seen
    return None, "down", ""


def up(found: Snapshot, name: str) -> bool:
    """Whether it runs."""
    return named(found, name)[1] == "running"


def in_mid_hand(found: Snapshot, table: str) -> bool:
    """Whether a hand is played at a table, and somebody has acted."""
    _, state, detail = named(found, table)
    return state == "running" and "actions" in detail and ", 0 actions" not in detail


def came_back(before: Snapshot, found: Snapshot, *names: str) -> bool:
    """Whether the named have new pids and every process that was there before runs."""
    return all(up(found, name) and named(found, name)[0] != named(before, name)[0] for name in names) and all(
        path in found and found[path][1] == "running" for path in before if not path.endswith("house")
    )
