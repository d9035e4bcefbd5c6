"""What a durable process's class says: its choices, and the functions that decide and apply.

`EventSourced` runs it. Nothing here knows of mailboxes, commits or callers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast, final

from ..behaviours.gen_server import GenServer
from .commands import Refuse
from .deliveries import Delivery
from .durability import DEDUP_TTL, Durability, Retention
from .journal import Journal
from .mistakes import check_applied, check_plain
from .recovery import outcome_of
from .timers import DurableTimer

S = TypeVar("S")
E = TypeVar("E")

# What `handle` may return: a refusal, or events (one, several or None) and the reply.
Outcome = Refuse | tuple[Any, Any]
# The hooks that must not wait.
_PLAIN = (
    *("initial", "handle", "apply", "query", "pending", "timers", "upcast", "upcast_state", "committed"),
    *("recovered", "snapshot_now", "setup", "unexpected", "describe"),
)


@final
@dataclass(frozen=True, slots=True)
class Past(Generic[S]):
    """What a journal says of one process: its state, and the numbered commands that were applied, in order."""

    key: str
    state: S
    sequence: int
    commands: tuple[tuple[str, int], ...]


class Hooks(GenServer, Generic[S, E]):
    """The part of `EventSourced` that a subclass sets or overrides."""

    # How much may be lost: "durable", "relaxed", `periodic(seconds)` or "volatile". A start may say otherwise
    # with `Kept`.
    durability: ClassVar[Durability] = "durable"
    # Raised when the meaning of the state or of its events changes; see `upcast_state`.
    schema: ClassVar[int] = 1
    # How many entries at most lie between two snapshots, unless `snapshot_now` says otherwise.
    snapshot_every: ClassVar[int] = 256
    # Which entries are kept behind a snapshot: None for all, `keep_entries(n)` or `keep_seconds(s)`.
    retain: ClassVar[Retention] = None
    # Seconds after which a sender that was not heard of is forgotten, at the next snapshot.
    dedup_ttl: ClassVar[float] = DEDUP_TTL
    # Crashes over one numbered command after which it is set aside.
    poison_after: ClassVar[int] = 3

    key: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_plain(cls, _PLAIN)

    def initial(self, key: str) -> S:
        """The state of a process that has no history. Pure."""
        raise NotImplementedError

    def handle(self, state: S, command: Any) -> Outcome:
        """Decide. Returns `Refuse(reason)`, or events (one, a list, or None) and the reply.

        It may draw from `self.world.random`, because what it draws goes into an event; it has no other
        side effect, and does not change `state`.
        """
        raise NotImplementedError

    def apply(self, state: S, event: E) -> S:
        """The state after an event. Pure: it runs again on each recovery."""
        raise NotImplementedError

    def query(self, state: S, request: Any) -> Any:
        """Answer a `Query` from the committed state."""
        return Refuse(f"{type(self).__qualname__} has no answer to {request!r}")

    def pending(self, state: S) -> Iterable[Delivery]:
        """What this process owes to others, as its state says. Pure. Cheap: asked after every commit.

        For durable processes only: one that may forget would use a delivery's number twice.
        """
        return ()

    def timers(self, state: S) -> Iterable[DurableTimer]:
        """The timers that are set, as the state says. Pure. Cheap: asked after every commit."""
        return ()

    def upcast(self, name: str, version: int, fields: tuple[object, ...]) -> object:
        """A record of an older version, or of a name that is gone, as it is today. Pure.

        Asked for each such record in an entry or a snapshot, with its fields as they were written, in order.
        NotImplemented: it is not known; the process is not started then, and its history is left as it is.
        """
        return NotImplemented

    def upcast_state(self, state: Any, schema: int) -> S:
        """The state of a snapshot of an older schema as it is today. Pure.

        NotImplemented: the state is made anew from all its events, if they are all there.
        """
        return cast("S", NotImplemented)

    def committed(self, state: S, events: tuple[E, ...]) -> None:
        """Runs after each commit, before the reply leaves: for news to others. Must not wait."""

    def recovered(self, state: S) -> None:
        """Runs once, after recovery, before the first command. Must not wait."""

    async def reconcile(self, state: S) -> None:
        """Make the world as the state says: runs after recovery and after each commit; may wait.

        The reply has left by then. What it raises ends the process, and so it is tried again.
        """

    def snapshot_now(self, state: S, since: int) -> bool:
        """Whether to keep a snapshot now, `since` entries after the last one."""
        return since >= self.snapshot_every

    def setup(self, *args: Any) -> None:
        """Runs first, with the arguments of the start after the key. Must not wait."""

    def unexpected(self, state: S, message: object) -> None:
        """Runs for a message that is no command: an Exit, a Down. Must not wait."""
        super().handle_info(message)

    def describe(self, state: S) -> str:
        """The committed state in a few words, for a line of the tree; names no secret."""
        return ""

    @classmethod
    def past(cls, journal: Journal, key: str) -> Past[S]:
        """Read a process out of a journal without running it: its whole history, no snapshot.

        Raises: StoreDamaged, StoreNewer, EntriesDropped, HistoryError.
        """
        one = cls()
        one.key = key
        state = one.initial(key)
        sequence = 0
        commands: list[tuple[str, int]] = []
        for entry in journal.read(key):
            events, _, _ = outcome_of(one, entry)
            for event in events:
                state = one.apply(state, event)
            sequence = entry.sequence
            if entry.sender:
                commands.append((entry.sender, entry.number))
        return Past(key, state, sequence, tuple(commands))

    def _event_of(self, event: E, schema: int) -> Any:
        """An event out of an entry of an older schema; NotImplemented if nobody brings it up to date."""
        return event

    def _check_applied(self, before: S, events: tuple[E, ...]) -> None:
        check_applied(type(self), before, events)

    def _decide(self, state: S, command: Any) -> Outcome:
        return self.handle(state, command)
