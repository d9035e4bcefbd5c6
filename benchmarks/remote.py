"""Calls and casts between two nodes on loopback, in clear text and with TLS, beside two BEAM nodes.

Each side is a process of its own: ours, the BEAM's, and those of the floors. All of them stay up and take turns within
each run. The floors are bare Trio streams with the same keys: a message of 100 bytes there and back for a call, 64
of them in one piece for 64 calls in flight, and pieces of 64 KiB one way for large casts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from supervisors.cli import certs

from . import beam, peers
from .harness import RUNS, Row
from .programs import Ask, asked, free_port
from .remote_nodes import CALLS, CASTS, CLEAR, LARGE_CASTS, ONE_CALL

# The work, how often ours does it in a run, and how often the others do.
WORK = {ONE_CALL: (3_000, 6_000), CALLS: (20_032, 20_032), CASTS: (100_000, 200_000), LARGE_CASTS: (1_000, 1_000)}


def rows() -> list[Row]:
    """All figures between two nodes: ours, the floor and the BEAM, in clear text and with TLS, in turn."""
    found = []
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        kinds = {"clear": None, "TLS": _make_keys(folder / "keys")}
        programs = {how: _programs(stack, folder, keys) for how, keys in kinds.items()}
        for work in WORK:
            found += _measured(work, programs)
    of_peers = peers.figures(peers.REMOTE)
    for row in found:
        row.peers = {peer: figures[row.name] for peer, figures in of_peers.items() if row.name in figures}
    return found


def _programs(stack: ExitStack, folder: Path, keys: Path | None) -> tuple[Ask, Ask, Ask | None]:
    """Two nodes, two bare programs, two BEAM nodes, for one kind of connection."""
    on_beam = None if beam.missing() else stack.enter_context(beam.pair("banyan_remote", folder, keys))
    return stack.enter_context(_python("node", keys)), stack.enter_context(_python("floor", keys)), on_beam


def _measured(work: str, programs: Mapping[str, tuple[Ask, Ask, Ask | None]]) -> list[Row]:
    """The rows of one piece of work, after one round that is not counted."""
    mine, others = WORK[work]
    found = {how: Row(f"remote {work}, {how}", "1/s", "higher") for how in programs}
    beams: dict[str, list[float]] = {how: [] for how in programs}
    for run in range(RUNS + 1):
        for how, (ours, floor, on_beam) in programs.items():
            there = on_beam(work, others) if on_beam is not None else None
            here = ours(work, mine)
            bare = floor(work, others) if work != CASTS else None
            if run == 0:
                continue  # the warm-up
            found[how].runs.append(here)
            found[how].floors += [bare] if bare is not None else []
            beams[how] += [there] if there is not None else []
    for how, row in found.items():
        row.beam = statistics.median(beams[how]) if beams[how] else None
        told = row.to_json()
        print(f"{row.name}: {told['ours']} 1/s, floor {told['floor']}, BEAM {told['beam']}", file=sys.stderr)
    return list(found.values())


@contextmanager
def _python(kind: str, keys: Path | None) -> Iterator[Ask]:
    """Two processes of ours, or of the floor's; the one that connects is asked."""

    def side(name: str) -> AbstractContextManager[Ask]:
        return asked([sys.executable, "-m", "benchmarks.remote_nodes", kind, name, port, str(keys or CLEAR)])

    port = str(free_port())
    with side("b"), side("a") as ask:
        yield ask


def _make_keys(folder: Path) -> Path:
    certs.init(folder)
    for name in "ab":
        certs.issue(folder, "node", name)
    return folder
