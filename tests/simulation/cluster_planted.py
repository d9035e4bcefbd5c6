"""Planted bugs of a cluster: what its simulation has to find, patched into the running program and nowhere else."""

from __future__ import annotations

from typing import Any

from runtime.cluster.inbound import Inbound
from runtime.cluster.link import Link
from runtime.cluster.peer import Peer
from runtime.cluster.placement import Placement
from runtime.cluster.wire import Frame
from runtime.durable import fence
from runtime.durable.commands import Numbered
from runtime.durable.fence import NodeFences
from supervisors.shards import shard
from supervisors.shards.frames import Carry, Probe
from supervisors.shards.intake import Intake, Taken
from supervisors.shards.inward import Inward
from supervisors.shards.window import Window

from .cluster import simulate
from .cluster_planted_moves import MOVES
from .planted import Detection, Plant, hunted


def hunt(which: str) -> Detection | None:
    """Look for a planted bug, seed by seed; None if it was not found in as many as it may take."""
    return hunted(which, PLANTED[which], simulate)


# -- owners ----------------------------------------------------------------------------------------------


def _nothing(_original: Any) -> Any:
    return lambda *_args, **_options: None


def _any_life(_original: Any) -> Any:
    return lambda self, number, row: row.owner == self.name and number not in self._served


def _own_on(original: Any) -> Any:
    def own(self: Inward, number: int) -> Any:
        return self.shards.get(number) or original(self, number)

    return own


# -- commands --------------------------------------------------------------------------------------------


def _forget_on_probe(original: Any) -> Any:
    def probe(self: Intake, frame: Probe) -> Any:
        self.rows.pop(frame.sender, None)
        return original(self, frame)

    return probe


def _without_numbers(original: Any) -> Any:
    def request(self: shard.Shard, frame: Carry) -> object:
        made = original(self, frame)
        return made.command if isinstance(made, Numbered) else made

    return request


def _first_owner(original: Any) -> Any:
    def at(self: Window, node: str, epoch: int) -> Any:
        return original(self, node, epoch) if self.epoch < 0 else []

    return at


def _drop_when_full(original: Any) -> Any:
    def carry(self: Intake, frame: Carry) -> Taken:
        row = self._row(frame.sender, frame.node, frame.base)
        if self.under_way >= 2 and frame.number == row.expected:
            row.expected += 1
            return Taken()
        taken: Taken = original(self, frame)
        return taken

    return carry


# -- links -----------------------------------------------------------------------------------------------


def _credit_twice(original: Any) -> Any:
    def release(self: Link, size: int) -> None:
        original(self, 2 * size)

    return release


def _late_reply(original: Any) -> Any:
    """The reply to a call whose caller has left is given to the next one who waits."""

    def reply(self: Inbound, peer: Peer, link: Any, frame: Frame) -> Any:
        caller = peer.pending.get(frame.number)
        if caller is None or not caller.waiting:
            waiting = [number for number, one in peer.pending.items() if one.waiting]
            if waiting:
                frame = frame._replace(number=waiting[0])
        return original(self, peer, link, frame)

    return reply


def _callers_forgotten(original: Any) -> Any:
    def lose(self: Peer) -> None:
        kept = {number: one for number, one in self.pending.items() if one.waiting}
        self.pending = {}
        original(self)
        self.pending = kept

    return lose


def _watchers_forgotten(original: Any) -> Any:
    def lose(self: Peer) -> None:
        kept, self.watched = self.watched, {}
        original(self)
        self.watched = kept

    return lose


PLANTED: dict[str, Plant] = {
    "fence_not_checked": Plant("the store takes a commit under any epoch", ((fence, "check_fence", _nothing),), 150),
    "epoch_of_former_life": Plant(
        "a restarted owner serves under the epoch of its former life",
        ((Placement, "_is_found", _any_life), (NodeFences, "claim", lambda _: lambda self, epochs: ())),
    ),
    "lost_shard_goes_on": Plant(
        "a shard that was lost is served on by its former owner", ((Inward, "own", _own_on),), 150
    ),
    "dedup_forgotten_at_resend": Plant(
        "an owner that is asked again takes the sender for a new one", ((Intake, "probe", _forget_on_probe),)
    ),
    "no_sequence_numbers": Plant(
        "commands reach their entities without a number", ((shard.Shard, "_request", _without_numbers),)
    ),
    "cache_never_invalidated": Plant("who was the owner once is so for ever", ((Window, "_at", _first_owner),)),
    "hold_queue_drops": Plant(
        "an owner without room counts a command as taken, and drops it", ((Intake, "carry", _drop_when_full),)
    ),
    "credit_given_back_twice": Plant("credit for a frame is given back twice", ((Link, "release", _credit_twice),)),
    "late_reply_delivered": Plant(
        "the reply to a call that was given up is another caller's", ((Inbound, "_reply", _late_reply),)
    ),
    "callers_forgotten": Plant(
        "who waits for an answer over a link that is lost is not told", ((Peer, "lose", _callers_forgotten),)
    ),
    "watchers_forgotten": Plant("the monitors of a node that is lost are kept", ((Peer, "lose", _watchers_forgotten),)),
    **MOVES,
}
