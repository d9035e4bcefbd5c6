"""Planted bugs: what the simulation has to find, each patched into the running program and nowhere else.

A simulation that finds nothing says little, unless it is known what it would have found. Each entry of
`PLANTED` is a mistake that somebody could make; `hunt` runs seeds with it until a checker says that something
is wrong. A quick test looks for a few of them; `python -m tests.simulation.run --planted` for all.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import trio
from msgspec import structs

from game import table as game_table
from game.messages import Balance, TransferReturned
from game.table import Table
from game.wallet import Wallet
from runtime import Numbered, Query
from runtime.durable import event_sourced, record, recovery
from runtime.durable.event_sourced import EventSourced
from runtime.durable.gate import NEW, Gate
from runtime.durable.journal import StoreFull
from runtime.durable.writer import JournalWriter
from runtime.kernel.process import Process
from runtime.testing import Medium, TracedJournal
from tests.support.planted import (
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

from .inside import name
from .room import Outcome, simulate


@dataclass(frozen=True)
class Plant:
    """One planted bug.

    Attributes:
        wrong: what it does, in words.
        patches: where it is put in: an object, the name of what is replaced, and by what.
        seeds: in so many seeds at most it has to be found.
        twice: whether each seed runs twice, to be compared.
    """

    wrong: str
    patches: tuple[Patch, ...]
    seeds: int = 50
    twice: bool = False


@dataclass(frozen=True)
class Detection:
    """How a planted bug was found: by which checkers, in which seed, after how many steps of all seeds until then."""

    by: tuple[str, ...]
    seed: int
    steps: int


def hunt(which: str) -> Detection | None:
    """Look for a planted bug, seed by seed; None if it was not found in as many as it may take."""
    return hunted(which, PLANTED[which], simulate)


def hunted(which: str, plant: Plant, simulate: Callable[[int], Outcome]) -> Detection | None:
    """The same in any simulation."""
    steps = 0
    for seed in range(1, plant.seeds + 1):
        with planted(plant.patches):
            outcome = simulate(seed)
            steps += outcome.steps
            findings = list(outcome.findings)
            if plant.twice and simulate(seed).digest != outcome.digest:
                findings.append("determinism: two runs differ")
        if findings:
            assert simulate(seed).findings == [], f"seed {seed} fails without {which} too"
            return Detection(tuple(dict.fromkeys(text.partition(":")[0] for text in findings)), seed, steps)
    return None


# -- commits ---------------------------------------------------------------------------------------------


def _tell_first(original: Any) -> Any:
    def commit(self: JournalWriter) -> None:
        group = self._group
        for entry, author in zip(group.entries, group.authors, strict=True):
            if entry.epoch == self.journal.epoch:
                author._journal_settled(entry.sequence)
        original(self)

    return commit


def _query_ahead(original: Any) -> Any:
    def handle_call(self: Any, request: Any, caller: Any) -> Any:
        if isinstance(request, Query):
            return self.query(getattr(self, name("gate")).speculative, request)
        return original(self, request, caller)

    return handle_call


def _keep_speculation(original: Any) -> Any:
    def discard(self: Any) -> Any:
        speculative = self.speculative
        lost = original(self)
        self.speculative = speculative
        return lost

    return discard


def _keep_numbers(original: Any) -> Any:
    def discard(self: Any) -> Any:
        ahead = dict(self._ahead)
        lost = original(self)
        self._ahead.update(ahead)
        return lost

    return discard


def _never_sync(_original: Any) -> Any:
    return lambda self: None


def _take_full_for_done(original: Any) -> Any:
    def commit(self: TracedJournal, *group: Any) -> None:
        try:
            original(self, *group)
        except StoreFull:
            pass

    return commit


def _accept_any_epoch(original: Any) -> Any:
    def commit(self: JournalWriter) -> None:
        entries = self._group.entries
        entries[:] = [structs.replace(entry, epoch=self.journal.epoch) for entry in entries]
        original(self)

    return commit


def _load_without_flush(_original: Any) -> Any:
    return lambda self, key: self.journal.load(key)


# -- numbered commands -----------------------------------------------------------------------------------


def _repeat_newest_reply(original: Any) -> Any:
    def known(self: Any, sender: str, number: int) -> object:
        reply = original(self, sender, number)
        kept = self.replies.get(sender)
        return kept.kept[-1][1] if reply is not NEW and kept is not None and kept.kept else reply

    return known


def _forget_what_is_under_way(original: Any) -> Any:
    def known(self: Any, sender: str, number: int) -> object:
        ahead, steps = self._ahead, self.steps
        self._ahead, self.steps = {}, deque()
        try:
            return original(self, sender, number)
        finally:
            self._ahead, self.steps = ahead, steps

    return known


# -- deliveries ------------------------------------------------------------------------------------------


def _number_anew(original: Any) -> Any:
    tries: Counter[tuple[str, int]] = Counter()

    def send_request(destination: Any, request: Any, *more: Any, **options: Any) -> Any:
        if isinstance(request, Numbered):
            key = (request.sender, request.number)
            request = Numbered(request.sender, request.number + 1_000 * tries[key], request.command)
            tries[key] += 1
        return original(destination, request, *more, **options)

    return send_request


# -- snapshots and recovery ------------------------------------------------------------------------------


def _load_one_more(original: Any) -> Any:
    def load(self: TracedJournal, key: str) -> Any:
        snapshot, entries = original(self, key)
        return snapshot, entries if snapshot is None else self.inner.read(key, snapshot.sequence - 1)

    return load


def _no_checksum(_original: Any) -> Any:
    return lambda *_: 0


# -- processes -------------------------------------------------------------------------------------------


def _miss_exits(original: Any) -> Any:
    count = 0

    def exit_signal(self: Process, source: Any, reason: object, *, linked: bool = False) -> None:
        nonlocal count
        if linked and self.label in ("wallets", "tables"):
            count += 1
            if count % 4 == 0:
                return
        original(self, source, reason, linked=linked)

    return exit_signal


def _leave_a_task(original: Any) -> Any:
    def recovered(self: Any, state: Any) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
        original(self, state)

    return recovered


def _any_turn(original: Any) -> Any:
    def turn_over(self: Any, state: Any, number: int, turn: int) -> Any:
        return original(self, state, number, len(state.actions))

    return turn_over


# -- the game --------------------------------------------------------------------------------------------


def _stale_balance(original: Any) -> Any:
    def query(self: Any, state: Any, request: Any) -> Any:
        if not isinstance(request, Balance):
            return original(self, state, request)
        shown, self.shown = getattr(self, "shown", state.balance), state.balance
        return shown

    return query


def _keep_refund(original: Any) -> Any:
    def apply(self: Any, state: Any, event: Any) -> Any:
        after = original(self, state, event)
        return replace(after, balance=state.balance) if isinstance(event, TransferReturned) else after

    return apply


def _own_dice(original: Any) -> Any:
    return lambda _dice: original(random.Random())


_ACCEPT, _ANSWERED, _TAKE_SNAPSHOT = map(name, ("accept", "answered", "take_snapshot"))

PLANTED: dict[str, Plant] = {
    "told_before_commit": Plant(
        "the writer tells processes before it commits", ((JournalWriter, "_commit", _tell_first),)
    ),
    "reply_before_commit": Plant("a reply leaves before the commit", ((EventSourced, _ACCEPT, reply_first),)),
    "gate_left_open": Plant(
        "a repeated reply or a refusal does not wait for the commit", ((Gate, "hold", never_hold),)
    ),
    "query_of_uncommitted": Plant("a query sees what is not committed", ((EventSourced, "handle_call", _query_ahead),)),
    "speculation_kept": Plant("a failed commit leaves its state behind", ((Gate, "discard", _keep_speculation),)),
    "numbers_kept_after_failure": Plant(
        "a number whose commit failed counts as done", ((Gate, "discard", _keep_numbers),)
    ),
    "sync_forgotten": Plant("a commit is written and not synced", ((Medium, "sync", _never_sync),)),
    "full_taken_for_done": Plant("a full disk counts as a commit", ((TracedJournal, "commit", _take_full_for_done),)),
    "stale_epoch_accepted": Plant("an owner of before may commit", ((JournalWriter, "_commit", _accept_any_epoch),)),
    "load_before_append": Plant(
        "a recovery overtakes what its predecessor had sent", ((JournalWriter, "load", _load_without_flush),)
    ),
    "dedup_forgotten_at_snapshot": Plant(
        "a snapshot leaves out the kept replies", ((EventSourced, _TAKE_SNAPSHOT, snapshot_without_replies),)
    ),
    "dedup_forgotten_at_replay": Plant(
        "a replayed entry leaves no reply", ((recovery, "replay", recover_without_numbers),)
    ),
    "dedup_by_window_only": Plant(
        "a number whose reply is no longer kept counts as new", ((Gate, "known", forget_old_numbers),)
    ),
    "dedup_of_committed_only": Plant(
        "a number whose commit is under way counts as new", ((Gate, "known", _forget_what_is_under_way),), 100
    ),
    "reply_of_another": Plant("a repeated command gets the newest reply", ((Gate, "known", _repeat_newest_reply),)),
    "credit_repeated": Plant(
        "a delivery that is sent again gets a new number", ((event_sourced, "send_request", _number_anew),)
    ),
    "outbox_cleared_before_ack": Plant(
        "a delivery without an answer counts as settled", ((EventSourced, _ANSWERED, settle_anyway),)
    ),
    "snapshot_of_wrong_sequence": Plant(
        "a snapshot says that it is one entry older", ((EventSourced, _TAKE_SNAPSHOT, snapshot_one_early),)
    ),
    "event_applied_twice": Plant(
        "recovery applies the snapshot's last entry again", ((TracedJournal, "load", _load_one_more),)
    ),
    "checksum_not_checked": Plant("a record with a flipped bit is read", ((record, "crc32", _no_checksum),)),
    "lost_restart": Plant("a supervisor misses every fourth exit", ((Process, "exit_signal", _miss_exits),)),
    "timer_fired_twice": Plant(
        "an old turn's timer is not cancelled, and ends the next turn",
        ((game_table, "cancel_timer", lambda _: lambda _timer: None), (Table, "_turn_over", _any_turn)),
    ),
    "task_left_behind": Plant("a wallet leaves a task behind", ((Wallet, "recovered", _leave_a_task),)),
    "stale_read": Plant("a wallet shows the balance of before", ((Wallet, "query", _stale_balance),)),
    "refund_lost": Plant("a buy-in that was refused is not given back", ((Wallet, "apply", _keep_refund),)),
    "dice_of_its_own": Plant(
        "a table shuffles with dice of its own", ((game_table, "shuffle_deck", _own_dice),), twice=True
    ),
}
