"""Poison commands: a command that crashes its process again and again is set aside, with all that is needed to mend it.

A numbered command over which `handle` or `apply` raises ends its process; its sender sends it again, and so it
would go on. The crashes on one number are counted, durably, and with the last one that the class allows
(`poison_after`) the command is written down with the state that it met and the entry before it. From then on
it is answered `CommandSetAside` and not tried any more. After a mend `replay_poisoned` has the process handle
it once, and then the first sender gets that reply, if it asks; `discard_poisoned` gives it up, and then that
sender is refused. A delivery waits for one of the two, and so do those behind it.

All of it lies in the store of the process, under the key "@poisoned", in the order of its happening. If the
process goes to another node with its shard, its commands that were set aside go with it (`of`, `take`, `leave`).
Source: the dead-letter queues of message brokers; Temporal's stuck workflows, which wait for a fix.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from ..codec.cbor import decode, encode
from ..codec.errors import DecodeError, EncodeError
from ..errors import BanyanError
from ..kernel.api import call
from ..kernel.messages import message
from ..kernel.table import current_table
from .commands import Numbered
from .journal import Journal, StoreDamaged

if TYPE_CHECKING:
    from .writer import JournalWriter

logger = logging.getLogger("banyan")

KEY: Final = "@poisoned"
# The sender of a replay is this and the position, the first one it had.
REPLAY: Final = "@poisoned/"
REPLAYED: Final = "replayed"
DISCARDED: Final = "discarded"
MOVED: Final = "moved"
# Command ids whose crashes are counted at a time.
_COUNTED: Final = 1024
# Bytes of a state that is kept with a command.
_LARGEST: Final = 1 << 20


@message("banyan.poison.crashed")
class _Crashed:
    key: str
    sender: str
    number: int


@message("banyan.poison.set_aside")
class _SetAside:
    key: str
    sender: str
    number: int
    sequence: int
    crashes: int
    error: str
    command: bytes
    state: bytes


@message("banyan.poison.closed")
class _Closed:
    position: int
    how: str


@message("banyan.poison.brought")
class _Brought:
    """One that was set aside in another store; or here, while another of the key had its replay's name."""

    record: _SetAside
    wall: float
    closed: str
    replay: str


@final
@dataclass(slots=True)
class Poisoned:
    """A command that was set aside.

    Attributes:
        position: its place in the store's list; what the functions here take.
        key: of the process that crashed over it.
        sender, number: its id.
        sequence: the process's last entry before it: the state that it met is the one after that.
        crashes: how often it had crashed when it was set aside.
        error: the last crash, in words.
        wall: when it was set aside, in seconds since the Unix epoch.
        closed: "" as long as it waits; "replayed", "discarded", or "moved": it is listed on another node now.
        packed_command, packed_state: both as the codec wrote them; empty if they could not be written, or a
            state was larger than a megabyte.
        replay: the sender under which its process is asked to handle it, the same in each store it comes to.
    """

    position: int
    key: str
    sender: str
    number: int
    sequence: int
    crashes: int
    error: str
    wall: float
    closed: str
    packed_command: bytes
    packed_state: bytes
    replay: str

    @property
    def command(self) -> Any:
        """The command; None if it could not be written. Raises: DecodeError, if its class is not imported."""
        return decode(self.packed_command) if self.packed_command else None

    @property
    def state(self) -> Any:
        """The state that it met; None if it could not be written. Raises: DecodeError, as for `command`."""
        return decode(self.packed_state) if self.packed_state else None


class NotPoisoned(BanyanError):
    """No command waits at that position; `position`, `closed`: what became of it, "" if there never was one."""

    def __init__(self, position: int, closed: str) -> None:
        found = f"it was {closed} before" if closed else "there is none"
        super().__init__(f"no command waits at position {position}: {found}; look at the list again")
        self.position = position
        self.closed = closed


@final
@dataclass(slots=True)
class Aside:
    """Where a command that was set aside lies, what became of it, and who sends its replay; as of `Poisoned`."""

    position: int
    closed: str = ""
    replay: str = ""

    @property
    def discarded(self) -> bool:
        """Whether it was given up."""
        return self.closed == DISCARDED


@final
class SetAsides:
    """What a store's processes look at: which commands are set aside, and how often others have crashed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.commands: dict[tuple[str, str, int], Aside] = {}
        self._crashes: dict[tuple[str, str, int], int] = {}
        try:
            self._read(journal)
        except StoreDamaged as error:
            # The processes themselves are whole: they start, and what was set aside is tried again.
            logger.error("the list of commands that were set aside is not to be read: %s", error)

    def _read(self, journal: Journal) -> None:
        if journal.head(KEY):
            listed = {one.position: one for one in poisoned(journal, closed=True)}
            for one in listed.values():
                self.commands[one.key, one.sender, one.number] = Aside(one.position, one.closed, one.replay)
            for entry in journal.read(KEY):
                record = decode(entry.payload)
                if isinstance(record, _Crashed):
                    self._count((record.key, record.sender, record.number))
            for identity in self.commands:
                self._crashes.pop(identity, None)

    def _count(self, identity: tuple[str, str, int]) -> int:
        crashes = self._crashes[identity] = self._crashes.pop(identity, 0) + 1
        if len(self._crashes) > _COUNTED:
            del self._crashes[next(iter(self._crashes))]
        return crashes

    def note(
        self,
        writer: JournalWriter,
        key: str,
        numbered: Numbered[Any],
        sequence: int,
        state: object,
        error: BaseException,
        most: int,
    ) -> None:
        """Note durably that a command has crashed its process, and set it aside if that was the `most`-th time.

        Args:
            sequence, state: the process's last entry before it, and the state that it met.

        Raises: as `JournalWriter.write_alone`.
        """
        identity = (key, numbered.sender, numbered.number)
        crashes = self._count(identity)
        if crashes < most:
            writer.write_alone(KEY, encode(_Crashed(*identity)), _wall())
            return
        said = f"{type(error).__name__}: {error}"[:1000]
        record = _SetAside(*identity, sequence, crashes, said, _packed(numbered.command), _packed(state))
        position = self._write(writer, record)
        current_table().counts.set_aside += 1
        del self._crashes[identity]
        logger.error(
            "%s crashed %d times over command %d of %s, which is set aside at position %d: %s",
            *(key, crashes, numbered.number, numbered.sender, position, type(error).__name__),
        )

    def close(self, writer: JournalWriter, one: Poisoned, how: str) -> None:
        """Write down what became of a command."""
        writer.write_alone(KEY, encode(_Closed(one.position, how)), _wall())
        self.commands[one.key, one.sender, one.number].closed = how

    def _write(self, writer: JournalWriter, record: _SetAside) -> int:
        """Write down that a command is set aside; its position."""
        key, wall = record.key, _wall()
        writer.flush()
        replay = f"{REPLAY}{writer.journal.head(KEY) + 1}"
        # One that came from elsewhere may have that name, and the process its reply.
        others = {aside.replay for (other, _, _), aside in self.commands.items() if other == key}
        packed = encode(record)
        if replay in others:
            while replay in others:
                replay += "/"
            packed = encode(_Brought(record, wall, "", replay))
        position = writer.write_alone(KEY, packed, wall)
        self.commands[key, record.sender, record.number] = Aside(position, "", replay)
        return position

    # -- when a shard moves --------------------------------------------------------------------------

    def of(self, keys: Collection[str]) -> list[bytes]:
        """What is to go along with these keys: their commands that were set aside, also those that are closed.

        Raises: StoreDamaged, StoreNewer.
        """
        # The keys are asked, and not gone through: there may be a million of them, and few are set aside.
        wanted = {key for key, _, _ in self.commands if key in keys}
        if not wanted:
            return []
        listed = _listed(self._journal).values()
        return [encode(one) for one in listed if one.record.key in wanted and one.closed != MOVED]

    def take(self, writer: JournalWriter, records: Iterable[bytes]) -> None:
        """Take in what another store's `of` gave, all of it or nothing; what is known already is passed over.

        Raises: DecodeError: it is something else; as `JournalWriter.write_alone`.
        """
        payloads: list[bytes] = []
        known: dict[tuple[str, str, int], tuple[int | None, str, str]] = {}
        for data in records:
            one = decode(data, checked=True)
            if not isinstance(one, _Brought) or one.closed not in ("", REPLAYED, DISCARDED):
                raise DecodeError("a command that was set aside", repr(one)[:100])
            identity = one.record.key, one.record.sender, one.record.number
            here = self.commands.get(identity)
            if identity in known:
                continue
            if here is None or here.closed == MOVED:
                known[identity] = None, one.closed, one.replay
                payloads.append(bytes(data))
            elif one.closed and not here.closed:
                known[identity] = here.position, one.closed, here.replay
                payloads.append(encode(_Closed(here.position, one.closed)))
        if payloads:
            first = writer.write_all(KEY, payloads, _wall())
            for at, (identity, (position, closed, replay)) in enumerate(known.items(), first):
                self.commands[identity] = Aside(at if position is None else position, closed, replay)

    def leave(self, writer: JournalWriter, keys: Collection[str]) -> None:
        """What was set aside of these keys is another store's business now.

        Raises: as `JournalWriter.write_alone`.
        """
        gone = [one for (key, _, _), one in self.commands.items() if key in keys and one.closed != MOVED]
        if gone:
            writer.write_all(KEY, [encode(_Closed(one.position, MOVED)) for one in gone], _wall())
            for one in gone:
                one.closed = MOVED


def _wall() -> float:
    return current_table().world.wall()


def _packed(value: object) -> bytes:
    try:
        packed = encode(value)
    except EncodeError:
        return b""
    return packed if len(packed) <= _LARGEST else b""


def poisoned(journal: Journal, *, closed: bool = False) -> list[Poisoned]:
    """The commands that were set aside in a store and wait for somebody to mend their process, oldest first.

    Args:
        closed: list also those that were replayed or discarded.

    Raises: StoreDamaged, StoreNewer.
    """
    return [
        Poisoned(
            *(position, one.record.key, one.record.sender, one.record.number, one.record.sequence),
            *(one.record.crashes, one.record.error, one.wall, one.closed),
            *(one.record.command, one.record.state, one.replay),
        )
        for position, one in _listed(journal).items()
        if closed or not one.closed
    ]


def _listed(journal: Journal) -> dict[int, _Brought]:
    """All that was ever set aside in a store, by position, each as another store would get it."""
    found: dict[int, _Brought] = {}
    for entry in journal.read(KEY):
        match decode(entry.payload):
            case _SetAside() as record:
                found[entry.sequence] = _Brought(record, entry.wall, "", f"{REPLAY}{entry.sequence}")
            case _Brought() as brought:
                found[entry.sequence] = brought
            case _Closed(position, how):
                found[position] = replace(found[position], closed=how)
    return found


def _waiting(writer: JournalWriter, position: int) -> Poisoned:
    for one in poisoned(writer.journal, closed=True):
        if one.position == position:
            if not one.closed:
                return one
            raise NotPoisoned(position, one.closed)
    raise NotPoisoned(position, "")


async def replay_poisoned(writer: JournalWriter, position: int, *, timeout: float = 5.0) -> Any:
    """Have a mended process handle a command that was set aside; its reply. Applied once, however often it is tried.

    Args:
        writer: of the store that lists it: see `writer_of`.
        position: as `poisoned` says it. The process is reached by its key, which is its name.
        timeout: seconds to wait for the reply.

    Raises:
        NotPoisoned: none waits there.
        Refused: the process says no; the command goes on waiting.
        CallFailed: as of any call. If it has crashed again, the command goes on waiting.
    """
    one = _waiting(writer, position)
    if not one.packed_command:
        raise NotPoisoned(position, "")
    reply = await call(one.key, Numbered(one.replay, 1, one.command, lasting=True), timeout=timeout)
    writer.set_asides.close(writer, one, REPLAYED)
    return reply


def discard_poisoned(writer: JournalWriter, position: int) -> None:
    """Give up a command that was set aside: from now on its sender is refused.

    Raises: NotPoisoned: none waits there; as `JournalWriter.write_alone`.
    """
    one = _waiting(writer, position)
    writer.set_asides.close(writer, one, DISCARDED)
