"""`banyan up` for tests: started in a folder of its own, read line by line, and ended with all its nodes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.cli.running import LIMIT, Place, Process

TILLS = '''
"""Durable tills that are found on any node."""

from runtime import EventSourced, message
from supervisors import Supervisor, region


@message("tills.paid")
class Paid:
    """An amount."""

    amount: int


class Till(EventSourced):
    """The sum of what was paid."""

    def initial(self, key):
        return 0

    def handle(self, state, command):
        return Paid(command), state + command

    def apply(self, state, event):
        return state + event.amount


class Tills(Supervisor):
    """A region of them."""

    intensity = 10

    def init(self):
        return [region("till", Till)]
'''

PAY = "[await __import__('supervisors').region('till').call(f't{{n}}', {amount}, timeout=20.0) for n in range({many})]"


class Machine:
    """A running `banyan up`."""

    def __init__(self, place: Place, process: Process, log: Path) -> None:
        self.place = place
        self.process = process
        self.pids: dict[str, int] = {}
        self._log = log
        self._rest = b""

    def line(self) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                assert selector.select(LIMIT), f"nothing was said: {self.log}"
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            assert piece, f"it ended: {self.log}"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        word, _, rest = line.decode().partition(" ")
        if word == "ready":
            name, pid, _ = rest.split(" ", 2)
            self.pids[name] = int(pid)
        return line.decode()

    def until(self, word: str) -> str:
        """The next line that begins with a word."""
        while not (line := self.line()).startswith(word):
            pass
        return line

    def visits(self, many: int) -> list[tuple[str, str, int]]:
        """So many lines of the example's guests: (house, its node, which visit)."""
        found = []
        for _ in range(many):
            words = self.until("from").replace(",", "").split()
            found.append((words[3], words[5], int(words[7])))
        return found

    def pay(self, node: str, amount: int, many: int) -> str:
        """Pay into tills, by way of one node; what it answers."""
        ended = self.place.run("eval", "-n", node, "--timeout", "30", PAY.format(amount=amount, many=many))
        assert ended.returncode == 0, ended.stderr + self.log
        return ended.stdout.strip()

    @property
    def log(self) -> str:
        """What was logged so far."""
        return self._log.read_text()

    def until_logged(self, text: str) -> None:
        """Wait until something was logged."""
        wait_until(lambda: text in self.log)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(LIMIT)


@contextmanager
def up(place: Place, *arguments: str) -> Iterator[Machine]:
    """A running `banyan up`; all that is left of it is killed at the end."""
    (place.folder / "tills.py").write_text(TILLS)
    log = place.folder / "up.log"
    with log.open("w") as file:
        process = place.begin(["up", *arguments], file)
    machine = Machine(place, process, log)
    with process:
        try:
            yield machine
        finally:
            process.kill()
            for pid in machine.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is true; each look gives up the processor for a moment."""
    never = threading.Event()
    for _ in range(6000):
        if condition():
            return
        never.wait(0.01)
    raise AssertionError("it has not come true")


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def parts(stderr: str) -> list[str]:
    """The labels of an error's lines."""
    return [line.partition(":")[0] for line in stderr.splitlines() if line[:5] in ("what:", "why: ", "next:")]
