"""The part of a region that is a supervision tree: its shards, in each the entities that run here.

    region            rest_for_one: the router, and what it has started
    |-- router        takes every request; `region/NAME`
    `-- shards        a supervisor for each shard in use here
        |-- shard-7   its entities, each restarted alone, within the shard's intensity
        `-- known-7   which entities the shard has, if the region remembers them

An entity is an ordinary process with the local name `REGION/KEY`, which is also its first argument. It is
transient: one that ends in order is gone until the next message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from runtime.behaviours.gen import Behaviour
from runtime.durable.commands import Query
from runtime.durable.durability import Owned
from runtime.durable.event_sourced import EventSourced
from runtime.durable.hooks import Hooks
from runtime.kernel.messages import Call, message
from runtime.kernel.process import Process

from ..dynamic import DynamicSupervisor
from ..specs import ChildSpec, child
from ..supervisor import Supervisor


@final
@dataclass(frozen=True, slots=True)
class RegionSpec:
    """What a region is, as `region(...)` was told."""

    name: str
    entity: type[Behaviour]
    args: tuple[Any, ...] = ()
    idle: float = 120.0
    remember: bool = False
    rate: float = 200.0
    intensity: int = 10
    period: float = 5.0
    prefer: str = "consistency"

    @property
    def router(self) -> str:
        """The name of the region's router, the same on every node."""
        return self.router_of(self.name)

    @staticmethod
    def router_of(name: str) -> str:
        """The name of the router of a region."""
        return f"region/{name}"

    @property
    def shards(self) -> str:
        """The name of the supervisor of its shards."""
        return f"region/{self.name}/shards"

    @property
    def numbered(self) -> bool:
        """Whether its entities keep numbered commands apart by themselves."""
        return issubclass(self.entity, Hooks)

    @property
    def known_class(self) -> type[Behaviour]:
        """The class of a shard's memory."""
        return Known

    @property
    def durable(self) -> bool:
        """Whether what its entities were asked outlives them."""
        return issubclass(self.entity, Hooks) and self.entity.durability != "volatile"

    def supervisor(self, shard: int) -> str:
        """The name of a shard's supervisor."""
        return f"{self.shards}/{shard}"

    def known(self, shard: int) -> str:
        """The name, and journal key, of what a shard remembers."""
        return f"region/{self.name}/known/{shard}"

    def name_of(self, key: str) -> str:
        """The local name of an entity, and its journal's key."""
        return f"{self.name}/{key}"

    def shard_spec(self, shard: int) -> ChildSpec:
        """The child spec of a shard."""
        return child(f"shard-{shard}", Entities, self.intensity, self.period, name=self.supervisor(shard))

    def known_spec(self, shard: int, owned: Owned | None) -> ChildSpec:
        """The child spec of a shard's memory."""
        name = self.known(shard)
        return child(f"known-{shard}", Known, name, *_given(owned), name=name)

    def entity_spec(self, key: str, args: tuple[Any, ...], owned: Owned | None) -> ChildSpec:
        """The child spec of an entity."""
        name = self.name_of(key)
        given = _given(owned) if self.durable else ()
        return child(key, self.entity, name, *given, *self.args, *args, restart="transient", name=name)


def _given(owned: Owned | None) -> tuple[Owned, ...]:
    return (owned,) if owned is not None else ()


class Entities(DynamicSupervisor):
    """The entities of one shard that run here."""

    def init(self, intensity: int, period: float) -> Any:
        self.intensity, self.period = intensity, period  # type: ignore[misc]  # each region says its own
        return []


class Shards(Supervisor):
    """The shards of a region that are in use here."""

    intensity = 10


def may_sleep(process: Process) -> bool:
    """Whether nobody waits for an entity, watches it, or is waited for by it, and it has nothing against it."""
    if process.mailbox or process.current is not None or process.deferred or process.suspended:
        return False
    return is_unneeded(process)


def is_unneeded(process: Process) -> bool:
    """Whether nobody watches an entity that is at rest, or is watched by it, and it has nothing against its sleep."""
    if process.watchers or process.monitors:
        return False
    if process.links and any(peer != process.parent for peer in process.links):
        return False
    asked = getattr(process.behaviour, "may_sleep", None)
    return bool(asked()) if asked is not None else True


def begins_by_itself(entity: type[Behaviour]) -> bool:
    """Whether a durable class has code of its own for its start, which may set timers or tell others."""
    return issubclass(entity, Hooks) and any(
        getattr(entity, name) is not getattr(Hooks, name) for name in ("setup", "recovered", "reconcile")
    )


# -- what a shard remembers ------------------------------------------------------------------------------


@final
@message("region.remember")
class Remember(Call[None]):
    """To a shard's memory: there is this entity, started with these arguments of its own."""

    key: str
    args: tuple[object, ...]


@final
@message("region.which")
class Which(Query[tuple[tuple[str, tuple[object, ...]], ...]]):
    """Asks a shard's memory for its entities."""


@final
@message("region.remembered")
class Remembered:
    """What a shard's memory journals."""

    key: str
    args: tuple[object, ...]


Memory = dict[str, tuple[object, ...]]


@final
class Known(EventSourced[Memory, Remembered]):
    """Which entities a shard has, each with the arguments of its own start."""

    def initial(self, key: str) -> Memory:
        return {}

    def handle(self, state: Memory, command: Any) -> Any:
        if not isinstance(command, Remember):
            raise AssertionError(f"a shard's memory was asked {command!r}")
        return (None if command.key in state else Remembered(command.key, command.args)), None

    def apply(self, state: Memory, event: Remembered) -> Memory:
        return {**state, event.key: event.args}

    def query(self, state: Memory, request: Any) -> Any:
        return tuple(state.items())

    def describe(self, state: Memory) -> str:
        return f"{len(state)} entities"
