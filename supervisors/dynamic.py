"""A supervisor of children that come and go: rooms, sessions, connections.

    class Rooms(DynamicSupervisor):
        max_children = 1000

    room = await start_child("rooms", child("room", Room, "blue", restart="transient"))
    await terminate_child("rooms", room)

Each child is restarted alone, as its own spec says; ids need not be unique, children are known by their
pid, also by the pid they had while they wait for a restart. On shutdown all are told at once. A plain
`Supervisor` with the strategy simple_one_for_one has one template for all its children instead.

Source: OTP's simple_one_for_one; Elixir `DynamicSupervisor`; rules S16, S42, S46, S48, S52.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from . import strategy as machines
from .specs import BadSpec, check_flags
from .supervisor import Supervisor


class DynamicSupervisor(Supervisor):
    """Start children with `start_child(supervisor, child(...))`, stop them with `terminate_child(supervisor, pid)`.

    Class attributes, which `init` may also set on the instance:

    - `max_children`: how many it may have at once, those that wait for a restart included; `start_child` is
      refused as max_children beyond that. No bound by default.
    - `extra_arguments`: put before the arguments of each child.
    """

    max_children: ClassVar[float] = math.inf
    extra_arguments: ClassVar[tuple[Any, ...]] = ()

    def _make_machine(self, children: Any) -> machines.Machine:
        whose = type(self).__qualname__
        if children:
            raise BadSpec(
                f"a dynamic supervisor starts empty, but init of {whose} returned {children!r}: "
                "start children with start_child"
            )
        flags = check_flags(self.flags())
        if flags.strategy != "one_for_one":
            raise BadSpec(f"a dynamic supervisor is one_for_one, but {whose} says {flags.strategy!r}")
        limit = self.max_children
        if limit != math.inf and (type(limit) is not int or limit < 0):
            raise BadSpec(f"max_children of {whose} is an int from 0 up, or math.inf, got {limit!r}")
        if type(self.extra_arguments) is not tuple:
            raise BadSpec(f"extra_arguments of {whose} is a tuple, got {self.extra_arguments!r}")
        return machines.DynamicMachine(flags, max_children=limit, extra_arguments=self.extra_arguments)
