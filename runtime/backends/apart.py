"""Work in a process of its own: for what a ruined file might end, and for what must not hold a lock too long.

LMDB trusts the file that it maps. What reads one that may be ruined, or copies one beside a running node, is
done in a forked child: if the child dies, that is a finding and not our end.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any, final

from ..errors import BanyanError


@final
class Died(BanyanError):
    """The child came to no end of its own; `why` says which."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def apart(work: Callable[[Callable[[int], None]], Any], progress: Callable[[int], None], limit: float | None) -> Any:
    """Run `work` in a forked child and return what it returns, which must fit into JSON.

    Args:
        work: called with a function to which it may say how far it has come.
        progress: called here with what the child says.
        limit: seconds after which a child that says nothing is killed; None for no limit.

    Raises:
        Died: it was killed by a signal or by the limit, or raised what is no answer.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(writing, work)
    os.close(writing)
    answer, why = b"", ""
    try:
        with os.fdopen(reading, "rb", 0) as pipe:
            while True:
                if not select.select([pipe], [], [], limit)[0]:
                    why = f"it was not done after {limit:g} s"
                    break
                said = pipe.read(1 << 16)
                if not said:
                    break
                *lines, answer = (answer + said).split(b"\n")
                if lines:
                    progress(int(lines[-1]))
    finally:
        if why or not answer:
            _kill(pid)
        _, status = os.waitpid(pid, 0)
    if why:
        raise Died(why)
    if os.WIFSIGNALED(status):
        raise Died(f"it was ended by {signal.Signals(os.WTERMSIG(status)).name}")
    told, value = json.loads(answer)
    if told != "done":
        raise Died(str(value))
    return value


def _child(writing: int, work: Callable[[Callable[[int], None]], Any]) -> None:
    try:
        try:
            said: tuple[str, Any] = ("done", work(lambda count: _say(writing, b"%d\n" % count)))
        except BaseException as error:  # allowed: the parent is told what it was
            said = ("raised", f"{type(error).__name__}: {error}")
        _say(writing, json.dumps(said).encode())
    finally:
        os._exit(0)  # allowed: a forked child must run nothing of its parent's


def _say(writing: int, text: bytes) -> None:
    while text:
        text = text[os.write(writing, text) :]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)  # allowed: our own child
    except ProcessLookupError:
        pass
