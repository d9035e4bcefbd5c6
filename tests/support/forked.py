"""Commands in a process of their own that is forked from this one: as real as a new Python, without its start.

A start of Python that imports Trio takes a quarter of a second, a fork a hundredth; and the tests of commands
make hundreds of them.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn


def run_forked(
    main: Callable[[list[str]], int],
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    limit: float,
) -> subprocess.CompletedProcess[str]:
    """Run `main(arguments)` in a forked child to its end, as `subprocess.run` would; warnings are errors there.

    Args:
        cwd, env: its working directory, and all of its environment.
        stdin: what it can read.
        limit: seconds that it may take; then it is killed, and subprocess.TimeoutExpired is raised.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        # Its other end is closed when the child ends, however that comes about.
        living, lives = os.pipe()
        stack.callback(os.close, living)
        pid = os.fork()
        if pid == 0:
            _child(main, list(arguments), cwd, env, files)
        os.close(lives)
        ended, _, _ = select.select([living], [], [], limit)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not ended:
            raise subprocess.TimeoutExpired(list(arguments), limit)
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, files[1].read().decode(), files[2].read().decode())


class Forked:
    """A command that runs in a forked child, with those methods of `subprocess.Popen` that tests use.

    Args:
        main, arguments, cwd, env: as `run_forked` has them.
        stderr: where its stderr goes.
    """

    def __init__(
        self,
        main: Callable[[list[str]], int],
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stderr: IO[str],
    ) -> None:
        self.returncode: int | None = None
        reading, writing = os.pipe()
        with open(writing, "wb") as stdout, open(os.devnull, "rb") as stdin:
            self.pid = os.fork()
            if self.pid == 0:
                os.close(reading)
                _child(main, list(arguments), cwd, env, (stdin, stdout, stderr))
        self.stdout = open(reading)  # noqa: SIM115  # closed at its end
        self._ends = os.pidfd_open(self.pid)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait(None)
        os.close(self._ends)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ends, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit code, as Popen has it; None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None) -> int:
        """Wait for its end; its exit code. subprocess.TimeoutExpired after that many seconds."""
        if self.returncode is None:
            if not select.select([self._ends], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("banyan", timeout or 0.0)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _child(
    main: Callable[[list[str]], int],
    arguments: list[str],
    cwd: Path,
    env: Mapping[str, str],
    files: Sequence[IO[Any]],
) -> NoReturn:
    code = 1
    try:
        # What was there before is not looked through again, nor copied for it.
        gc.freeze()
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = (open(number, "r" if number == 0 else "w") for number in range(3))  # noqa: SIM115  # they live as long as the child
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logging.root.handlers.clear()
        warnings.resetwarnings()
        warnings.simplefilter("error")
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.path.insert(0, str(cwd))
        # What lies there may change within a second, which bytecode would not notice.
        sys.dont_write_bytecode = True
        for module in cwd.glob("*.py"):
            sys.modules.pop(module.stem, None)
        sys.argv = ["banyan", *arguments]
        code = _code_of(main, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # nothing may get back into the tests that this is a copy of
        traceback.print_exc()
    finally:
        os._exit(code)


def _code_of(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code) if isinstance(end.code, int) else int(end.code is not None)
