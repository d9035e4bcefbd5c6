"""`python -m tests.crash.planted [NAME..]`: what these tools have to find, each patched in and nowhere else.

A tool that finds nothing says little, unless it is known what it would have found. Each entry of `PLANTED` is
a mistake that somebody could make; its tool runs with it until something is wrong. The last line is
`planted bugs=N found=N`; exit 0 only if each was found.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lmdb

from runtime import Numbered
from runtime.backends import lmdb_boot, lmdb_store
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_tail import Tail
from runtime.durable import event_sourced, periodic, record, recovery
from runtime.durable.event_sourced import EventSourced
from runtime.durable.gate import Gate
from runtime.durable.journal import Head, StoreFailed, StoreFull
from runtime.durable.timers import TIMER
from runtime.durable.writer import JournalWriter
from tests.simulation.inside import name
from tests.support.planted import (
    Make,
    Patch,
    forget_old_numbers,
    never_hold,
    planted,
    recover_without_numbers,
    reply_first,
    settle_anyway,
    snapshot_one_early,
    snapshot_without_replies,
)

from . import carry, flip, fork, kill, nth_io, power
from .bank import hurry
from .ledger import Verdict
from .shim import under_shim

# What a tool does with a seed, for as long as one likes: how far it went with each step, and what it found.
Tool = Callable[[int], Iterator[tuple[int, Verdict]]]


def _kill(seed: int) -> Iterator[tuple[int, Verdict]]:
    for turn in itertools.count(seed):
        yield from kill.cycles(turn, kill.LIVES)


TOOLS: dict[str, Tool] = {
    "kill": _kill,
    "power": power.runs,
    "relaxed": partial(power.runs, durability="relaxed"),
    "periodic": partial(power.runs, durability=power.CLASSES["periodic"]),
    "nth_io": nth_io.steps,
    "fork": fork.steps,
    "flip": flip.points,
    "carry": carry.steps,
}


@dataclass(frozen=True)
class Plant:
    """One planted bug.

    Attributes:
        wrong: what it does, in words.
        tool: which of TOOLS has to find it.
        patches: where it is put in: an object, the name of what is replaced, and by what.
        steps: in so many cycles, points or steps of the tool at most.
    """

    wrong: str
    tool: str
    patches: tuple[Patch, ...]
    steps: int = 400


@dataclass(frozen=True)
class Detection:
    """How a planted bug was found: as what, after how many steps, and the first that was said."""

    kinds: tuple[str, ...]
    steps: int
    said: str


def hunt(which: str, seed: int = 1) -> Detection | None:
    """Look for a planted bug; None if it was not found in as many steps as it may take."""
    plant, steps = PLANTED[which], 0
    with planted(plant.patches):
        for count, found in TOOLS[plant.tool](seed):
            steps += count
            if found:
                kinds = tuple(kind for kind in ("lost", "doubled", "damaged") if getattr(found, kind))
                return Detection(kinds, steps, found.all()[0])
            if steps >= plant.steps:
                return None
    return None


# -- commits and replies ---------------------------------------------------------------------------------


def _tell_first(original: Any) -> Any:
    told: list[int] = []

    def commit(self: JournalWriter) -> None:
        group = self._group
        if group.entries and not told:
            told.append(len(group.entries))
            for entry, author in zip(group.entries, group.authors, strict=True):
                author._journal_settled(entry.sequence)
            return  # it comes again, as the group is still there
        told.clear()
        original(self)

    return commit


def _opened_with(**options: bool) -> Make:
    return lambda original: lambda *args, **more: original(*args, **{**more, **options})


def _relaxed_unsynced(original: Any) -> Any:
    return lambda *args, **more: original(*args, **{**more, "sync": more["metasync"]})


def _nothing(_original: Any) -> Any:
    return lambda *_: None


def _taken_for_done(error: type[Exception]) -> Make:
    def make(original: Any) -> Any:
        def commit(self: LmdbJournal, *group: Any) -> None:
            try:
                original(self, *group)
            except error:
                pass

        return commit

    return make


def _again(original: Any) -> Any:
    def sync(fd: int) -> None:
        try:
            original(fd)
        except OSError:
            original(fd)

    return sync


def _one_write(original: Any) -> Any:
    class Os:
        """The operating system, to somebody who thinks that it writes all that it is given."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(os, attribute)

        def write(self, fd: int, data: bytes) -> int:
            os.write(fd, data)
            return len(data)

    return Os()


def _same_epoch(original: Any) -> Any:
    return lambda self, txn: max(0, original(self, txn) - 1)


# -- numbered commands and deliveries --------------------------------------------------------------------


def _recover_without_timers(original: Any) -> Any:
    def recover(one: Any, gate: Any, *stored: Any) -> int:
        snapshot_at: int = original(one, gate, *stored)
        gate.forget_all_but(TIMER, ())
        return snapshot_at

    return recover


def _number_anew(original: Any) -> Any:
    tries = itertools.count(1)

    def send_request(destination: Any, request: Any, *more: Any, **options: Any) -> Any:
        if isinstance(request, Numbered):
            request = Numbered(request.sender, request.number * 1_000 + next(tries), request.command)
        return original(destination, request, *more, **options)

    return send_request


# -- snapshots and folding -------------------------------------------------------------------------------


def _snapshot_ahead(original: Any) -> Any:
    def accept(self: Any, *command: Any) -> bool:
        accepted: bool = original(self, *command)
        gate = getattr(self, name("gate"))
        if accepted and gate.settled and gate.sequence % self.snapshot_every == 0:
            committed, gate.committed = gate.committed, gate.speculative
            getattr(self, _TAKE_SNAPSHOT)()
            gate.committed = committed
        return accepted

    return accept


def _half_as_late_again(original: Any) -> Any:
    return lambda seconds, *more: original(seconds * 1.5, *more)


def _forget_a_row(original: Any) -> Any:
    return lambda self, txn, portion: original(self, txn, [(key, rows[1:], head) for key, rows, head in portion])


def _stale_head(original: Any) -> Any:
    def fold(self: Any, txn: Any, portion: Any) -> None:
        original(self, txn, [(key, rows, Head(head.sequence - 1, head.epoch)) for key, rows, head in portion])

    return fold


def _done_at_once(_original: Any) -> Any:
    return property(lambda self: self.folding_to > 0)


# -- damage and forks ------------------------------------------------------------------------------------


def _no_checksum(_original: Any) -> Any:
    return lambda *_: 0


# -- shards that come and go -----------------------------------------------------------------------------


def _log_not_awaited(original: Any) -> Any:
    def begin(self: LmdbJournal, shard: int) -> bool:
        begun: bool = original(self, shard)
        self._log_until[shard] = 0
        return begun

    return begin


def _erasure_unmarked(_original: Any) -> Any:
    def begin(self: LmdbJournal, shard: int) -> bool:
        self._log_until.setdefault(shard, self._bounds.last)
        return bool(self.shard_keys(shard) or self.staged().get(shard))

    return begin


def _claim_first(original: Any) -> Any:
    def install(self: LmdbJournal, shard: int, pieces: Any, note: bytes | None = None, claim: int = 0) -> None:
        if claim:
            original(self, shard, [], note, claim)
        original(self, shard, pieces)

    return install


_ACCEPT, _ANSWERED, _TAKE_SNAPSHOT, _SAVE = map(name, ("accept", "answered", "take_snapshot", "save"))

PLANTED: dict[str, Plant] = {
    "ack_before_commit": Plant(
        "the writer tells processes before it commits", "power", ((JournalWriter, "_commit", _tell_first),)
    ),
    "reply_before_gate": Plant("a reply leaves before the commit", "power", ((EventSourced, _ACCEPT, reply_first),)),
    "gate_left_open": Plant("a repeated reply does not wait for the commit", "power", ((Gate, "hold", never_hold),)),
    "sync_off": Plant("the store is opened with sync=False", "power", ((lmdb, "open", _opened_with(sync=False)),)),
    "relaxed_sync_off": Plant(
        "a relaxed store is opened with sync=False", "relaxed", ((lmdb, "open", _relaxed_unsynced),)
    ),
    "saved_late": Plant(
        "a periodic save comes half as late again", "periodic", ((periodic, "send_after", _half_as_late_again),)
    ),
    "saved_without_replies": Plant(
        "a periodic save leaves out the kept replies", "periodic", ((EventSourced, _SAVE, snapshot_without_replies),)
    ),
    "metasync_off": Plant(
        "the store is opened with metasync=False", "power", ((lmdb, "open", _opened_with(metasync=False)),)
    ),
    "name_not_synced": Plant(
        "the names in a new directory are not synced", "power", ((lmdb_boot, "sync_directory", _nothing),)
    ),
    "marker_not_synced": Plant("the marker is renamed and was not synced", "power", ((os, "fsync", _nothing),)),
    "epoch_not_raised": Plant(
        "an open leaves the epoch as it was", "power", ((LmdbJournal, "_checked_epoch", _same_epoch),)
    ),
    "snapshot_of_speculation": Plant(
        "a snapshot holds what is not committed", "power", ((EventSourced, _ACCEPT, _snapshot_ahead),)
    ),
    "snapshot_of_wrong_sequence": Plant(
        "a snapshot says that it is one entry older", "power", ((EventSourced, _TAKE_SNAPSHOT, snapshot_one_early),)
    ),
    "fold_forgets_a_row": Plant(
        "folding leaves out a row of each portion", "power", ((LmdbJournal, "_fold", _forget_a_row),)
    ),
    "group_deleted_early": Plant(
        "a group of the log is deleted before it was folded", "power", ((Tail, "done", _done_at_once),)
    ),
    "stale_head": Plant("folding leaves a head one behind", "power", ((LmdbJournal, "_fold", _stale_head),)),
    "dedup_forgotten_at_snapshot": Plant(
        "a snapshot leaves out the kept replies", "kill", ((EventSourced, _TAKE_SNAPSHOT, snapshot_without_replies),)
    ),
    "dedup_forgotten_at_replay": Plant(
        "a replayed entry leaves no reply", "kill", ((recovery, "replay", recover_without_numbers),)
    ),
    "dedup_by_window_only": Plant(
        "a number whose reply is no longer kept counts as new", "kill", ((Gate, "known", forget_old_numbers),)
    ),
    "timer_fired_again": Plant(
        "a process that recovers forgets which timers have fired",
        "kill",
        ((event_sourced, "recover", _recover_without_timers),),
    ),
    "payment_numbered_anew": Plant(
        "a delivery that is sent again gets a new number", "kill", ((event_sourced, "send_request", _number_anew),)
    ),
    "outbox_cleared_before_ack": Plant(
        "a delivery without an answer counts as settled", "kill", ((EventSourced, _ANSWERED, settle_anyway),)
    ),
    "full_taken_for_done": Plant(
        "a full disk counts as a commit", "nth_io", ((LmdbJournal, "commit", _taken_for_done(StoreFull)),), 2_000
    ),
    "failure_taken_for_done": Plant(
        "a failed write or sync counts as a commit",
        "nth_io",
        ((LmdbJournal, "commit", _taken_for_done(StoreFailed)),),
        2_000,
    ),
    "failed_sync_tried_again": Plant(
        "a failed fsync is tried again, and believed", "nth_io", ((os, "fsync", _again),), 2_000
    ),
    "marker_in_one_write": Plant(
        "the rest of a marker that was taken in part is not written", "nth_io", ((lmdb_boot, "os", _one_write),), 2_000
    ),
    "checksum_not_checked": Plant(
        "a record with a flipped bit is read", "flip", ((record, "crc32", _no_checksum),), 2_000
    ),
    "fork_guard_gone": Plant(
        "a forked child may use the store",
        "fork",
        ((lmdb_store.Store, "check_usable", _nothing), (lmdb_store.Store, "disown", _nothing)),
        50,
    ),
    "home_not_noted": Plant("the index of shards gets no key", "carry", ((LmdbJournal, "_note_home", _nothing),), 100),
    "log_not_awaited": Plant(
        "rows of a shard are erased while the log has them",
        "carry",
        ((LmdbJournal, "_begin_to_erase", _log_not_awaited),),
    ),
    "erasure_unmarked": Plant(
        "nothing says that a shard is being erased", "carry", ((LmdbJournal, "_begin_to_erase", _erasure_unmarked),)
    ),
    "claimed_before_installed": Plant(
        "a shard is claimed before its last pieces are there", "carry", ((LmdbJournal, "install", _claim_first),)
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.planted", description="find each planted bug")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLANTED)}; all by default")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    unknown = sorted({*options.names} - {*PLANTED})
    if unknown:
        parser.error(f"no bug is called {', '.join(unknown)}; there are: {', '.join(PLANTED)}")
    under_shim("tests.crash.planted")
    hurry()
    names, found = options.names or list(PLANTED), 0
    for one in names:
        plant, detection = PLANTED[one], hunt(one, options.seed)
        found += detection is not None
        if detection is None:
            print(f"| {one} | {plant.wrong} | {plant.tool} | NOT FOUND in {plant.steps} | | |")
        else:
            kinds = ", ".join(detection.kinds)
            print(f"| {one} | {plant.wrong} | {plant.tool} | {kinds} | {options.seed} | {detection.steps} |")
            print(f"    {detection.said}", file=sys.stderr)
        sys.stdout.flush()
    print(f"planted bugs={len(names)} found={found}")
    return 0 if found == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
