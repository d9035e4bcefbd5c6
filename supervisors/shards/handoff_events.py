"""What the two machines of `handoff` are told, and what they want done: events and effects, as records.

An effect says which event tells what came of it. One effect of a machine is under way at a time, but for `Say`,
`Thaw`, `Resume`, `Retire` and `Follow`, of which nothing comes back. Effects are carried out in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from runtime.kernel.ids import Pid

from .handoff_frames import Chunk, Frame, Offer, Token

# -- effects of a source, each with the event that tells what came of it -----------------------------------


@final
@dataclass(frozen=True, slots=True)
class Say:
    """Send a frame to the other side. Nothing comes of it."""

    frame: Frame


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """Write the move into the row -> `Done`, with `why` if it is not there and will not be; or `Unknown`.

    A row that names this very move already, since an earlier try was made and its answer lost, is as good.
    """


@final
@dataclass(frozen=True, slots=True)
class Clear:
    """Take the move out of the row -> `Done`, or `Unknown`. A row that does not name it is left alone."""


@final
@dataclass(frozen=True, slots=True)
class Read:
    """Read about a chunk's worth, of what was never sent or else of what has changed -> `Portion`.

    What is said to be new is to be watched from before the first read on, so that no change falls between.
    """


@final
@dataclass(frozen=True, slots=True)
class Freeze:
    """Let handlers end between two messages, and hold what comes -> `Done`; `why` if that is over budget.

    If it is over budget, all goes on as before. With `force` a handler that does not end is ended.
    """

    force: bool


@final
@dataclass(frozen=True, slots=True)
class Thaw:
    """Go on as before the freeze, with what was held. -> nothing."""


@final
@dataclass(frozen=True, slots=True)
class ReadLast:
    """While frozen: read all that has changed, and what the processes have in memory -> `Rest`."""


@final
@dataclass(frozen=True, slots=True)
class Seal:
    """Seal the shard's epoch in the source's store, durably -> `Done`; `why` if it is open still."""


@final
@dataclass(frozen=True, slots=True)
class Look:
    """Read the shard's row -> `Row`, or `Unknown`."""


@final
@dataclass(frozen=True, slots=True)
class TakeBack:
    """Set the row from (source, epoch), whatever move it names, to (source, epoch + 1) -> `Row` as it is then.

    -> `Unknown`, if nothing came back. A row that is another's, or of another epoch, is left alone.
    """


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """The shard is the source's under this epoch: claim it in the store and thaw. -> nothing; the move is void."""

    epoch: int


@final
@dataclass(frozen=True, slots=True)
class Retire:
    """The shard is another's: stand in for what ran here, pass on what waits. -> nothing."""

    owner: str
    epoch: int


@final
@dataclass(frozen=True, slots=True)
class Follow:
    """After `Retire`: which process each of those that stand in here has become. -> nothing; the move is over.

    None: nobody can tell, since the new owner was not heard of; then the way to them is lost. Of `bare` regions nothing
    came along: whoever waits for a reply that a process of theirs owed waits in vain.
    """

    pids: tuple[tuple[str, str, Pid], ...] | None
    bare: tuple[str, ...] = ()


# -- effects of a target -----------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Check:
    """Could this shard be served here: room on the disk, regions, versions, not leaving -> `Done`."""

    offer: Offer


@final
@dataclass(frozen=True, slots=True)
class Reserve:
    """Erase what is left of the shard here, and note the move, durably, as one without its token -> `Done`."""


@final
@dataclass(frozen=True, slots=True)
class Install:
    """Check a chunk's records and put them in their places -> `Done`.

    What comes after `Verify` is decoded at once, too.
    """

    chunk: Chunk


@final
@dataclass(frozen=True, slots=True)
class Verify:
    """Decode every record that is staged, and bring it up to date -> `Done`."""


@final
@dataclass(frozen=True, slots=True)
class Keep:
    """Compare the digest, put the last records in their places, and note the token; in one commit -> `Done`."""

    token: Token


@final
@dataclass(frozen=True, slots=True)
class Commit:
    """Set the row from (source, epoch, move) to (target, epoch + 1) -> `Row` as it is then, or `Unknown`.

    Any other row is left alone.
    """


@final
@dataclass(frozen=True, slots=True)
class Serve:
    """The shard is the target's: drop the note, and serve it with what the processes had -> `Served`."""

    epoch: int
    luggage: tuple[tuple[str, bytes], ...]


@final
@dataclass(frozen=True, slots=True)
class Erase:
    """Leave nothing of the move -> `Done`.

    Before the first record goes it is written down that the token is not here, so that half of it is never served.
    """


Effect = (
    Say | Plan | Clear | Read | Freeze | Thaw | ReadLast | Seal | Look | TakeBack | Resume | Retire | Follow
    | Check | Reserve | Install | Verify | Keep | Commit | Serve | Erase
)  # fmt: skip  # as a list: what one side does, what the other


# -- events ------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Begin."""


@final
@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for last is done; or not, and `why`."""

    why: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Portion:
    """What was read: packed pieces, nothing if there was nothing to read.

    `left` is how many keys are still to be sent: `new` if some of them were never sent.
    """

    relaxed: bool
    data: bytes
    left: int
    new: bool


@final
@dataclass(frozen=True, slots=True)
class Rest:
    """What was read while frozen; `why` if that took too long or could not be."""

    last: tuple[tuple[bool, bytes], ...] = ()
    digest: bytes = b""
    luggage: tuple[tuple[str, bytes], ...] = ()
    why: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Row:
    """The shard's row, read after the question was asked: its owner, epoch and move."""

    owner: str
    epoch: int
    move: str


@final
@dataclass(frozen=True, slots=True)
class Unknown:
    """The coordination store has not answered: a change may have been made, or be made later."""


@final
@dataclass(frozen=True, slots=True)
class Served:
    """The shard is served: which process each key of the luggage has now, and the regions that have none of theirs."""

    pids: tuple[tuple[str, str, Pid], ...] = ()
    bare: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Heard:
    """A frame has come from the other side."""

    frame: Frame


@final
@dataclass(frozen=True, slots=True)
class Linked:
    """The link to the other side has come, or has gone: then what was said last may be lost.

    With `mover_only` it was not the link: the other side's mover has ended, and the processes of its node live.
    """

    up: bool
    mover_only: bool = False


@final
@dataclass(frozen=True, slots=True)
class GiveUp:
    """Somebody wants the move to be given up; that is heeded until the seal, or the token."""

    why: str


@final
@dataclass(frozen=True, slots=True)
class Tick:
    """It is time; see `deadline`."""


Event = Start | Done | Portion | Rest | Row | Unknown | Served | Heard | Linked | GiveUp | Tick
