"""What all benchmarks share: repeated runs, medians, and the one JSON form in which they are told."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

RUNS = 5

_clock = time.perf_counter


def now() -> float:
    """Seconds of the clock that is measured by: the wall's, or with `by_processor` this process's own."""
    return _clock()


def by_processor() -> None:
    """Measure by processor time: for a machine that others use at the same time, where the wall's says nothing."""
    global _clock
    _clock = time.process_time


@dataclass(slots=True)
class Row:
    """One figure: `ours` and `floor` are medians of the runs, taken in turn."""

    name: str
    unit: str
    better: str
    runs: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    beam: float | None = None
    peers: dict[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As docs/contracts.md has it; null for what did not run."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "ours": _median(self.runs),
            "floor": _median(self.floors),
            "beam": round(self.beam, 3) if self.beam is not None else None,
            "peers": {peer: round(value, 3) if value is not None else None for peer, value in self.peers.items()},
            "runs": [round(one, 3) for one in self.runs],
        }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def measure(row: Row, ours: Callable[[], float], floor: Callable[[], float] | None = None) -> Row:
    """Run ours and its floor alternately, RUNS times, after one warm-up of each."""
    ours()
    if floor is not None:
        floor()
    for _ in range(RUNS):
        if floor is not None:
            gc.collect()
            row.floors.append(floor())
        gc.collect()
        row.runs.append(ours())
    ratio = ""
    if row.floors:
        ratio = f"  floor {statistics.median(row.floors):,.1f}"
    print(f"{row.name}: {statistics.median(row.runs):,.1f} {row.unit}{ratio}", file=sys.stderr)
    return row


def fresh(module: str, name: str) -> Callable[[], float]:
    """A measurement by a function of a module, in a new process each time: what earlier ones left is not in it."""

    def run() -> float:
        code = f"import {module} as m; print(m.{name}())"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(ran.stdout)

    return run


def tell(rows: list[Row], as_json: bool) -> None:
    """Print the table, and with `as_json` one JSON object as the last line."""
    for row in rows:
        found = row.to_json()
        floor = f"  (floor {found['floor']:,})" if found["floor"] is not None else ""
        beam = f"  (BEAM {found['beam']:,})" if found["beam"] is not None else ""
        print(f"{row.name:<52}{found['ours']:>14,} {row.unit}{floor}{beam}")
        for peer, value in found["peers"].items():
            if value is None:
                continue  # it did not run
            print(f"    {peer:<48}{value:>14,} {row.unit}")
    if as_json:
        machine = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "trio": trio.__version__,
            "system": platform.system(),
            "machine": platform.machine(),
        }
        print(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}))
