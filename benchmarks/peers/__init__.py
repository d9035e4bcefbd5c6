"""Other runtimes of the same kind in Python, as far as they are installed: a file for each, with rows by name.

Each is measured in a process of its own, so that none pays for another's loop, threads or garbage. What is
not installed is reported as missing, with how to get it.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping

RUNS = 5
TIMEOUT = 300.0

# What to install, and below which Python there is nothing to install.
PEERS = {
    "casty": ("casty", (3, 12)),
    "fauxtp": ("fauxtp", (3, 11)),
    "lapinbeam": ("lapinbeam", (3, 11)),
    "pykka": ("pykka", (3, 11)),
    "xoscar": ("xoscar", (3, 11)),
}
# The same for durable commands.
DURABLE = {
    "eventsourcing": ("eventsourcing", (3, 11)),
    "sqlite": ("sqlite3", (3, 11)),
}

# The same between two processes.
REMOTE = {
    "xoscar_remote": ("xoscar", (3, 11)),
}


def figures(which: Mapping[str, tuple[str, tuple[int, int]]] = PEERS) -> dict[str, dict[str, float]]:
    """The figures of every peer that is installed: by its name, then by row."""
    found = {}
    for peer in which:
        why = missing(peer)
        if why:
            print(f"{peer}: missing, {why}", file=sys.stderr)
            continue
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers", peer],
            capture_output=True,
            check=False,
            text=True,
            timeout=TIMEOUT,
        )
        if ran.returncode != 0:
            print(f"{peer}: failed: {ran.stderr.strip()[-500:]}", file=sys.stderr)
            continue
        found[peer] = json.loads(ran.stdout.splitlines()[-1])
    return found


def missing(peer: str) -> str:
    """Why a peer cannot be measured here, and how to get it; "" if it can."""
    package, python = (PEERS | DURABLE | REMOTE)[peer]
    if sys.version_info < python:
        return f"it needs Python {python[0]}.{python[1]} or newer, this is {sys.version_info[0]}.{sys.version_info[1]}"
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"{error}: uv run --with {package} python -m benchmarks ..."
    return ""


def measure(peer: str) -> dict[str, float]:
    """The medians of one peer's rows, in this process."""
    rows = importlib.import_module(f"benchmarks.peers.on_{peer}").ROWS
    found = {}
    for row, run in rows.items():
        run()
        found[row] = statistics.median(run() for _ in range(RUNS))
    return found
