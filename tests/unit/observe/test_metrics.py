"""The figures for Prometheus: each is there, as the page says, and names no process; the door keeps its bounds."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from runtime import KILL, Busy, CalleeExited, GenServer, MailboxFull, Misuse, call, send_nowait, start
from runtime.behaviours import sys
from runtime.kernel.stalls import Stall
from runtime.observe import metrics, scrape
from runtime.observe.facts import Facts
from supervisors import Node
from supervisors.children import ChildRefused
from supervisors.node.metrics import open_metrics
from tests.unit.observe.bank import Deposit, bank

PAGE = (Path(__file__).parents[3] / "docs" / "admin.md").read_text()


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "banyan")


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    with trio.fail_after(20.0):
        async with bank() as node:
            yield node


async def ask(where: str, request: bytes) -> tuple[str, str]:
    """Send bytes; the head and the body of what comes back, "" if the connection is closed."""
    host, _, port = where.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    found = b""
    async with stream:
        await stream.send_all(request)
        try:
            async for data in stream:
                found += data
        except trio.BrokenResourceError:
            pass  # it was cut off over bytes that it had not read
    head, _, body = found.decode().partition("\r\n\r\n")
    return head, body


async def opened(node: Node) -> str:
    return await open_metrics(node, "127.0.0.1:0", Facts(1, node.world.now(), "1.2"))


async def scraped(where: str) -> dict[str, Metric]:
    """The families of one scrape, by name."""
    head, body = await ask(where, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert f"Content-Length: {len(body)}\r\n" in head + "\r\n"
    return {family.name: family for family in text_string_to_metric_families(body)}


def value(found: dict[str, Metric], sample_name: str, /, **labels: str) -> float:
    """The value of one sample."""
    (one,) = [
        sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == sample_name and labels.items() <= sample.labels.items()
    ]
    return one


async def test_the_page_has_every_figure_and_no_other(node):
    """What docs/admin.md lists is what a scrape has; labels are of a few words, and none is a process."""
    where = await opened(node)
    node.table.counts.refused["frame", "not_json"] += 1
    node.table.counts.void["unfit"] += 1
    await call("account/ann", Deposit(5))
    found = await scraped(where)
    samples = [sample for family in found.values() for sample in family.samples]
    listed = set(re.findall(r"`(banyan_[a-z_]+)`", PAGE[PAGE.index("## Figures for Prometheus") :]))
    assert {re.sub("_(bucket|count|sum)$", "", one.name) for one in samples} | {"banyan_gc_pause_seconds"} == listed
    assert {label for one in samples for label in one.labels} <= {
        *("name", "version", "what", "why", "store", "le", "generation", "end", "way")
    }
    assert not [one for one in samples for label in one.labels.values() if "account" in label or "<" in label]


async def test_a_node_is_counted(node):
    """Processes, messages that wait, entries and the sizes of commits are those of the node."""
    where = await opened(node)
    await sys.suspend("safe")
    for number in (1, 2, 3):
        send_nowait("safe", number)
    for amount in (1, 2):
        await call("account/ann", Deposit(amount))
    found = await scraped(where)
    assert value(found, "banyan_node_info", name="test", version="1.2") == 1
    assert value(found, "banyan_processes") == len(node.table.processes)
    assert value(found, "banyan_processes_started_total") == node.table.started
    assert value(found, "banyan_processes_suspended") == 1
    assert value(found, "banyan_messages_waiting") == value(found, "banyan_mailbox_longest") == 3
    assert value(found, "banyan_entries_total", store="durable") == 2
    assert value(found, "banyan_commit_entries_count", store="durable") == 2
    assert value(found, "banyan_commit_entries_bucket", store="durable", le="0.0") == 0
    assert value(found, "banyan_commit_entries_bucket", store="durable", le="1.0") == 2
    assert value(found, "banyan_store_full") == 0


async def test_moves_are_told(node):
    """Those that go on, from the node's mover; those that are over, from what it has counted."""

    class Mover:
        def facts(self) -> tuple[Fact, ...]:
            return (Fact("test", "copying"), Fact("b", "staging"), Fact("test", "waiting"), Fact("b", "own", 1.0))

    where = await opened(node)
    assert value(await scraped(where), "banyan_moves_under_way", way="out") == 0
    node.table.services["mover"] = Mover()
    counts = node.table.counts
    counts.moves["out"] += 2
    counts.void["unfit"] += 1
    for seconds in (0.002, 0.02, 5.0):
        counts.froze(seconds)
    found = await scraped(where)
    assert [value(found, "banyan_moves_under_way", way=way) for way in ("out", "in", "waiting")] == [1, 1, 1]
    assert value(found, "banyan_moves_total", end="out") == 2
    assert value(found, "banyan_moves_void_total", why="unfit") == 1
    assert value(found, "banyan_move_freeze_seconds_count") == 3
    assert value(found, "banyan_move_freeze_seconds_sum") == pytest.approx(5.022)
    assert [value(found, "banyan_move_freeze_seconds_bucket", le=le) for le in ("0.001", "0.003", "3.0")] == [0, 1, 2]


@dataclass(frozen=True)
class Fact:
    """A move, as far as figures are made of it."""

    source: str
    phase: str
    ended: float = 0.0


async def test_every_limit_has_its_count(node):
    """A full mailbox, a crash with its restart, a stall: each is counted where it happens."""

    class Narrow(GenServer):
        mailbox_limit = 1

    where = await opened(node)
    before = await scraped(where)
    narrow = await start(Narrow)
    narrow._process.suspended = True
    send_nowait(narrow, 1)
    with pytest.raises(MailboxFull):
        send_nowait(narrow, 2)
    with pytest.raises(Busy):
        await call(narrow, 3)
    with pytest.raises(CalleeExited):
        await call("safe", "break")
    await wait_all_tasks_blocked()
    safe = node.table.names["safe"]
    for listener in node.table.stall_listeners:
        listener(Stall(1.0, safe.pid, safe.label, ("safe",), "int", 0.5, "stack"))
    after = await scraped(where)
    grown = {
        name: value(after, name) - value(before, name)
        for name in (
            *("banyan_mailboxes_full_total", "banyan_crashes_total", "banyan_restarts_total"),
            *("banyan_supervisors_gave_up_total", "banyan_stalls_total", "banyan_stalled_seconds_total"),
        )
    }
    assert list(grown.values()) == [2, 1, 1, 0, 1, 0.5]


async def test_a_supervisor_that_gives_up_is_counted(node):
    """The crash after the last restart that is allowed counts as given up, not as a restart."""
    counts = node.table.counts
    (bank_,) = [p for p in node.table.processes.values() if p.label == "Bank"]
    bank_.behaviour._Supervisor__machine.intensity.limit = 0
    with pytest.raises(CalleeExited):
        await call("safe", "break")
    while bank_.alive or counts.gave_up == 0:
        await trio.lowlevel.checkpoint()
    assert counts.restarts == 0


def test_pauses_of_the_collector_are_sorted_by_length():
    """Each collection adds its pause to its generation, and lies in the buckets that are long enough."""
    times = iter([0.0, 0.002, 1.0, 1.5, 2.0, 2.0])
    seen = metrics.Seen(lambda: next(times))
    for generation in (0, 2, 0):
        seen.collected("start", {"generation": generation})
        seen.collected("stop", {"generation": generation})
    assert seen.pauses == {0: 0.002, 2: 0.5}
    assert seen.collections == {0: 2, 2: 1}
    assert seen.buckets == {(0, 0.003): 1, (2, 1.0): 1, (0, 0.001): 1}


async def test_nothing_is_counted_when_the_door_is_closed(node):
    """The collector and the node's stalls are watched while the server lives, and not a moment longer."""
    import gc

    callbacks, listeners = list(gc.callbacks), list(node.table.stall_listeners)
    await opened(node)
    assert (len(gc.callbacks), len(node.table.stall_listeners)) == (len(callbacks) + 1, len(listeners) + 1)
    (keeper,) = [p for p in node.table.processes.values() if p.label == "metrics"]
    keeper.exit_signal(node.root, KILL)
    while keeper.pid._process is not None:
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    while "metrics.server" not in node.table.names:
        await trio.lowlevel.checkpoint()
    assert len(gc.callbacks) == len(callbacks) + 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.0\n\n", "200"),
        (b"HEAD /metrics?x=1 HTTP/1.1\r\n\r\n", "200"),
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"\xff\x00 nonsense\r\n\r\n", "400"),
        (b"GET /metrics SPDY/3\r\n\r\n", "400"),
        (b"\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000, "431"),
    ],
)
async def test_a_request_is_answered_or_refused(node, request_, status):
    """There is one page; whatever else is asked is told why not, counted, and the next is served."""
    where = await opened(node)
    head, body = await ask(where, request_)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "Connection: close" in head
    assert bool(body) == (not request_.startswith(b"HEAD"))
    assert node.table.counts.refused["scrape", status] == (status != "200")
    assert (await scraped(where))["banyan_processes"]


async def test_who_says_nothing_is_cut_off_and_holds_up_nobody(node, monkeypatch):
    """Silent connections end after a while; beyond the bound the next is told so; one that leaves is no matter."""
    monkeypatch.setattr(scrape, "PATIENCE", 0.05)
    monkeypatch.setattr(scrape, "MOST", 2)
    where = await opened(node)
    host, _, port = where.rpartition(":")
    silent = [await trio.open_tcp_stream(host, int(port)) for _ in range(2)]
    await silent[0].send_all(b"GET /metr")
    await wait_all_tasks_blocked(0.001)
    head, _ = await ask(where, b"")
    assert head.startswith("HTTP/1.1 503 ")
    for one in silent:
        assert await one.receive_some(1) == b""
        await one.aclose()
    await trio.aclose_forcefully(await trio.open_tcp_stream(host, int(port)))
    assert (await scraped(where))["banyan_processes"]


async def test_only_loopback_unless_it_is_told(node):
    """An address beyond this machine, or one that is taken, is refused, and says what to do."""
    for address in ("0.0.0.0:0", "example.org:80", "nonsense"):
        with pytest.raises(Misuse, match="wanted"):
            await open_metrics(node, address, Facts(1, 0.0))
    where = await opened(node)
    with pytest.raises(ChildRefused) as caught:
        await start_another(node, where)
    assert caught.value.why in ("start_failed", "already_started")


async def start_another(node: Node, where: str) -> None:
    await open_metrics(node, where, Facts(1, 0.0))


async def test_a_failure_of_ours_costs_one_scrape(node, monkeypatch):
    """Whatever fails while the figures are made ends that connection only."""
    where = await opened(node)

    async def fails(table):
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "walk", fails)
        assert await ask(where, b"GET /metrics HTTP/1.1\r\n\r\n") == ("", "")
    assert (await scraped(where))["banyan_processes"]
