"""What a heartbeat's connection carries, handed to the World's heart when the handshake is through.

The heart calls it in a thread of its own, so it shares with the loop what is safe to share: a queue of beats, and a
word for the end. What has come is looked at by the loop, which could do nothing about it while it is held anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

from .health import Beat, Beats
from .tls import Cipher


@final
class Heartbeat:
    """One connection's carrier; called by the heart alone, but for `came` and `gone`.

    Args:
        cipher: the connection's TLS, which nobody else uses any more.
        age: how many seconds ago the loop came round, at a monotonic time; safe in any thread.
        rest: bytes that came with the handshake.

    Attributes:
        came: the beats that nobody has looked at yet.
        gone: why the connection has ended; "" while it has not.
    """

    def __init__(self, cipher: Cipher | None, age: Callable[[float], float], rest: bytes) -> None:
        # Appending and popping are atomic: the heart's thread appends, the loop pops.
        self.came: deque[Beat] = deque()
        self.gone = ""
        self._cipher = cipher
        self._age = age
        self._beats = Beats()
        self.came.extend(self._beats.feed(rest))

    def beat(self, now: float) -> bytes:
        data = self._beats.beat(self._age(now))
        return self._cipher.encrypt(data) if self._cipher is not None else data

    def heard(self, data: bytes) -> None:
        inside = self._cipher.decrypt(data) if self._cipher is not None else data
        if inside is not None:
            self.came.extend(self._beats.feed(inside))

    def lost(self, why: str) -> None:
        self.gone = why or "it ended"
