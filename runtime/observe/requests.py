"""What a node can be asked over its admin socket: each request with its fields, its bounds and its level. Pure.

Only the operations declared here exist, with exactly their fields: nothing that comes over the socket names
code, but for the source of `eval`, which a node refuses unless it was started with it. `docs/admin.md` lists
them for people, and a test holds the page and this file together.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Literal, final

import msgspec


@final
class Level(enum.IntEnum):
    """What a request may do: look, watch messages pass, change, or run code. Each includes those before it."""

    VIEW = 1
    TRACE = 2
    ACT = 3
    EVAL = 4

    def describe(self) -> str:
        """This level and those it includes: `view+trace`."""
        return "+".join(level.name.lower() for level in Level if level <= self)


Id = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | Annotated[str, msgspec.Meta(max_length=100)] | None
Limit = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
# Seconds for which a request may have the node look on, or wait for a process.
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=600.0)]
SortBy = Literal["mailbox", "oldest", "turns", "memory", "name", "pid"]


# Of an entry in a store's list.
Position = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
# Which shard of the cluster; and a node's name.
Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Member = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="op"
):
    """The base of all requests; `id` comes back with the reply."""

    level: ClassVar[Level] = Level.VIEW
    # Whether it may wait, so that the connection goes on reading meanwhile: one of these runs at a time.
    waits: ClassVar[bool] = False

    id: Id = None

    def beside(self) -> bool:
        """Whether this one runs beside those that come after it."""
        return self.waits


# -- looking -------------------------------------------------------------------------------------------


@final
class Info(Request, frozen=True, kw_only=True, tag="info"):
    """About the node; with `of` (a pid, a name or a key) about one process."""

    of: str | None = None


@final
class Tree(Request, frozen=True, kw_only=True, tag="tree"):
    """The supervision tree; with `of` (a pid or a name) the part below that supervisor."""

    of: str | None = None


@final
class Ps(Request, frozen=True, kw_only=True, tag="ps"):
    """The processes, at most `limit`, ordered by `sort`; with a `window` by how that changes in so many seconds."""

    waits: ClassVar[bool] = True

    limit: Limit = 1000
    sort: SortBy = "mailbox"
    window: Seconds = 0.0

    def beside(self) -> bool:
        """Only a window is waited for."""
        return self.window > 0.0


@final
class State(Request, frozen=True, kw_only=True, tag="state"):
    """The state of a process, as it allows it to be shown; read at once, also while the process is busy."""

    of: str


@final
class Mailbox(Request, frozen=True, kw_only=True, tag="mailbox"):
    """The first `limit` messages that wait for a process, as it allows them to be shown; none is taken out."""

    of: str
    limit: Limit = 20


@final
class Stack(Request, frozen=True, kw_only=True, tag="stack"):
    """Where a process waits now: its frames, without the values in them."""

    of: str


@final
class Timers(Request, frozen=True, kw_only=True, tag="timers"):
    """The timers that are set, the next first, at most `limit`; with `of` those for one process."""

    of: str | None = None
    limit: Limit = 100


@final
class Crashes(Request, frozen=True, kw_only=True, tag="crashes"):
    """The last `limit` crash reports, newest first; with `of` those of one pid, name or kind."""

    of: str | None = None
    limit: Limit = 20


@final
class Stalls(Request, frozen=True, kw_only=True, tag="stalls"):
    """The last `limit` times that a process held the loop, newest first."""

    limit: Limit = 20


@final
class Log(Request, frozen=True, kw_only=True, tag="log"):
    """The last `limit` journal entries of a durable process, or those up to position `before`."""

    of: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    before: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None


@final
class At(Request, frozen=True, kw_only=True, tag="at"):
    """The state of a durable process at a position of its journal, and what the entry there changed.

    A negative `position` counts back from the last entry: -1 is the one before it.
    """

    of: str
    position: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | None = None


@final
class Store(Request, frozen=True, kw_only=True, tag="store"):
    """What the node's journal holds, with the keys that begin with `prefix`, at most `limit`."""

    prefix: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 20


@final
class Config(Request, frozen=True, kw_only=True, tag="config"):
    """What the node was started with; what looks like a secret is not shown."""


@final
class Nodes(Request, frozen=True, kw_only=True, tag="nodes"):
    """The nodes of the cluster, as this one sees them."""


@final
class Shards(Request, frozen=True, kw_only=True, tag="shards"):
    """The shards of the cluster, and what this node knows of them; with `of` those that a node owns."""

    of: Annotated[str, msgspec.Meta(max_length=100)] | None = None


@final
class Moves(Request, frozen=True, kw_only=True, tag="moves"):
    """The moves of shards that run, and the last ones, with who drains; of all nodes, or of those from or to `of`."""

    waits: ClassVar[bool] = True

    of: Member | None = None


@final
class Plan(Request, frozen=True, kw_only=True, tag="plan"):
    """What a move of `shard` to `node` would carry; without both, which moves would even out the load now."""

    waits: ClassVar[bool] = True

    shard: Number | None = None
    node: Member | None = None


@final
class Doctor(Request, frozen=True, kw_only=True, tag="doctor"):
    """What seems wrong with the node, the worst first, each with what to look at next."""


@final
class Names(Request, frozen=True, kw_only=True, tag="names"):
    """The names and pids of processes that begin with `prefix`, for completion in a shell; at most `limit`."""

    prefix: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


@final
class Complete(Request, frozen=True, kw_only=True, tag="complete"):
    """How the last word of `text` may go on. It looks only: no property and no `__getattr__` runs."""

    text: str


@final
class Poison(Request, frozen=True, kw_only=True, tag="poison"):
    """The commands that were set aside, oldest first, at most `limit`; `closed`: those done with as well."""

    closed: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


@final
class Poisoned(Request, frozen=True, kw_only=True, tag="poisoned"):
    """One of them, by its `position` in its store, with the state that it met and the entry before it."""

    position: Position
    relaxed: bool = False


# -- watching ------------------------------------------------------------------------------------------


@final
class Trace(Request, frozen=True, kw_only=True, tag="trace"):
    """What comes to and leaves some processes, until `messages` have passed or `seconds` are over."""

    level: ClassVar[Level] = Level.TRACE
    waits: ClassVar[bool] = True

    of: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]
    messages: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    seconds: Annotated[float, msgspec.Meta(gt=0.0, le=600.0)] = 10.0


@final
class Record(Request, frozen=True, kw_only=True, tag="record"):
    """Keep the last `messages` of every process from now on, for its crash report; 0: of none."""

    level: ClassVar[Level] = Level.TRACE

    messages: Annotated[int, msgspec.Meta(ge=0, le=100)]


# -- changing ------------------------------------------------------------------------------------------


@final
class Kill(Request, frozen=True, kw_only=True, tag="kill"):
    """Send an exit signal to `target` (a pid or a name): `kill`, `shutdown`, `normal`, or any other text."""

    level: ClassVar[Level] = Level.ACT

    target: str
    reason: str = "kill"


@final
class Suspend(Request, frozen=True, kw_only=True, tag="suspend"):
    """Hold a process: it serves system messages only. Told to the process within `timeout` seconds."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    target: str
    timeout: Seconds = 5.0


@final
class Resume(Request, frozen=True, kw_only=True, tag="resume"):
    """Let a suspended process go on. Told to the process within `timeout` seconds."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    target: str
    timeout: Seconds = 5.0


@final
class Restart(Request, frozen=True, kw_only=True, tag="restart"):
    """End a process in order and have its supervisor start it again, within `timeout` seconds."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    target: str
    timeout: Seconds = 30.0


@final
class Replay(Request, frozen=True, kw_only=True, tag="replay"):
    """Have the mended process handle the command that was set aside at `position`, within `timeout` seconds."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    position: Position
    relaxed: bool = False
    timeout: Seconds = 5.0


@final
class Drop(Request, frozen=True, kw_only=True, tag="drop"):
    """Give up the command that was set aside at `position`: its sender is refused from now on."""

    level: ClassVar[Level] = Level.ACT

    position: Position
    relaxed: bool = False


@final
class Move(Request, frozen=True, kw_only=True, tag="move"):
    """Begin to move `shard` to `node`; `moves` tells how it goes."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    shard: Number
    node: Member


@final
class Abort(Request, frozen=True, kw_only=True, tag="abort"):
    """Give up the move with this id, as long as its shard is not sealed."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    move: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


@final
class Drain(Request, frozen=True, kw_only=True, tag="drain"):
    """Have a node move all its shards to others and take none, until `undo`; `moves` tells how it goes."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    node: Member | None = None
    undo: bool = False


@final
class Adopt(Request, frozen=True, kw_only=True, tag="adopt"):
    """Serve the shards of a node that is down out of its own data directory, or give that back."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True

    node: Member
    undo: bool = False


@final
class Rebalance(Request, frozen=True, kw_only=True, tag="rebalance"):
    """Have all nodes even out the load now, and not at their next look."""

    level: ClassVar[Level] = Level.ACT
    waits: ClassVar[bool] = True


@final
class Stop(Request, frozen=True, kw_only=True, tag="stop"):
    """Drain the node: stop its applications in order, then end."""

    level: ClassVar[Level] = Level.ACT


# -- running code --------------------------------------------------------------------------------------


@final
class Eval(Request, frozen=True, kw_only=True, tag="eval"):
    """Run `source` in the session of this connection."""

    level: ClassVar[Level] = Level.EVAL
    waits: ClassVar[bool] = True

    source: str


@final
class Interrupt(Request, frozen=True, kw_only=True, tag="interrupt"):
    """Cancel the line that this connection is running."""

    level: ClassVar[Level] = Level.EVAL


# -- the back door -------------------------------------------------------------------------------------


@final
class Stacks(Request, frozen=True, kw_only=True, tag="stacks"):
    """Where each thread of the node's program is; answered by the back door, also while the loop is held."""


@final
class Break(Request, frozen=True, kw_only=True, tag="interrupt"):
    """Raise `Interrupted` in whoever holds the loop; done by the back door."""

    level: ClassVar[Level] = Level.ACT


_Looking = (
    Info
    | Tree
    | Ps
    | State
    | Mailbox
    | Stack
    | Timers
    | Crashes
    | Stalls
    | Log
    | At
    | Store
    | Config
    | Nodes
    | Shards
    | Moves
    | Plan
    | Doctor
    | Names
    | Complete
    | Poison
    | Poisoned
)
_Changing = Kill | Suspend | Resume | Restart | Replay | Drop | Move | Abort | Drain | Adopt | Rebalance | Stop
AnyRequest = _Looking | Trace | Record | _Changing | Eval | Interrupt
BackRequest = Stacks | Break

REQUESTS: tuple[type[Request], ...] = (
    *(Info, Tree, Ps, State, Mailbox, Stack, Timers, Crashes, Stalls, Log, At, Store, Config, Doctor, Names),
    *(
        Nodes,
        Shards,
        Moves,
        Plan,
        Complete,
        Poison,
        Poisoned,
        Trace,
        Record,
        Kill,
        Suspend,
        Resume,
        Restart,
        Replay,
        Drop,
        Move,
        Abort,
        Drain,
        Adopt,
        Rebalance,
        Stop,
        Eval,
        Interrupt,
    ),
)
BACK_REQUESTS: tuple[type[Request], ...] = (Stacks, Break)


def operation_of(request: Request | type[Request]) -> str:
    """The name under which a request travels."""
    return str(request.__struct_config__.tag)


OPERATIONS: dict[str, type[Request]] = {operation_of(kind): kind for kind in REQUESTS}
BACK_OPERATIONS: dict[str, type[Request]] = {operation_of(kind): kind for kind in BACK_REQUESTS}
