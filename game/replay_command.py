"""`banyan replay`: play recorded hands through real tables and wallets, kill what plays them, count the chips.

The node runs as a process of its own, so that it can be killed with SIGKILL; this process starts it, follows
its report file, kills and restarts it, and reads the journal when it has ended. The report file, a manifest
and the node's store lie in the data directory, so an unfinished replay is gone on with. With `--nodes` they are the
nodes of a `banyan up`, which starts those again that were killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, final

from runtime import Journal, StoreError
from runtime.cluster.shards import shard_of
from supervisors import open_store
from supervisors.cli.signals import endings_raised

from .aside import LOBBY
from .audit import Audit, CommandId, TwoHomes, audit
from .history import parse_bytes
from .nodes import Nodes
from .places import ROOM, TABLE, WALLET
from .recorded import HistoryError, RecordedHand, play
from .replay_app import table_names
from .replay_moves import Movement

OK, FAILED, USAGE, REFUSED = 0, 1, 2, 5
POLL = 0.02
# A node that reports nothing for so long is stuck.
SILENCE = 120.0
MOST_NODES = 16
# Of the cluster that a replay makes: some for each node, and few enough to be opened at once.
SHARDS = 32


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="hand histories, or folders of them")
    parser.add_argument("--data", metavar="DIR", help="keep the journal here; an unfinished replay goes on")
    parser.add_argument("--chaos", type=int, metavar="SEED", help="kill processes, about one in ten hands")
    parser.add_argument("--node-kills", type=int, default=0, metavar="N", help="kill a whole node N times")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="play on N nodes, 1 to 16 (default 1)")
    parser.add_argument("--moves", type=int, default=0, metavar="N", help="move a shard to another node N times")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns its exit code."""
    if args.node_kills < 0:
        return _complain("cannot replay", f"--node-kills is {args.node_kills}", "give 0 or more", USAGE)
    if not 1 <= args.nodes <= MOST_NODES:
        return _complain("cannot replay", f"--nodes is {args.nodes}", f"give 1 to {MOST_NODES}", USAGE)
    if args.moves < 0:
        return _complain("cannot replay", f"--moves is {args.moves}", "give 0 or more", USAGE)
    if args.moves and args.nodes == 1:
        why = "a node of its own has nobody to move a shard to"
        return _complain("cannot replay", why, "add --nodes 2, or more", USAGE)
    try:
        files, hands, rules_seconds = _read(args.paths)
    except HistoryError as error:
        return _complain("cannot replay", str(error), "mend or leave out that file; nothing was played", USAGE)
    except OSError as error:
        name = error.filename or args.paths[0]
        return _complain("cannot replay", f"{name}: {error.strerror}", "check the path", USAGE)
    with endings_raised(), tempfile.TemporaryDirectory(prefix="banyan-replay-") as scratch:
        data = Path(args.data).resolve() if args.data else Path(scratch)
        try:
            refusal = _claim(data, files, hands, args.nodes)
        except OSError as error:
            return _complain(f"cannot use {data}", str(error.strerror), "name a writable directory", REFUSED)
        if refusal:
            return _complain(f"cannot use {data}", refusal, "name an empty directory", REFUSED)
        kind = _Replay if args.nodes == 1 else _ReplayOnNodes
        replay = kind(data, files, hands, args.chaos, args.node_kills, args.nodes, args.moves)
        try:
            code = replay.play()
            if code != OK:
                return code
            journals = replay.stores()
        except StoreError as error:
            return _complain("the replay's store is refused", str(error), "start in another directory", REFUSED)
        try:
            found = audit(journals, replay.tally.acknowledged, shards=SHARDS if args.nodes > 1 else 0)
        except TwoHomes as error:
            return _complain("the replay failed", str(error), "keep the stores, with --data, and look at them", FAILED)
        finally:
            for journal in journals:
                journal.close()
        (data / "manifest.json").unlink(missing_ok=True)
    return _conclude(args, replay, found, rules_seconds)


def _complain(what: str, why: str, advice: str, code: int) -> int:
    print(f"what: {what}\nwhy:  {why}\nnext: {advice}", file=sys.stderr)
    return code


def _read(paths: Sequence[str]) -> tuple[list[str], list[list[RecordedHand]], float]:
    """Read and check everything before anything is played; the seconds are the rules' own."""
    files: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            files += sorted(str(one) for one in Path(path).glob("*.txt"))
        else:
            files.append(path)
    if not files:
        raise HistoryError(str(paths[0]), 1, "a hand history", "a folder without *.txt", "name a file")
    files = [str(Path(path).resolve()) for path in files]
    hands = [parse_bytes(Path(path).read_bytes(), path, rules=False) for path in files]
    begun = time.perf_counter()
    for one in hands:
        for hand in one:
            play(hand)
    return files, hands, time.perf_counter() - begun


def _claim(data: Path, files: list[str], hands: list[list[RecordedHand]], nodes: int) -> str:
    """Take the data directory, or go on with the same replay in it; returns why not."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    manifest = {"replay": digest.hexdigest(), "hands": sum(map(len, hands)), "version": 2}
    if nodes > 1:
        manifest["nodes"] = nodes
    data.mkdir(parents=True, exist_ok=True)
    there = data / "manifest.json"
    if there.exists():
        try:
            found = json.loads(there.read_text())
        except ValueError:
            return "its manifest.json is not one of a replay"
        return "" if found == manifest else "it holds an unfinished replay of other files, or on another count of nodes"
    if any(data.iterdir()):
        return "it holds something else than an unfinished replay of these files"
    part = data / "manifest.json.part"
    part.write_text(json.dumps(manifest))
    part.replace(there)
    return ""


@final
@dataclass(slots=True)
class Tally:
    """What the report file has said so far."""

    played: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    acknowledged: set[CommandId] = field(default_factory=set)
    differences: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    kills: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0

    def take(self, line: str) -> None:
        """Read one line; see `replay_table.Driver` and `nemesis.Nemesis`."""
        kind, _, rest = line.partition(" ")
        match kind:
            case "ack":
                number, name, receiver = rest.split(" ", 2)  # a player's name may have blanks
                self.acknowledged.add((receiver, f"replay/{name}", int(number)))
            case "hand":
                index, differences, actions, name = rest.split(" ", 3)
                self.played[name, int(index)] = (int(differences), int(actions))
            case "differs":
                self.differences.append(rest)
            case "done":
                self.done.add(rest)
            case "kill":
                flight, _, what = rest.partition(" ")
                self.kills[what] = self.kills.get(what, 0) + 1
                self.in_flight += int(flight)


class _Replay:
    """One run of the command: the node's lives, one after the other."""

    def __init__(
        self,
        data: Path,
        files: list[str],
        hands: list[list[RecordedHand]],
        chaos: int | None,
        node_kills: int,
        nodes: int,
        moves: int,
    ) -> None:
        self.data = data
        self.files = files
        self._hands = hands
        self.names = table_names(files)
        self.total = sum(map(len, hands))
        self.chaos = chaos
        self.node_kills = node_kills
        self.nodes = nodes
        self.moves = moves
        self.killed = 0
        self.moved = 0
        self.seconds = 0.0
        self.commands_before = 0
        self.tally = Tally()
        self._report = data / "report.log"
        self._log = data / "node.log"
        self._rest = b""
        # After how many hands the node is killed: spread over the run, seeded like the rest of the chaos.
        self._kill_at = self._spread(node_kills, random.Random(f"{chaos or 0}/node"))  # allowed: seeded by an argument

    def _spread(self, count: int, chance: random.Random) -> list[int]:
        """So many moments of the run, each as the number of hands before it, in order."""
        return sorted(max(1, int(self.total * (index + chance.random()) / count)) for index in range(count))

    def play(self) -> int:
        """Let the node play everything; returns an exit code."""
        self._report.touch(mode=0o600)
        with self._report.open("rb") as report:
            self._follow(report)
            begun = time.perf_counter()
            try:
                while self.killed < self.node_kills or not self._finished():
                    code = self._live(report)
                    if code != OK:
                        return code
                    if self._finished() and self.killed >= self.node_kills:
                        break
            finally:
                self.seconds = time.perf_counter() - begun
                if sys.stderr.isatty():
                    print(file=sys.stderr)
        return OK

    def _finished(self) -> bool:
        return len(self.tally.done) == len(self.files)

    def _live(self, report: Any) -> int:
        """One life of the node: until it is killed, or everything is played."""
        with self._log.open("ab") as log:
            node = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=log, cwd=self.data)
            try:
                return self._watch(node, report)
            finally:
                if node.poll() is None:
                    node.kill()
                node.wait()

    def _settings(self) -> dict[str, str]:
        return {
            "files": "\n".join(self.files),
            "report": str(self._report),
            "chaos": "" if self.chaos is None else str(self.chaos),
            "kills": str(sum(self.tally.kills.values())),
        }

    def stores(self) -> list[Journal]:
        """The stores of all nodes, after the end; to be closed. Raises StoreError."""
        return [open_store(self.data / "store", read_only=True)]

    def _command(self) -> list[str]:
        options = [f"--set={name}={value}" for name, value in self._settings().items()]
        name = f"replay-{os.getpid()}"
        store = str(self.data / "store")
        start = ["start", "game.replay_app:application", "--name", name, "--data", store]
        return [sys.executable, "-m", "supervisors.cli.main", *start, *options]

    def _watch(self, node: subprocess.Popen[bytes], report: Any) -> int:
        last = time.perf_counter()
        while True:
            if self._follow(report):
                last = time.perf_counter()
                self._show()
            if self._due():
                node.send_signal(signal.SIGKILL)
                node.wait()
                self.killed += 1
                self._follow(report)
                return OK
            if self._finished():
                node.send_signal(signal.SIGTERM)
                try:
                    ended = node.wait(60)
                except subprocess.TimeoutExpired:
                    return self._broken("the node did not stop within 60 s")
                self._follow(report)
                return OK if ended == 0 else self._broken(f"the node ended with {ended}")
            ended_early = node.poll()
            if ended_early is not None:
                self._follow(report)
                code = REFUSED if ended_early == REFUSED else FAILED
                return self._broken(f"the node ended by itself with {ended_early}", code)
            if time.perf_counter() - last > SILENCE:
                return self._broken(f"the node has reported nothing for {SILENCE:g} s")
            time.sleep(POLL)

    def _due(self) -> bool:
        """Whether it is time for the next kill of a node."""
        return self.killed < self.node_kills and len(self.tally.played) >= self._kill_at[self.killed]

    def _follow(self, report: Any) -> bool:
        """Take the new whole lines of the report; whether there were any."""
        *lines, self._rest = (self._rest + report.read()).split(b"\n")
        for line in lines:
            self.tally.take(line.decode())
        return bool(lines)

    def _show(self) -> None:
        if sys.stderr.isatty():
            played = len(self.tally.played)
            width = 30
            bar = "#" * (width * played // self.total)
            kills = sum(self.tally.kills.values())
            line = f"\r[{bar:<{width}}] {played}/{self.total} hands"
            moves = f"  {self.moved} moves" if self.moves else ""
            print(f"{line}  {kills} process kills  {self.killed} node kills{moves}", end="", file=sys.stderr)

    def _broken(self, why: str, code: int = FAILED) -> int:
        tail = self._log.read_text(errors="replace").splitlines()[-30:] if self._log.exists() else []
        print("\n".join(tail), file=sys.stderr)
        return _complain("the replay stopped", why, "its last log lines are above", code)


@final
class _ReplayOnNodes(_Replay):
    """The same on several nodes, which all live until the end, each again and again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Each restart that is asked for is allowed, and one that is not is none the less told.
        restarts = self.node_kills + 3
        folder = self.data / "store"
        self._fleet = Nodes(folder, "replay", self.nodes, self._log, shards=SHARDS, restarts=restarts)
        # Whom to kill: seeded by the command's own argument, like the rest of the chaos.
        self._chance = random.Random(f"{self.chaos or 0}/nodes")  # allowed: seeded by the command's own argument
        chance = random.Random(f"{self.chaos or 0}/moves")  # allowed: seeded by the command's own argument
        self._movement = Movement(self._fleet, self._written(), self._spread(self.moves, chance), chance)

    def _written(self) -> set[int]:
        """The shards in which something will be written."""
        keys = [(TABLE, name) for name in self.names] + [(ROOM, LOBBY)]
        keys += [(WALLET, player) for hands in self._hands for hand in hands for player in hand.players]
        return {shard_of(kind, key, SHARDS) for kind, key in keys}

    def stores(self) -> list[Journal]:
        return self._fleet.stores()

    def _live(self, report: Any) -> int:
        fleet, last = self._fleet, time.perf_counter()
        try:
            fleet.start("game.replay_app:application", {**self._settings(), "nodes": str(self.nodes)})
            while not self._finished() or self.killed < self.node_kills or not self._movement.over:
                ended = fleet.look()
                if self._follow(report):
                    last = time.perf_counter()
                    self._show()
                if ended is not None:
                    return self._broken(f"the nodes ended by themselves with {ended}", max(ended, FAILED))
                # A node that is not ready yet has nothing to lose; with the others the kill goes on.
                if self._due() and fleet.ready:
                    fleet.kill(self._victim())
                    self.killed = fleet.kills
                    last = time.perf_counter()
                self._movement.step(len(self.tally.played), time.perf_counter())
                if self._movement.done > self.moved:
                    self.moved = self._movement.done
                    last = time.perf_counter()
                    self._show()
                if time.perf_counter() - last > SILENCE:
                    return self._broken(f"the nodes have reported nothing for {SILENCE:g} s")
                time.sleep(POLL)
            return self._stop(report)
        finally:
            self._movement.close()
            fleet.end()

    def _victim(self) -> str:
        """Whom to kill: every other time one to which a shard is on its way, if there is one."""
        targets = [name for name in self._movement.nodes if name in self._fleet.ready]
        if targets and self._chance.random() < 0.5:
            return self._chance.choice(targets)
        return self._chance.choice(sorted(self._fleet.ready))

    def _stop(self, report: Any) -> int:
        """Let all nodes come up once more, and end in order: what was under way arrives."""
        until = time.perf_counter() + SILENCE
        while not self._fleet.joined:
            self._fleet.look()
            if time.perf_counter() > until:
                return self._broken(f"the nodes were not all there again within {SILENCE:g} s")
            time.sleep(POLL)
        ended = self._fleet.stop(60)
        self._follow(report)
        if ended is None:
            return self._broken("the nodes did not stop within 60 s")
        return OK if ended == 0 else self._broken(f"the nodes ended with {ended}")


def _conclude(args: argparse.Namespace, replay: _Replay, found: Audit, rules_seconds: float) -> int:
    tally = replay.tally
    mismatches = sum(1 for differences, _ in tally.played.values() if differences)
    missing = replay.total - len(tally.played) + abs(found.hands - replay.total)
    seconds = max(replay.seconds, 1e-9)
    result: dict[str, Any] = {
        "hands": len(tally.played),
        "actions": sum(actions for _, actions in tally.played.values()),
        "mismatches": mismatches + missing,
        "chips_in": found.granted,
        "chips_out": found.held,
        "process_kills": sum(tally.kills.values()),
        "node_kills": replay.killed,
        "moves": replay.moved,
        "lost_commands": len(found.lost),
        "doubled_commands": len(found.doubled),
        "seconds": round(seconds, 3),
        "commands": found.entries,
        "commands_per_second": round(found.entries / seconds, 1),
        "rules_seconds": round(rules_seconds, 3),
        "kills": dict(sorted(tally.kills.items())),
        "kills_in_flight": tally.in_flight,
    }
    good = (
        result["mismatches"] == 0
        and found.granted == found.held
        and not found.lost
        and not found.doubled
        and len(tally.played) == replay.total
        and replay.moved >= replay.moves
    )
    for text in tally.differences[:20]:
        print(f"differs: {text}", file=sys.stderr)
    _print(args, result, good, sys.stdout)
    return OK if good else FAILED


def _print(args: argparse.Namespace, result: dict[str, Any], good: bool, out: TextIO) -> None:
    if args.json:
        print(json.dumps(result), file=out)
        return
    word = "exactly as recorded" if good else "NOT as recorded"
    print(f"{result['hands']} hands, {result['actions']} actions: {word}", file=out)
    print(f"chips: {result['chips_in']} in, {result['chips_out']} out (hundredths)", file=out)
    killed = f"{result['process_kills']} processes and {result['node_kills']} nodes killed"
    if result["moves"]:
        killed += f", {result['moves']} shards moved"
    print(f"{killed}; {result['lost_commands']} commands lost, {result['doubled_commands']} doubled", file=out)
    rate = f"{result['commands']} durable commands in {result['seconds']} s"
    print(f"{rate}: {result['commands_per_second']:.0f} a second", file=out)
