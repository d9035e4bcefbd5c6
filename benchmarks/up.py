"""`banyan up --nodes 2` beside `--nodes 1`: durable commands a second of all nodes together, by as many clients.

Every client has one command in flight to an entity of its own, which lives on the client's node: so this says what a
second core is worth where nodes have nothing to ask of each other. All of it is by the wall's clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .harness import Row
from .up_load import SECONDS, WARM

CLIENTS = 512
RUNS = 3
ROOT = Path(__file__).parents[1]
# Seconds until nodes have shared out what has no entities yet; for anything else.
SHARED, LIMIT = 3.0, 60.0


def commands(nodes: int) -> float:
    """Commands a second of a machine with so many nodes, from its start to its end."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": made, "XDG_STATE_HOME": made}
        command = [sys.executable, "-m", "supervisors.cli.main", "up", "benchmarks.up_load:Load"]
        command += ["--nodes", str(nodes), "--data", "data", "--log-level", "error"]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("joined"):
                        break
                time.sleep(SHARED)  # noqa: TID251  # no loop runs here
                (folder / "go.new").write_text(str(CLIENTS // nodes))
                (folder / "go.new").rename(folder / "go")
                ends = time.monotonic() + WARM + SECONDS + LIMIT
                while len(found := list(folder.glob("*.found"))) < nodes:
                    if time.monotonic() > ends or process.poll() is not None:
                        raise RuntimeError(f"no figures came: {(folder / 'log').read_text()[-2000:]}")
                    time.sleep(0.05)  # noqa: TID251  # as above
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(LIMIT)
        return sum(float(path.read_text()) for path in found)


def rows() -> list[Row]:
    """One node and two in turn, and how many times one two are."""
    one, two = Row("up, 1 node", "commands/s", "higher"), Row("up, 2 nodes", "commands/s", "higher")
    times = Row("up, 2 nodes by 1", "times", "higher")
    for _ in range(RUNS):
        one.runs.append(commands(1))
        two.runs.append(commands(2))
        times.runs.append(two.runs[-1] / one.runs[-1])
        print(f"1 node {one.runs[-1]:,.0f}/s, 2 nodes {two.runs[-1]:,.0f}/s, {times.runs[-1]:.2f}", file=sys.stderr)
    return [one, two, times]
