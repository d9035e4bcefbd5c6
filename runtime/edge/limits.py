"""How much one client may ask for: token buckets, and a count of who is there.

Pure: the time comes in as an argument, and must not run backwards (if it does, nothing is refilled).
Source: the token bucket of RFC 2697.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import final

from ..errors import Misuse


@final
class TokenBucket:
    """Allows `rate` units a second on the average, and `burst` at once.

    Args:
        rate: units a second, above 0; math.inf never refuses.
        burst: units that a full bucket holds, at least 1.
        now: monotonic seconds; the bucket is full then.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if not rate > 0 or not 1 <= burst < math.inf:
            raise Misuse(f"wanted a rate above 0 and a finite burst of at least 1, got {rate!r} and {burst!r}")
        self.rate = rate
        self.burst = float(burst)
        self._level = self.burst
        self._at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:g} of {self.burst:g}, {self.rate:g}/s>"

    def take(self, now: float, units: float = 1.0) -> bool:
        """Take `units` out, if they are there; False takes nothing."""
        if self.rate == math.inf:
            return True
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now
        if units > self._level:
            return False
        self._level -= units
        return True

    def wait(self, now: float, units: float = 1.0) -> float:
        """Seconds from `now` until `units` could be taken; math.inf if they never fit."""
        if self.rate == math.inf:
            return 0.0
        if units > self.burst:
            return math.inf
        level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate)
        return max(0.0, (units - level) / self.rate)


@final
class Census:
    """Who is there: at most `most` in all, and at most `most_each` under one key.

    Whoever has no key yet counts under None, which only `most` bounds.
    """

    __slots__ = ("_keys", "_there", "most", "most_each")

    def __init__(self, most: int, most_each: int) -> None:
        if most < 1 or most_each < 1:
            raise Misuse(f"wanted bounds of at least 1, got {most!r} in all and {most_each!r} under one key")
        self.most = most
        self.most_each = most_each
        # Invariant: `_keys` counts exactly the keys other than None that are values of `_there`.
        self._there: dict[Hashable, Hashable] = {}
        self._keys: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._there)

    def __repr__(self) -> str:
        return f"<Census {len(self._there)} of {self.most}>"

    def enter(self, who: Hashable) -> bool:
        """Let somebody in, without a key; False if there is no room."""
        if who in self._there:
            return True
        if len(self._there) >= self.most:
            return False
        self._there[who] = None
        return True

    def name(self, who: Hashable, key: Hashable) -> bool:
        """Give somebody who is in a key; False if they are not in, or the key has its most."""
        if who not in self._there:
            return False
        before = self._there[who]
        if before == key:
            return True
        if key is not None and self._keys.get(key, 0) >= self.most_each:
            return False
        self._drop(before)
        self._there[who] = key
        if key is not None:
            self._keys[key] = self._keys.get(key, 0) + 1
        return True

    def leave(self, who: Hashable) -> None:
        """Somebody is gone; whoever was not in is no matter."""
        if who in self._there:
            self._drop(self._there.pop(who))

    def count(self, key: Hashable) -> int:
        """How many are in under a key other than None."""
        return self._keys.get(key, 0)

    def _drop(self, key: Hashable) -> None:
        if key is None:
            return
        left = self._keys[key] - 1
        if left:
            self._keys[key] = left
        else:
            del self._keys[key]
