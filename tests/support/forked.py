"""Commands in a process of their own that is forked from this one: as real as a new Python, without its start.

A start of Python that imports Trio takes a quarter of a second, a fork a hundredth; and the tests of commands
make hundreds of them.
"""

from __future__ import annotations

import contextlib
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
from typing import IO, NoReturn


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


def _child(
    main: Callable[[list[str]], int],
    arguments: list[str],
    cwd: Path,
    env: Mapping[str, str],
    files: Sequence[IO[bytes]],
) -> NoReturn:
    code = 1
    try:
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
