"""Nodes of one cluster, each a process in a network namespace of its own: started, killed, stopped, and ended.

They agree in one coordination directory and speak TLS, with keys made by `banyan certs`. A node may run under
libfaketime; then `jump` puts its wall clock forward or back while it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import trio

from runtime.observe.client import AdminClient
from runtime.observe.protocol import Shards
from supervisors.cli.certs import init, issue
from supervisors.cli.start import STOP
from supervisors.cli.up import missing
from tests.support.source import ROOT

from .net import Network

# Where a node's door is, in its namespace; and where other nodes reach it.
DOOR: Final = ("127.0.0.1", 7000)
_PORT: Final = 7100
# Seconds that anything may take that must come about at all.
DEADLINE: Final = 90.0
# Where systems keep libfaketime.
_FAKETIME: Final = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")


def now() -> float:
    """The machine's monotonic time, which is the same in all its processes."""
    return time.monotonic()  # allowed: it is held against what witnesses have written in other processes


def wall() -> float:
    """The machine's wall clock, as nodes write it into their entries."""
    return time.time()  # allowed: it is held against what nodes have written


async def pause(seconds: float) -> None:
    """Let real nodes have so much real time."""
    await trio.sleep(seconds)  # allowed: a fault lasts so long, and the nodes under it live in real time


def faketime() -> Path | None:
    """The library that makes a wall clock jump; None if the system has none."""
    return next((path for pattern in _FAKETIME for path in sorted(Path("/").glob(pattern[1:]))), None)


@final
class Host:
    """One node, over all its lives.

    Attributes:
        process: its life now; None before the first, and after its end.
        started: the machine's monotonic time at which that life began.
    """

    def __init__(self, name: str, folder: Path, net: Network) -> None:
        self.name = name
        self.folder = folder
        self.net = net
        self.process: trio.Process | None = None
        self.socket = ""
        self.started = 0.0
        self.data = folder / name
        self.seen = folder / f"{name}.witness"
        self.log = folder / f"{name}.log"
        self._offset = folder / f"{name}.clock"
        self.jump(0)

    def _command(self, clock: Path | None) -> list[str]:
        faked = [
            "env",
            f"LD_PRELOAD={clock}",
            f"FAKETIME_TIMESTAMP_FILE={self._offset}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
        ]
        return [
            *self.net.inside(self.name),
            *(faked if clock is not None else ()),
            *(sys.executable, "-W", "error", "-m", "supervisors.cli.main"),
            *("start", "tests.cluster.registers:application", "--with-parent"),
            *("--name", self.name, "--data", str(self.data), "--certs", str(self.folder / "certs")),
            *("--coordination", str(self.folder / "coordination")),
            *("--address", f"{self.net.addresses[self.name]}:{_PORT}"),
            *("--listen", f"{DOOR[0]}:{DOOR[1]}", "--set", f"witness={self.seen}"),
        ]

    async def start(self, *, clock: Path | None = None) -> None:
        """Begin a life, and wait until it says that it is ready. Raises TooSlow, NodeEnded."""
        self.started = now()
        with self.log.open("a") as log:
            self.process = await trio.lowlevel.open_process(
                self._command(clock),
                cwd=ROOT,
                env={**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,  # Ctrl-C is for the harness
            )
        said = b""
        assert self.process.stdout is not None
        with trio.move_on_after(DEADLINE) as patience:
            while b"\n" not in said:
                piece = await self.process.stdout.receive_some()
                if not piece:
                    raise NodeEnded(f"{self.name} did not start:\n{self.words()}")
                said += piece
        if patience.cancelled_caught:
            raise TooSlow(f"{self.name} was not ready after {DEADLINE:g} s:\n{self.words()}")
        self.socket = said.decode().split()[3]

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        await self._gone()

    async def end(self) -> int:
        """SIGTERM, as all of them get it; its exit code."""
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(trio.BrokenResourceError):
            await self.process.stdin.send_all(STOP)
        self.signal(signal.SIGTERM)
        with trio.move_on_after(DEADLINE):
            await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
        return await self._gone()

    async def _gone(self) -> int:
        assert self.process is not None
        code = await self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                await pipe.aclose()
        self.process = None
        return code

    def jump(self, seconds: int) -> None:
        """Put its clock so far from the machine's; felt within a second, if it runs under libfaketime."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}s")
        new.replace(self._offset)

    def witnessed(self, since: float) -> list[tuple[float, str, str]]:
        """What it has said of other nodes since a moment: when, what, of whom."""
        lines = self.seen.read_bytes().splitlines() if self.seen.exists() else []
        found = [json.loads(line) for line in lines]
        return [(at, what, node) for at, what, node in found if at >= since]


class TooSlow(Exception):
    """Something has not come about in time; what."""


class NodeEnded(Exception):
    """A node has ended that should not; its last words."""


@final
class Hosts:
    """All nodes of a cluster; a context manager that leaves none behind."""

    def __init__(self, names: Sequence[str], folder: Path, net: Network) -> None:
        init(folder / "certs")
        for name in names:
            issue(folder / "certs", "node", name)
        self.all = [Host(name, folder, net) for name in names]

    async def start(self) -> None:
        """Start all, and wait until they have joined. Raises TooSlow, NodeEnded."""
        async with trio.open_nursery() as nursery:
            for host in self.all:
                nursery.start_soon(host.start)
        await self.settled()

    async def settled(self) -> float:
        """Wait until all are linked with one another and serve all shards; when that was. Raises TooSlow."""
        sockets = [(host.name, host.socket) for host in self.all]
        with trio.move_on_after(DEADLINE):
            while await trio.to_thread.run_sync(missing, sockets, abandon_on_cancel=True):
                await pause(0.1)
            return now()
        said = "\n".join(f"-- {host.name}\n{host.words()}" for host in self.all)
        raise TooSlow(f"the nodes have not joined after {DEADLINE:g} s:\n{said}")

    async def owners(self) -> dict[int, str]:
        """Whose each shard is, as the first node says, once all are well."""

        def ask() -> dict[int, str]:
            with AdminClient(Path(self.all[0].socket)) as client:
                return {one["shard"]: one["owner"] for one in client.request(Shards())["shards"]}

        return await trio.to_thread.run_sync(ask)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.all:
            if host.process is not None and host.process.returncode is None:
                host.process.kill()
                host.process._proc.wait()
