"""A node's figures for Prometheus: what grows with every message, and nothing of single processes.

A scrape reads counters that are there anyway, and walks over the processes in pieces, between which all others
run, for the few sums that nobody keeps. No label names a process: a node of 100,000 of them would be a burden to
itself and to whoever keeps the series. Source: Prometheus' naming rules; the extra `metrics` (prometheus-client),
which alone knows how the figures are written.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import trio
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ..durable.journal import StoreError
from ..durable.writer import RELAXED, SERVICE, WRITER, JournalWriter
from ..kernel.counts import FREEZES
from ..kernel.stalls import Stall
from ..kernel.table import ProcessTable
from .facts import Facts
from .past import journal_of
from .pieces import in_pieces
from .steering import under_way

# Upper bounds of what pauses of the collector are sorted into, in seconds.
PAUSES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@final
@dataclass(slots=True)
class Walked:
    """Sums over the processes of a node, made in pieces."""

    processes: int = 0
    waiting: int = 0
    longest: int = 0
    suspended: int = 0
    senders: int = 0


async def walk(table: ProcessTable) -> Walked:
    """Look at every process once."""
    found = Walked()
    async for process in in_pieces(list(table.processes.values())):
        if process.pid._process is not process:
            continue
        mailbox = len(process.mailbox or ())
        found.processes += 1
        found.waiting += mailbox
        found.longest = max(found.longest, mailbox)
        found.suspended += process.suspended
        found.senders += len(process.senders or ())
    return found


@final
@dataclass
class Seen:
    """What is counted only while somebody may ask for it: pauses of the collector, and stalls.

    Attributes:
        clock: monotonic seconds, that may be read in any thread.
        pauses: seconds that collections of each generation took; `buckets` how many of at most so many seconds.
    """

    clock: Callable[[], float]
    pauses: dict[int, float] = field(default_factory=dict)
    buckets: Counter[tuple[int, float]] = field(default_factory=Counter)
    collections: Counter[int] = field(default_factory=Counter)
    stalls: int = 0
    stalled: float = 0.0
    _since: float = 0.0

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """Told by Python's collector when it begins and when it ends."""
        if phase == "start":
            self._since = self.clock()
            return
        took, generation = max(0.0, self.clock() - self._since), info["generation"]
        self.pauses[generation] = self.pauses.get(generation, 0.0) + took
        self.collections[generation] += 1
        self.buckets[generation, next((bound for bound in PAUSES if took <= bound), float("inf"))] += 1

    def stall(self, stall: Stall) -> None:
        """Told by the node when a process has held its loop."""
        self.stalls += 1
        self.stalled += stall.seconds

    def watch(self, table: ProcessTable) -> None:
        """Begin to count."""
        gc.callbacks.append(self.collected)
        table.stall_listeners.append(self.stall)

    def leave(self, table: ProcessTable) -> None:
        """Count no more."""
        gc.callbacks.remove(self.collected)
        table.stall_listeners.remove(self.stall)


@final
class Figures(Collector):
    """One look at a node, as prometheus-client collects it."""

    def __init__(self, table: ProcessTable, facts: Facts, walked: Walked, seen: Seen) -> None:
        self._table = table
        self._facts = facts
        self._walked = walked
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All families, in the order of docs/admin.md."""
        yield from self._of_node()
        yield from self._of_limits()
        yield from self._of_store()
        yield from self._of_pauses()

    def _of_node(self) -> Iterator[Metric]:
        table, walked, facts = self._table, self._walked, self._facts
        yield InfoMetricFamily("banyan_node", "The node.", {"name": table.node, "version": facts.version})
        up = max(0.0, table.world.now() - facts.started)
        yield _gauge("banyan_uptime_seconds", "For how long it has been up.", up)
        yield _gauge("banyan_processes", "Processes that live.", walked.processes)
        yield _count("banyan_processes_started", "Processes that were ever started.", table.started)
        yield _gauge("banyan_processes_suspended", "Processes that are held.", walked.suspended)
        yield _gauge("banyan_messages_waiting", "Messages in all mailboxes.", walked.waiting)
        yield _gauge("banyan_mailbox_longest", "Messages in the longest mailbox.", walked.longest)
        yield _gauge("banyan_senders_waiting", "Senders that wait for room in a mailbox.", walked.senders)

    def _of_limits(self) -> Iterator[Metric]:
        counts, seen = self._table.counts, self._seen
        yield _count("banyan_crashes", "Processes that ended in disorder.", counts.crashes)
        yield _count("banyan_restarts", "Restarts that supervisors have made.", counts.restarts)
        yield _count("banyan_supervisors_gave_up", "Supervisors whose restarts were used up.", counts.gave_up)
        yield _count("banyan_commands_set_aside", "Commands that crashed their process too often.", counts.set_aside)
        yield _count("banyan_mailboxes_full", "Messages that met a full mailbox.", counts.mailboxes_full)
        refused = CounterMetricFamily("banyan_refused", "What was refused at a door, and why.", labels=["what", "why"])
        for (what, why), times in sorted(counts.refused.items()):
            refused.add_metric([what, why], times)
        yield refused
        moves = CounterMetricFamily("banyan_moves", "Moves of shards that are over, by their end.", labels=["end"])
        for end in ("out", "in", "void"):
            moves.add_metric([end], counts.moves[end])
        yield moves
        yield _count("banyan_moved_bytes", "Records that were carried by moves.", counts.moved)
        yield from self._of_moves()
        yield _count("banyan_stalls", "Times that a process held the loop for long.", seen.stalls)
        yield _count("banyan_stalled_seconds", "How long processes held the loop.", seen.stalled)

    def _of_moves(self) -> Iterator[Metric]:
        counts, now = self._table.counts, under_way(self._table)
        going = GaugeMetricFamily("banyan_moves_under_way", "Moves of shards that are not over.", labels=["way"])
        for way in ("out", "in", "waiting"):
            going.add_metric([way], now[way])
        yield going
        void = CounterMetricFamily("banyan_moves_void", "Moves that were given up, and why.", labels=["why"])
        for why, times in sorted(counts.void.items()):
            void.add_metric([why], times)
        yield void
        rests = HistogramMetricFamily("banyan_move_freeze_seconds", "How long shards rested that were moved away.")
        buckets = [*_cumulated((bound, counts.freezes[bound]) for bound in FREEZES)[:-1]]
        rests.add_metric([], [*buckets, ("+Inf", float(counts.freezes.total()))], counts.frozen)
        yield rests

    def _of_store(self) -> Iterator[Metric]:
        services = self._table.services
        writers = {"durable": services.get(WRITER), "relaxed": services.get(f"{RELAXED} writer")}
        entries = CounterMetricFamily("banyan_entries", "Journal entries that were committed.", labels=["store"])
        sizes = HistogramMetricFamily("banyan_commit_entries", "Entries that went with one commit.", labels=["store"])
        for store, writer in writers.items():
            if isinstance(writer, JournalWriter):
                entries.add_metric([store], writer.entries)
                bounds = [float((1 << index) - 1) for index in range(len(writer.sizes))]
                sizes.add_metric([store], _cumulated(zip(bounds, writer.sizes, strict=True)), writer.entries)
        yield entries
        yield sizes
        if services.get(SERVICE) is None:
            return
        try:
            stats = journal_of(self._table).stats()
        except StoreError:  # it is closed, or damaged: its own words about that stand in the log
            return
        yield _gauge("banyan_store_bytes", "Size of the store.", stats.bytes_used)
        yield _gauge("banyan_store_limit_bytes", "How large it may grow as it is mapped now.", stats.bytes_limit)
        yield _gauge("banyan_store_full", "Whether the store takes no more entries.", stats.full)

    def _of_pauses(self) -> Iterator[Metric]:
        seen = self._seen
        found = HistogramMetricFamily(
            "banyan_gc_pause_seconds", "How long Python's collector held the program.", labels=["generation"]
        )
        for generation in sorted(seen.collections):
            buckets = ((bound, seen.buckets[generation, bound]) for bound in PAUSES)
            whole = [*_cumulated(buckets)[:-1], ("+Inf", float(seen.collections[generation]))]
            found.add_metric([str(generation)], whole, seen.pauses[generation])
        yield found


@final
class Exposition:
    """What a scraper gets of one node; made for each of its servers.

    Args:
        facts: what it tells of the node.
    """

    content_type = CONTENT_TYPE

    def __init__(self, table: ProcessTable, facts: Facts) -> None:
        self._table = table
        self._facts = facts
        self._seen = Seen(trio.lowlevel.current_clock().current_time)

    async def text(self) -> bytes:
        """All figures as they are now, in Prometheus' text format."""
        walked = await walk(self._table)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Figures(self._table, self._facts, walked, self._seen))
        return generate_latest(registry)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the block runs, count what nobody else counts."""
        self._seen.watch(self._table)
        try:
            yield
        finally:
            self._seen.leave(self._table)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, float(value))


def _count(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, float(value))


def _cumulated(buckets: Iterable[tuple[float, int]]) -> list[tuple[str, float]]:
    """Upper bounds with how many lie below, the last one without a bound."""
    found, total = [], 0
    for bound, count in buckets:
        total += count
        found.append((str(bound), float(total)))
    return [*found, ("+Inf", float(total))]
