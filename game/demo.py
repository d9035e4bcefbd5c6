"""`banyan demo`: watch a card room play, die and come back.

A node runs as a process of its own, with two tables of bots on a temporary data directory. This process
shows its supervision tree while it kills a table in mid-hand, then the supervisor of all tables, then the
whole node with SIGKILL, and waits each time until the tree is whole again and hands go on. At the end the
chips are counted in the journal. With `--nodes` it does so to several nodes that share the room: `demo_nodes`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime import Journal
from runtime.observe.client import AdminClient
from runtime.observe.protocol import Kill, Refusal, Tree
from supervisors import open_store
from supervisors.cli.signals import endings_raised

from .action import chips
from .audit import audit

POLL = 0.05
# How long each step may take before the demo gives up.
PATIENCE = 20.0
PLAIN_EVERY = 1.0
MOST_NODES = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="on N nodes, 1 to 8 (default 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to play, about (default 10)")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns its exit code."""
    begun = time.perf_counter()
    if not 1 <= args.nodes <= MOST_NODES:
        print(f"what: no demo\nwhy:  --nodes is {args.nodes}\nnext: give 1 to {MOST_NODES}", file=sys.stderr)
        return 2
    with endings_raised(), tempfile.TemporaryDirectory(prefix="banyan-demo-") as scratch:
        demo = _demo(args.nodes, Path(scratch), _screen(), max(4.0, args.seconds))
        try:
            demo.play()
        except _Stuck as stuck:
            demo.end()
            print(f"what: the demo stopped\nwhy:  {stuck}\nnext: the node's log says more:", file=sys.stderr)
            print(demo.log_tail(), file=sys.stderr)
            return 1
        finally:
            demo.end()
        journals = demo.stores()
        try:
            found = audit(journals, shards=demo.shards)
        finally:
            for journal in journals:
                journal.close()
    result = {
        "hands": found.hands,
        "restarts": demo.restarts,
        "process_kills": demo.process_kills,
        "node_kills": demo.node_kills,
        "chips_in": found.granted,
        "chips_out": found.held,
        "seconds": round(time.perf_counter() - begun, 1),
        **demo.told(),
    }
    good = found.granted == found.held and demo.healed and found.hands > 0
    if args.json:
        print(json.dumps(result))
    else:
        print()
        print(f"{found.hands} hands were played, {found.entries} commands journalled.")
        print(f"2 processes and 1 node were killed, {demo.restarts} processes restarted, all by themselves.")
        if "moves" in result:
            print(f"1 node was drained: {result['moves']} shards moved while hands were played.")
        agree = "not one was lost or made" if good else "THIS IS WRONG"
        print(f"Chips in {chips(found.granted)}, chips out {chips(found.held)}: {agree}.")
    return 0 if good else 1


def _demo(nodes: int, folder: Path, screen: _Screen, seconds: float) -> _Demo:
    if nodes == 1:
        return _Demo(folder, screen, seconds)
    from .demo_nodes import DemoOnNodes

    return DemoOnNodes(folder, screen, seconds, nodes)


class _Stuck(Exception):
    """Something did not happen in time."""


Snapshot = dict[str, tuple[str | None, str, str]]


def _flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, tuple[str | None, str, str]]]:
    """Each process of a tree by its path: pid, state, detail."""
    path = f"{above}/{tree['name']}" if above else tree["name"]
    yield path, (tree["pid"], tree["state"], tree.get("detail", ""))
    for one in tree.get("children", ()):
        yield from _flat(one, path)


class _Demo:
    """The story, step by step."""

    # Of the nodes' cluster; 0: there is one node, which is in none.
    shards = 0

    def __init__(self, folder: Path, screen: _Screen, seconds: float) -> None:
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
            raise _Stuck(f"the node said {line.strip()!r} instead of being ready")
        self.client = AdminClient(Path(line.split(" ", 3)[3].strip()))

    def _stop(self) -> None:
        assert self.node is not None
        self.node.send_signal(signal.SIGTERM)
        try:
            code = self.node.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise _Stuck(f"the node did not stop within {PATIENCE:g} s") from None
        if code != 0:
            raise _Stuck(f"the node ended with {code}")

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
            raise _Stuck(str(refused)) from None
        found = dict(_flat(tree))
        for path, (pid, _, _) in found.items():
            before = self._seen.get(path)
            if before is not None and pid is not None and before[0] not in (None, pid):
                self.restarts += 1
        self._seen.update(found)
        self.screen.show(tree)
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
                raise _Stuck(f"waited {patience:g} s until {what}")
            time.sleep(0.01)

    # -- killing ---------------------------------------------------------------------------------------

    def _kill_process(self, name: str, caption: str, *, mid_hand: bool) -> None:
        self.screen.say(caption)
        before = self._until(
            f"{name} is {'in mid-hand' if mid_hand else 'up'}",
            lambda found: _in_mid_hand(found, name) if mid_hand else _up(found, name),
        )
        assert self.client is not None
        self.client.request(Kill(target=name))
        self._until(f"{name} lives again", lambda found: _healed(before, found, name))
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
        self._start("starting it again on the same data directory")
        self._until("all is up again", lambda found: _healed(before, found, "table/oak", "table/elm"))
        self.node_kills += 1


def _named(found: Snapshot, name: str) -> tuple[str | None, str, str]:
    for path, seen in found.items():
        if path == name or path.endswith("/" + name):
            return seen
    return None, "down", ""


def _up(found: Snapshot, name: str) -> bool:
    return _named(found, name)[1] == "running"


def _in_mid_hand(found: Snapshot, table: str) -> bool:
    _, state, detail = _named(found, table)
    return state == "running" and "actions" in detail and ", 0 actions" not in detail


def _healed(before: Snapshot, found: Snapshot, *names: str) -> bool:
    """Whether the named have new pids and every process that was there before runs."""
    return all(_up(found, name) and _named(found, name)[0] != _named(before, name)[0] for name in names) and all(
        path in found and found[path][1] == "running" for path in before if not path.endswith("house")
    )


# -- the screen ----------------------------------------------------------------------------------------


class _Screen:
    """What a person sees: plain lines on stderr, so that stdout keeps the result."""

    def __init__(self) -> None:
        self._last = 0.0
        self._begun = time.perf_counter()

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def say(self, caption: str) -> None:
        """Tell what happens now."""
        print(f"{time.perf_counter() - self._begun:5.1f} s  {caption}", file=sys.stderr, flush=True)
        self._last = 0.0

    def show(self, tree: dict[str, Any]) -> None:
        """Show the tree, not more often than is readable."""
        now = time.perf_counter()
        if not self._last:
            for line in _lines(tree):
                print("         " + line, file=sys.stderr)
            self._last = now


def _lines(tree: dict[str, Any], lead: str = "", last: bool = True, top: bool = True) -> Iterator[str]:
    own = "" if top else lead + ("`-- " if last else "|-- ")
    yield own + _describe(tree)
    below = "" if top else lead + ("    " if last else "|   ")
    children = tree.get("children", ())
    for index, one in enumerate(children):
        yield from _lines(one, below, index == len(children) - 1, top=False)


def _describe(one: dict[str, Any]) -> str:
    parts = [one["name"], one["pid"] or "-"]
    if one["state"] != "running":
        parts.append(one["state"])
    if "restarts" in one:
        gauge = one["restarts"]
        parts.append(f"{one['strategy']} {gauge['used']}/{gauge['intensity']} in {gauge['period']:g} s")
    if one.get("detail"):
        parts.append(one["detail"])
    return "  ".join(parts)


def _screen() -> _Screen:
    if sys.stderr.isatty():
        try:
            from .demo_screen import LiveScreen
        except ImportError:
            return _Screen()
        return LiveScreen()
    return _Screen()
