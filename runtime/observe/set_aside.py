"""Commands that were set aside because they crashed their process again and again: looked at, replayed, dropped.

What is shown passes the `format_status` of the living process, as everything does. What is done is done by
`durable.poison`, whose guarantees hold: a replay is applied once, however often it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ..codec.errors import DecodeError
from ..durable.commands import Refused
from ..durable.event_sourced import EventSourced
from ..durable.journal import Journal, StoreError
from ..durable.poison import NotPoisoned, Poisoned, discard_poisoned, poisoned, replay_poisoned
from ..durable.writer import RELAXED, WRITER, JournalWriter, OnDemand, writer_of
from ..errors import CallFailed, CallTimeout, NoProcess
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from .past import LogEntry, entry_of, journal_of, shown_state
from .protocol import Code, Refusal
from .shown import cut, seen
from .targets import find


@final
@dataclass(frozen=True, slots=True)
class SetAside:
    """One command that was set aside.

    Attributes:
        store: durable or relaxed; `position` is its place in that store's list.
        key: of the process that crashed over it.
        sender, number: its id.
        crashes, error: how often, and the last crash in words.
        wall: when, in seconds since 1970.
        closed: "" as long as it waits, else replayed or discarded.
        command: what it says, as its process allows.
    """

    store: str
    position: int
    key: str
    sender: str
    number: int
    crashes: int
    error: str
    wall: float
    closed: str
    command: str


@final
@dataclass(frozen=True, slots=True)
class Context:
    """One of them with its surroundings.

    Attributes:
        one: the command.
        sequence: the last journal entry before it, `entry`; None if there was none, or it is not kept.
        text, fields: the state that it met, as in a StateView.
        alive: whether its process is there now, so that it can be replayed.
    """

    one: SetAside
    sequence: int
    entry: LogEntry | None
    text: str
    fields: dict[str, str]
    alive: bool


@final
@dataclass(frozen=True, slots=True)
class SetAsides:
    """Those of `total` that are shown, oldest first."""

    total: int
    commands: tuple[SetAside, ...]


def waiting(table: ProcessTable, *, closed: bool = False, limit: int = 100) -> SetAsides:
    """The commands that wait for somebody to mend their process; with `closed` those that are done with as well.

    Raises:
        Refusal: code 4, if the node keeps nothing; code 5, if the list cannot be read.
    """
    found: list[tuple[str, Poisoned]] = []
    journals = {"durable": journal_of(table)}
    if _has_relaxed(table):
        journals["relaxed"] = _writer(table, relaxed=True).journal
    for store, journal in journals.items():
        found += [(store, one) for one in _listed(journal, closed=closed)]
    found.sort(key=lambda pair: pair[1].wall)
    return SetAsides(len(found), tuple(_shown(table, store, one) for store, one in found[:limit]))


def context(table: ProcessTable, position: int, *, relaxed: bool = False) -> Context:
    """One command with the state that it met and the entry before it; raises Refusal as `waiting` does."""
    journal = _writer(table, relaxed=relaxed).journal if relaxed else journal_of(table)
    one = next((one for one in _listed(journal, closed=True) if one.position == position), None)
    if one is None:
        raise _none(NotPoisoned(position, ""))
    process = find(table, one.key)
    behaviour = process.behaviour if process is not None else None
    entry = entry_of(journal, behaviour, one.key, one.sequence) if one.sequence else None
    try:
        text, fields = shown_state(behaviour, one.state)
    except DecodeError as error:
        text, fields = _undecoded(error), {}
    store = "relaxed" if relaxed else "durable"
    return Context(_shown(table, store, one), one.sequence, entry, text, fields, process is not None)


async def replay(table: ProcessTable, position: int, timeout: float, *, relaxed: bool = False) -> dict[str, object]:
    """Have the mended process handle it; its reply, as text.

    Raises:
        Refusal: code 4: none waits there, or its process is not alive; code 5: the process says no; code 6: no
            reply in time; code 1: it has crashed again. In all but the first it goes on waiting.
    """
    try:
        reply = await replay_poisoned(_writer(table, relaxed=relaxed), position, timeout=timeout)
    except NotPoisoned as error:
        raise _none(error) from None
    except Refused as error:
        why, advice = f"its process says no: {error}", "mend the process, or drop the command"
        raise Refusal(f"command {position} was not applied", why, advice, Code.REFUSED) from None
    except CallTimeout as error:
        advice = "ask again: it is applied once"
        raise Refusal(f"command {position} was not answered in time", str(error), advice, Code.TIMEOUT) from None
    except NoProcess as error:
        advice = "start its process, then ask again"
        raise Refusal(f"command {position} was not applied", str(error), advice, Code.NOT_FOUND) from None
    except CallFailed as error:
        advice = "it goes on waiting: `banyan crashes` shows why"
        raise Refusal(f"command {position} was not applied", str(error), advice, Code.FAILED) from None
    except DecodeError as error:
        advice = "import the module that declares its class"
        raise Refusal(f"command {position} cannot be read", str(error), advice, Code.REFUSED) from None
    (one,) = [one for one in _listed(_writer(table, relaxed=relaxed).journal, closed=True) if one.position == position]
    process = find(table, one.key)
    return {"position": position, "key": one.key, "reply": seen(process.behaviour if process else None, reply)}


def drop(table: ProcessTable, position: int, *, relaxed: bool = False) -> dict[str, object]:
    """Give it up: its sender is refused from now on, for good.

    Raises:
        Refusal: code 4: none waits there; code 5: it cannot be written.
    """
    try:
        discard_poisoned(_writer(table, relaxed=relaxed), position)
    except NotPoisoned as error:
        raise _none(error) from None
    except StoreError as error:
        raise Refusal(f"command {position} was not dropped", str(error), "banyan store", Code.REFUSED) from None
    return {"position": position, "closed": "discarded"}


def _writer(table: ProcessTable, *, relaxed: bool) -> JournalWriter:
    if relaxed and not _has_relaxed(table):
        why, advice = "no process of this node has the class relaxed", "leave --relaxed out"
        raise Refusal("there is no relaxed store", why, advice, Code.NOT_FOUND)
    journal_of(table)
    try:
        return writer_of(table, RELAXED if relaxed else WRITER)
    except NoProcess as error:
        raise Refusal("the journal cannot be written now", str(error), "try again in a moment", 1) from None


def _has_relaxed(table: ProcessTable) -> bool:
    relaxed = table.services.get(RELAXED)
    return isinstance(relaxed, OnDemand) and relaxed.made


def _listed(journal: Journal, *, closed: bool) -> list[Poisoned]:
    try:
        return poisoned(journal, closed=closed)
    except StoreError as error:
        said, _, advice = str(error).rpartition("; ")
        raise Refusal("the list of these commands cannot be read", said, advice, Code.REFUSED) from None


def _none(error: NotPoisoned) -> Refusal:
    why = f"it was {error.closed} before" if error.closed else "there is none at that position"
    return Refusal(f"no command waits at {error.position}", why, "banyan poison lists those that do", Code.NOT_FOUND)


def _shown(table: ProcessTable, store: str, one: Poisoned) -> SetAside:
    process: Process | None = find(table, one.key)
    behaviour = process.behaviour if process is not None else None
    try:
        command = seen(behaviour if isinstance(behaviour, EventSourced) else None, one.command)
    except DecodeError as error:
        command = _undecoded(error)
    return SetAside(
        store, one.position, one.key, one.sender, one.number, one.crashes, one.error, one.wall, one.closed, command
    )


def _undecoded(error: DecodeError) -> str:
    return f"<{type(error).__name__}: {cut(str(error), 200)}>"
