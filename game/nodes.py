"""Several nodes of this machine that are watched from outside: `banyan up` as a program, followed by what it says.

The commands that kill nodes use it. Nothing here waits, but for the end of the whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import final

from runtime import Journal
from supervisors import open_store


@final
class Nodes:
    """The nodes of one `banyan up`.

    Args:
        folder: where their stores lie, each below its name, and what they agree in.
        count: how many; 2 or more.
        log: the file that their logs are appended to.
        shards: how many a new cluster gets.
        restarts: of nodes, all together, that are allowed in a minute.

    Attributes:
        names: in order. They are those of before, if the folder has been used.
        ready: the process id and the admin socket of those that are up, by name.
        joined: whether all are linked with one another and serve all shards, since the last kill.
    """

    def __init__(self, folder: Path, kind: str, count: int, log: Path, *, shards: int, restarts: int) -> None:
        before = sorted(one.name.removesuffix("-1") for one in folder.glob("*-1"))
        self._name = before[0] if before else f"{kind}-{os.getpid()}"
        self.folder = folder
        self.names = [f"{self._name}-{number}" for number in range(1, count + 1)]
        self.ready: dict[str, tuple[int, str]] = {}
        self.joined = False
        self.kills = 0
        self._log = log
        self._said = log.with_suffix(".said")
        self._shards = shards
        self._restarts = restarts
        self._rest = b""
        self._program: subprocess.Popen[bytes] | None = None

    def start(self, application: str, settings: Mapping[str, str]) -> None:
        """Start the program; `look` tells what becomes of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["up", application, "--nodes", str(len(self.names)), "--name", self._name, "--data", str(self.folder)]
        command += ["--shards", str(self._shards), "--restarts", str(self._restarts)]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log, self._said.open("wb") as said:
            self._program = subprocess.Popen(
                [sys.executable, "-m", "supervisors.cli.main", *command],
                stdout=said,
                stderr=log,
                cwd=self.folder.parent,
                process_group=0,
            )
        self._output = self._said.open("rb")

    def look(self) -> int | None:
        """Take what was said since; the program's exit code, None while it runs."""
        assert self._program is not None
        code = self._program.poll()
        *lines, self._rest = (self._rest + self._output.read()).split(b"\n")
        for line in lines:
            word, _, found = line.decode(errors="replace").partition(" ")
            if word == "ready":
                name, pid, socket = found.split(" ", 2)
                self.ready[name] = (int(pid), socket)
            elif word == "joined":
                self.joined = len(self.ready) == len(self.names)
        return code

    def kill(self, name: str) -> None:
        """Kill a node that is ready with SIGKILL; its supervisor starts it again, on its own data."""
        pid, _ = self.ready.pop(name)
        self.joined = False
        os.kill(pid, signal.SIGKILL)
        self.kills += 1

    def stop(self, patience: float) -> int | None:
        """Have all of them end in order; the exit code, None if they have not ended within `patience` seconds."""
        assert self._program is not None
        self._program.send_signal(signal.SIGTERM)
        try:
            return self._program.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Leave nothing running."""
        if self._program is None:
            return
        if self._program.poll() is None:
            self.look()
            # The parent first, so that it starts no other; a node whose parent is gone ends by itself as well.
            self._program.kill()
            for pid, _ in self.ready.values():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._program.wait()
        self._output.close()

    def stores(self) -> list[Journal]:
        """Their stores, after they have ended, to be read and closed. Raises StoreError."""
        return [open_store(self.folder / name, read_only=True) for name in self.names]
