"""Coordination within one program: compare-and-set over a dictionary. For one node, and for tests.

What several nodes of one program share in a simulation is one of these; those of one machine share a
`coordination_lmdb`. One contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from ..cluster.coordination import check_change
from ..kernel.world import Coordination


@final
class LocalCoordination:
    """Small named values with versions; nothing survives the program. Never waits."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, bytes]] = {}

    async def read(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        return {name: self._values[name] for name in sorted(self._values) if name.startswith(prefix)}

    async def compare_and_set(self, changes: Sequence[tuple[str, int, bytes]]) -> list[bool]:
        for change in changes:
            check_change(*change)
        return [self._set(*change) for change in changes]

    def _set(self, name: str, expected: int, value: bytes) -> bool:
        if self._values.get(name, (0, b""))[0] != expected:
            return False
        self._values[name] = (expected + 1, bytes(value))
        return True


# The type checker holds the class against the seam here.
_port: type[Coordination] = LocalCoordination
