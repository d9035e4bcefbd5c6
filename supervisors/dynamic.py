"""A supervisor of children that come and go: rooms, sessions, connections.

Each child is restarted alone, as its own spec says; ids need not be unique, children are known by their
pid. On shutdown all are told at once. Source: OTP's simple_one_for_one; Elixir `DynamicSupervisor`.
"""

from __future__ import annotations

from typing import Any

from . import strategy as machines
from .specs import BadSpec, check_flags
from .supervisor import Supervisor


class DynamicSupervisor(Supervisor):
    """Start children with `start_child(supervisor, child(...))`, stop them with `terminate_child(supervisor, pid)`."""

    def _make_machine(self, children: Any) -> machines.Machine:
        if children:
            raise BadSpec(
                f"a dynamic supervisor starts empty, but init of {type(self).__qualname__} returned {children!r}: "
                "start children with start_child"
            )
        return machines.DynamicMachine(check_flags(self.flags()))
