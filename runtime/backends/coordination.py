"""Coordination within one process: compare-and-set over a dictionary. For one node, and for tests."""

from __future__ import annotations

from typing import final


@final
class LocalCoordination:
    """Small named values with versions; nothing survives the process."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, bytes]] = {}

    def read(self, name: str) -> tuple[int, bytes] | None:
        """The (version, value) under `name`, or None."""
        return self._values.get(name)

    def compare_and_set(self, name: str, expected: int, value: bytes) -> bool:
        """Store `value` as version `expected` + 1 if the version is still `expected` (0: none yet)."""
        version = self._values.get(name, (0, b""))[0]
        if version != expected:
            return False
        self._values[name] = (expected + 1, value)
        return True
