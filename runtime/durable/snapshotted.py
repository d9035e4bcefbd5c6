"""A snapshotted process: plain state, without events; each change keeps the whole of it.

    class Seats(Snapshotted[Plan]):
        durability = periodic(5)

        def initial(self, key): return Plan()

        def handle(self, state, command):
            match command:
                case Take(seat) if seat in state.taken: return Refuse("taken")
                case Take(seat): return state.with_taken(seat), True   # the state from now on, and the reply

For small states, and for those whose way here interests nobody. With `durable` and `relaxed` each command
that changes the state is one entry with the new state; with `periodic(n)` the state is saved every n seconds
if it has changed, and no command makes an entry. Everything else is as in `EventSourced`: numbered commands,
timers, deliveries, classes of durability. What lies before a snapshot is dropped, unless `retain` says
otherwise. Source: durable state as in Akka Persistence; Orleans' grain storage.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, final

from ..kernel.messages import message
from .commands import Refuse
from .durability import KeepEntries, Retention
from .event_sourced import EventSourced

S = TypeVar("S")


@final
@message("banyan.became")
class Became:
    """The event of a snapshotted process: this is its state now."""

    state: object


class Snapshotted(EventSourced[S, Became], Generic[S]):
    """The base of a process with plain state. Override `initial` and `handle`, and not `apply`."""

    snapshot_every: ClassVar[int] = 64
    retain: ClassVar[Retention] = KeepEntries(0)

    def handle(self, state: S, command: Any) -> Refuse | tuple[S, Any]:
        """Decide. Returns `Refuse(reason)`, or the state from now on and the reply.

        It changes `state` not, but makes a new one; the same one, or an equal one, means that nothing has
        happened. It may draw from `self.world.random`.
        """
        raise NotImplementedError

    def apply(self, state: S, event: Became) -> S:
        return event.state  # type: ignore[return-value]  # what `handle` gave, which is an S

    def _decide(self, state: S, command: Any) -> Refuse | tuple[Any, Any]:
        outcome = self.handle(state, command)
        if isinstance(outcome, Refuse):
            return outcome
        new, reply = outcome
        return (None if new is state or new == state else Became(new)), reply

    def _event_of(self, event: Became, schema: int) -> Any:
        state = self.upcast_state(event.state, schema)
        return NotImplemented if state is NotImplemented else Became(state)
