"""Programs beside the one that measures: they say that they are ready, and work when they are asked to."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

# What is to be done, and how often; how many a second that were.
Ask = Callable[[str, int], float]
ENDS = 10.0


@contextmanager
def running(args: list[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program, ended at the end: by the end of its input, and otherwise by force."""
    pipe = subprocess.PIPE
    with subprocess.Popen(args, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=env) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(ENDS if env is None else 1.0)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def asked(args: list[str], env: Mapping[str, str] | None = None) -> Iterator[Ask]:
    """A program that says it is ready, and then answers each line `WORK<TAB>COUNT` with a figure."""
    with running(args, env) as process:
        written, read = process.stdin, process.stdout
        assert written is not None and read is not None  # noqa: PT018  # both are pipes
        line = read.readline()
        if line != "ready\n":
            raise RuntimeError(f"it did not start: {' '.join(args)}: {line}")

        def ask(work: str, count: int) -> float:
            written.write(f"{work}\t{count}\n")
            return float(read.readline())

        yield ask


def free_port() -> int:
    """A port of loopback that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
