"""Planted bugs of moves: what the simulated clusters have to find; see `cluster_planted`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.durable import recovery
from runtime.durable.event_sourced import EventSourced
from supervisors.shards import leaving
from supervisors.shards.copying import Copying
from supervisors.shards.departed import Departed
from supervisors.shards.handoff_events import Done, Row
from supervisors.shards.handoff_target import Target, TargetPhase
from supervisors.shards.intake import Intake
from supervisors.shards.mover_source import SourceWork
from supervisors.shards.mover_target import TargetWork
from tests.support.planted import recover_without_numbers, reply_first

from .cluster import Observed
from .inside import name
from .planted import Plant

_ACCEPT = name("accept")


# -- the seven of the design -----------------------------------------------------------------------------


def _as_if_won(self: Any, epoch: int) -> None:
    """Believe that the row is this node's."""
    placement = self.membership.placement
    version, row = placement.row(self.shard)
    placement.take(self.shard)
    placement.try_for(self.shard, epoch)
    placement.changed(self.shard, version + 1, replace(placement.claim_of(row), epoch=epoch))


def _promote(_original: Any) -> Any:
    async def commit(self: TargetWork) -> Row:
        _as_if_won(self, self.offer.epoch + 1)
        return Row(self.table.node, self.offer.epoch + 1, "")

    return commit


def _resume(_original: Any) -> Any:
    async def look(self: SourceWork) -> Row:
        assert self.offer is not None
        _as_if_won(self, self.offer.epoch + 1)
        return Row(self.table.node, self.offer.epoch + 1, "")

    return look


def _any_version(original: Any) -> Any:
    async def compare_and_set(self: Observed, changes: Any) -> Any:
        now = await self.inner.read("shard/")
        return await original(self, [(row, now[row][0] if row in now else old, value) for row, old, value in changes])

    return compare_and_set


# -- others ----------------------------------------------------------------------------------------------


def _watch_nothing(original: Any) -> Any:
    def begin(self: Copying) -> None:
        original(self)
        self._watched = {relaxed: (writer, set[str]()) for relaxed, (writer, _) in self._watched.items()}

    return begin


def _without_last(original: Any) -> Any:
    def rest(self: Copying) -> Any:
        self._stores.flush()
        for _, changed in self._watched.values():
            if changed:
                changed.discard(max(changed))
        return original(self)

    return rest


def _no_seal(_original: Any) -> Any:
    def seal(self: SourceWork) -> Done:
        assert self.offer is not None
        self.membership.sealing(self.shard, self.offer.epoch)
        return Done()

    return seal


def _take_doubt_for_no(original: Any) -> Any:
    def came(self: Target, event: Any, now: float) -> Any:
        if self.phase is TargetPhase.COMMITTING and type(event).__name__ == "Unknown":
            return self._give_up("it was not committed")
        return original(self, event, now)

    return came


def _leave_staged(_original: Any) -> Any:
    async def erase(self: TargetWork) -> Done:
        return Done()

    return erase


def _tell_watchers(original: Any) -> Any:
    def stand_for(self: Departed, process: Any, *more: Any) -> Any:
        stand = original(self, process, *more)
        stand._tell_kin("moved")
        return stand

    return stand_for


def _timers_stay(original: Any) -> Any:
    def pack_entity(case: Any, *more: Any) -> bytes:
        # Stopped, because the stand-in would pass on what they send.
        for timer in case.timers:
            timer.stop()
        case.timers = []
        packed: bytes = original(case, *more)
        return packed

    return pack_entity


def _timers_twice(original: Any) -> Any:
    def pack_entity(case: Any, *more: Any) -> bytes:
        case.timers = [*case.timers, *case.timers]
        packed: bytes = original(case, *more)
        return packed

    return pack_entity


def _rows_stay(original: Any) -> Any:
    def packed(self: Intake, begun: Any) -> Any:
        original(self, begun)
        return []

    return packed


MOVES: dict[str, Plant] = {
    "target_promotes_itself": Plant(
        "a target serves without having changed the row", ((TargetWork, "_commit", _promote),)
    ),
    "source_resumes_by_itself": Plant(
        "a source goes on after the seal without having changed the row", ((SourceWork, "_take_back", _resume),), 150
    ),
    "row_ignores_version": Plant(
        "a shard's row is changed whatever became of it", ((Observed, "compare_and_set", _any_version),)
    ),
    "dedup_left_behind": Plant(
        "where it is recovered a process does not know what it has answered",
        ((recovery, "replay", recover_without_numbers),),
    ),
    "ack_before_commit": Plant("a reply leaves before its commit", ((EventSourced, _ACCEPT, reply_first),)),
    "change_not_noted": Plant("what changes during the copy is not noted", ((Copying, "begin", _watch_nothing),)),
    "last_key_lost": Plant("a key that has changed is not in the last delta", ((Copying, "rest", _without_last),)),
    "token_without_seal": Plant("a token is given without a seal", ((SourceWork, "_seal", _no_seal),)),
    "doubt_taken_for_no": Plant(
        "a target that had no answer takes the move for void", ((Target, "_came", _take_doubt_for_no),), 150
    ),
    "void_move_left": Plant("what was staged for a void move is left", ((TargetWork, "_erase", _leave_staged),)),
    "watchers_told": Plant("who watches a process that moves is told", ((Departed, "stand_for", _tell_watchers),)),
    "timers_stay": Plant("timers end with the process that goes", ((leaving, "pack_entity", _timers_stay),)),
    "timers_doubled": Plant("a timer goes with its process twice", ((leaving, "pack_entity", _timers_twice),)),
    "rows_stay": Plant("what a shard's senders were answered stays behind", ((Intake, "packed", _rows_stay),), 150),
}
