"""The replay as an application: the card room without bots, a driver for each file, and the nemesis.

`banyan replay` starts a node with it: `banyan start game.replay_app:application --set files=...`. What a
checker must know is appended to a report file, line by line, so that it outlives a SIGKILL of the node.

On several nodes each has all of it, and drives its share of the files: by their names, whichever node the tables are
on. They begin when all of them are there, so that tables and wallets are spread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime import send_nowait, whereis, world
from supervisors import Application, Supervisor, check_settings, child

from .app import Room
from .history import parse_bytes
from .nemesis import HAND_FINISHED, Nemesis
from .places import assembled
from .recorded import RecordedHand
from .replay_table import Driver, grants

NEMESIS = "nemesis"


def table_names(files: list[str]) -> list[str]:
    """A table's name for each file: its stem, made unique, without blanks."""
    names: list[str] = []
    for path in files:
        stem = "-".join(Path(path).stem.split()) or "table"
        names.append(stem if stem not in names else f"{stem}-{len(names)}")
    return names


class Replay(Supervisor):
    """The room, the drivers, and the nemesis if a seed was given.

    Args:
        files: paths of hand histories that were checked before.
        report: path of the file that report lines are appended to.
        chaos: the nemesis's seed, or None.
        kills: how many kills there were before.
        nodes: how many nodes play this together.
    """

    def init(self, files: list[str], report: str, chaos: int | None, kills: int, nodes: int) -> Any:
        # With chaos many restarts in a short time are the point of the exercise.
        intensity = 10 if chaos is None else 1000
        self.intensity = intensity  # type: ignore[misc]  # said by whoever starts the replay
        children = [child("room", Room, intensity)]
        if chaos is not None:
            children.append(child("nemesis", _nemesis, chaos, kills, report, nodes, name=NEMESIS))
        children.append(child("drivers", Drivers, files, report, nodes))
        return children


class Drivers(Supervisor):
    """A driver for each file; one that has played all its hands is done."""

    intensity = 3

    def init(self, files: list[str], report: str, nodes: int) -> Any:
        played = [parse_bytes(Path(path).read_bytes(), path, rules=False) for path in files]
        total = grants(played)
        return [
            child(f"driver {name}", _drive, (number, nodes), name, hands, total, report, restart="transient")
            for number, (name, hands) in enumerate(zip(table_names(files), played, strict=True))
        ]


async def _drive(
    share: tuple[int, int], name: str, hands: list[RecordedHand], total: dict[str, int], report: str
) -> None:
    number, nodes = share
    if await assembled(nodes) != number % nodes:
        return
    write = _reporter(report)

    def tell(line: str) -> None:
        write(line)
        if line.startswith("hand ") and whereis(NEMESIS) is not None:
            send_nowait(NEMESIS, HAND_FINISHED)

    await Driver(name, hands, total, tell).run()


async def _nemesis(seed: int, kills: int, report: str, nodes: int) -> None:
    if nodes > 1:
        # Each node has its own, and is not told of kills when it is started again.
        seed = seed * nodes + await assembled(nodes)
        kills = await world().run_blocking(lambda: Path(report).read_bytes().count(b"\nkill "))
    await Nemesis(seed, kills, _reporter(report)).run()


_reports: dict[str, int] = {}


def _reporter(path: str) -> Callable[[str], None]:
    """Append lines to a file, each by one write to a descriptor opened once."""
    if path not in _reports:
        _reports[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    descriptor = _reports[path]

    def write(line: str) -> None:
        os.write(descriptor, line.encode() + b"\n")

    return write


def application(settings: Mapping[str, str]) -> Application:
    """What `banyan start` runs: settings are `files` (one path a line), `report`, `chaos`, `kills`, `nodes`."""
    check_settings(settings, ("files", "report", "chaos", "kills", "nodes"))
    chaos = settings.get("chaos", "")
    return Application(
        Replay,
        (
            settings["files"].splitlines(),
            settings["report"],
            int(chaos) if chaos else None,
            int(settings.get("kills", "0")),
            int(settings.get("nodes", "1")),
        ),
    )
