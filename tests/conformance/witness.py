"""A World that sees every birth and death; otherwise the real one, under whatever clock Trio runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime import Pid
from supervisors.node.boot import RealWorld


class Witness:
    """The real World, with a list of deaths: (pid, reason) in order."""

    def __init__(self) -> None:
        self._real = RealWorld()
        self.deaths: list[tuple[Pid, Any]] = []
        # Called with (pid, reason) in the instant of a death.
        self.on_death: Callable[[Pid, Any], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def trace(self, what: str, process: Any, detail: Any) -> None:
        """Told by the table of processes."""
        if what == "exit":
            self.deaths.append((process.pid, detail))
            if self.on_death is not None:
                self.on_death(process.pid, detail)
