"""Asks a node again and again, on a thread of its own, and finds it again after it was gone.

A screen gives it a function that asks; what that returns, or the refusal that it met, is handed back. The
thread rests longer when the node takes longer, so that looking costs a large node a small part of its time.
What changes a node goes the same way, before the next look: nothing is asked twice, and none of it is given up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

from runtime.observe.client import AdminClient, TimedOut, Unreachable
from runtime.observe.places import BACK
from runtime.observe.protocol import Code, Refusal, Request
from runtime.observe.requests import Stacks

# Seconds after which a wait looks whether it is still wanted.
SLICE = 0.1
# Seconds for which a node that took long for an answer is left alone.
LONGEST = 30.0
# Seconds longer than the node may take for an act that its word on it may take.
ACT_PATIENCE = 1.0
# Seconds that the back door has to say who holds the loop.
BACK_PATIENCE = 1.0


class Ask(Protocol):
    """Asks one thing and waits for the answer; `patience` is how many seconds longer that may take."""

    def __call__(self, request: Request, *, patience: float = 0.0) -> Any:
        """The answer; raises Refusal."""


Look = Callable[[Ask], Any]


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A node, and how it is asked.

    Attributes:
        path: of its socket.
        timeout: seconds that an answer may take.
        interval: seconds between two looks, at least.
        calm: so many times as long as it took for an answer the node is left alone, at most for LONGEST seconds.
    """

    path: Path
    timeout: float = 5.0
    interval: float = 2.0
    calm: float = 20.0


Done = Callable[[Any], object]


class Abandoned(Exception):
    """Something else is wanted now, or nothing more."""


@final
class Poller(threading.Thread):
    """The thread behind one screen.

    Args:
        source: the node.
        look: asks what the screen shows; runs on this thread.
        tell: takes what `look` returned, or the Refusal it met; called on this thread.
    """

    def __init__(self, source: Source, look: Look, tell: Callable[[Any], object]) -> None:
        super().__init__(name="banyan-top", daemon=True)
        self._source = source
        self._look = look
        self._tell = tell
        self._client: AdminClient | None = None
        self._due = threading.Event()
        # What somebody has agreed to, with who takes the answer. Added to by the screen, taken by the thread.
        self._acts: deque[tuple[Request, Done]] = deque()
        self._round = 0
        self._patient = 0.0
        self._paused = False
        self._ended = False
        # Seconds until the next look; longer than the source's interval while the node takes long.
        self.rest = source.interval

    # -- what a screen does --------------------------------------------------------------------------

    def again(self) -> None:
        """Look at once, and give up a look that is being taken: something else is wanted."""
        self._round += 1
        self._due.set()

    def act(self, request: Request, done: Done) -> None:
        """Have the node do something, once; its answer, or the Refusal, goes to `done`, called on the thread."""
        self._acts.append((request, done))
        self.again()

    def pause(self, paused: bool) -> None:
        """Rest, or go on with a look at once."""
        self._paused = paused
        self.again()

    def end(self) -> None:
        """Look no more; the connection is closed soon after."""
        self._ended = True
        self.again()

    # -- the thread ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Look until `end`."""
        while True:
            self._due.clear()
            # Looked for after that, so that no word comes in between and is lost.
            while self._acts:
                self._act(*self._acts.popleft())
            if self._ended:
                break
            began, self._patient = time.monotonic(), 0.0
            if not self._paused:
                self._once(self._look, self._tell)
            busy = max(0.0, time.monotonic() - began - self._patient)
            self.rest = max(self._source.interval, min(self._source.calm * busy, LONGEST))
            self._due.wait(None if self._paused else self.rest)
        self._drop()

    def _once(self, look: Look, tell: Done) -> None:
        """Take a look, unless something else is wanted meanwhile."""
        current = self._round

        def wanted() -> bool:
            return not self._ended and current == self._round

        self._try(lambda: look(lambda request, *, patience=0.0: self._ask(wanted, request, patience)), tell)

    def _act(self, request: Request, done: Done) -> None:
        # Whoever has said yes wants it done, whatever they look at next. The node waits as long itself, and says so.
        self._try(lambda: self._ask(lambda: True, request, ACT_PATIENCE), done)

    def _try(self, asking: Callable[[], Any], tell: Done) -> None:
        try:
            said = asking()
        except Abandoned:
            # What the node still works on for it ends with its connection.
            self._drop()
        except TimedOut as timed_out:
            # It need not work on for an answer that nobody waits for.
            self._drop()
            tell(self._held(timed_out))
        except Refusal as refusal:
            if refusal.code == Code.UNREACHABLE:
                self._drop()
            tell(refusal)
        except (LookupError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            tell(Refusal("the node's answer was not understood", why, "is it of another version?", Code.FAILED))
        else:
            tell(said)

    def _ask(self, wanted: Callable[[], bool], request: Request, patience: float) -> Any:
        if self._client is None:
            self._client = AdminClient(self._source.path, timeout=self._source.timeout)
        self._patient += patience
        allowed = self._source.timeout + patience
        deadline = time.monotonic() + allowed
        number = self._client.send(request)
        while True:
            try:
                return self._client.answer(number, timeout=SLICE)
            except TimedOut:
                if not wanted():
                    raise Abandoned from None
                if time.monotonic() > deadline:
                    raise TimedOut("the node does not answer", allowed) from None

    def _held(self, timed_out: TimedOut) -> Refusal:
        """Why a node does not answer, if its back door knows."""
        try:
            with AdminClient(self._source.path.with_suffix(BACK), timeout=BACK_PATIENCE) as back:
                holder = back.request(Stacks())["holder"]
        except (Unreachable, TimedOut, Refusal):
            return timed_out
        if not holder:
            return timed_out
        return Refusal("the node does not answer", f"its loop is held by {holder}", "`banyan interrupt` breaks it", 6)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
