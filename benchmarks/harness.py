"""What all benchmarks share: repeated runs, medians, and the one JSON form in which they are told."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

RUNS = 5


@dataclass(slots=True)
class Row:
    """One figure: `ours` and `floor` are medians of the runs, taken in turn."""

    name: str
    unit: str
    better: str
    runs: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As docs/contracts.md has it; null for what did not run."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "ours": _median(self.runs),
            "floor": _median(self.floors),
            "beam": None,
            "peers": {},
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


def tell(rows: list[Row], as_json: bool) -> None:
    """Print the table, and with `as_json` one JSON object as the last line."""
    for row in rows:
        found = row.to_json()
        floor = f"  (floor {found['floor']:,})" if found["floor"] is not None else ""
        print(f"{row.name:<48}{found['ours']:>14,} {row.unit}{floor}")
    if as_json:
        machine = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "trio": trio.__version__,
            "system": platform.system(),
            "machine": platform.machine(),
        }
        print(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}))
