"""What a node does about Python's garbage collector: nothing, or it puts aside what its start has made.

A full collection looks at every object that there is, and the loop stands still meanwhile. Most of those of a node
that is up are there to stay: its code, its tree, its processes. `freeze` collects once when applications have been
started and then puts all that is left out of the collector's sight (`gc.freeze`), until the node ends. What is made
afterwards is collected as ever.

The price: a cycle among what was put aside is not found any more, should it become garbage before the node ends. And
the collector is the whole program's, so an embedded node leaves it alone unless it is told otherwise.

Source: CPython `gc.freeze`; Instagram's fork servers.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

from runtime.errors import Misuse

GcPolicy = Literal["freeze", "python"]


@final
class Collector:
    """One node's say about the collector.

    Args:
        policy: "freeze", or "python": nothing is touched.

    Raises: Misuse, if it is neither.
    """

    def __init__(self, policy: GcPolicy) -> None:
        if policy not in ("freeze", "python"):
            raise Misuse(f"gc_policy is 'freeze', or 'python' for a collector that is left alone, got {policy!r}")
        self.policy = policy
        self._frozen = False

    def put_aside(self) -> None:
        """Applications are up. With "freeze" this is a full collection: it holds the loop once."""
        if self.policy == "freeze":
            gc.collect()
            gc.freeze()
            self._frozen = True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the life of the node: at its end the collector sees again what was put aside."""
        try:
            yield
        finally:
            if self._frozen:
                self._frozen = False
                gc.unfreeze()


__all__ = ["Collector", "GcPolicy"]
