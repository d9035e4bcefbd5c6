"""Ten mistakes that are easily made in a runtime of this kind, each a test here so that it stays unmade.

Most have their details elsewhere; each test here is the whole case, as a user would meet it, and names the file.
"""

from __future__ import annotations

import logging
import subprocess
import sys as interpreter
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

from runtime import (
    KILL,
    SHUTDOWN,
    CalleeExited,
    CallTimeout,
    Crash,
    Down,
    GenServer,
    MailboxFull,
    call,
    cast,
    cast_nowait,
    exit,
    is_alive,
    monitor,
    receive,
    register,
    send_nowait,
    spawn,
    start,
    sys,
    whereis,
)
from runtime.codec.cbor import DecodeError, decode
from supervisors import Node, Supervisor, child, start_child
from tests.support.processes import as_process, idle, mail, run_virtually, running_node

ROOT = Path(__file__).parents[2]

virtual = pytest.mark.trio(run=run_virtually)


@pytest.fixture
async def node():
    """A running node; the test's own code is its host."""
    async with running_node() as node:
        yield node


class Counter(GenServer):
    """Does what its requests say, and counts them; `inside` is how many of its callbacks run at this moment."""

    def init(self):
        self.count = self.inside = self.most = 0

    async def handle_call(self, request, caller):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await trio.sleep(request)  # virtual
        self.inside -= 1
        self.count += 1
        return self.count

    async def handle_cast(self, request):
        raise ValueError(request)


@virtual
@as_process
async def test_a_call_that_times_out_leaves_the_server_unharmed(node):
    """1. The late reply goes nowhere: the server lives, serves on, and no stray message arrives (N7; test_calls)."""
    server = await start(Counter)
    with pytest.raises(CallTimeout):
        await call(server, 5, timeout=1.0)
    assert await call(server, 0, timeout=10.0) == 2
    assert await mail() == []
    assert is_alive(server)


@virtual
@as_process
async def test_a_crash_of_the_callee_reaches_its_callers_at_once(node):
    """2. Whoever waits, however long it would, learns the reason in the instant of the end (N8; test_calls)."""
    server = await start(Counter)
    reasons = []

    async def waits(seconds):
        with pytest.raises(CalleeExited) as error:
            await call(server, seconds, timeout=1000)
        reasons.append((error.value.reason, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(3):  # one is in hand, two lie in the mailbox
            nursery.start_soon(waits, 7)
        await trio.sleep(3)  # virtual
        exit(server, "boom")
    assert reasons == [("boom", 3.0)] * 3


@virtual
@as_process
async def test_a_process_runs_one_handler_at_a_time(node):
    """3. Ten callers of a handler that waits are served one after the other (N23; test_gen_server)."""
    server = await start(Counter)
    replies = []

    async def asks():
        replies.append(await call(server, 1, timeout=100))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(asks)
    assert sorted(replies) == list(range(1, 11))
    assert server._process.behaviour.most == 1


@virtual
async def test_restart_intensity_is_the_supervisors_and_delays_nothing(node):
    """4. All children count into one window; a restart is immediate, and one too many is the end (S22, S24, S26)."""

    class Room(Supervisor):
        strategy, intensity, period = "one_for_one", 3, 5.0

        def init(self):
            return [child(name, Counter, name=name, restart="permanent") for name in ("a", "b")]

    class House(Supervisor):
        def init(self):
            return []

    house = await node.start(House)
    room = await start_child(house, child("room", Room, restart="temporary"))
    for name in ("a", "b", "a"):
        before = whereis(name)
        exit(before, KILL)
        await trio.testing.wait_all_tasks_blocked()
        assert whereis(name) not in (before, None)
    assert trio.current_time() == 0.0
    exit(whereis("b"), KILL)
    await trio.testing.wait_all_tasks_blocked()
    assert (is_alive(room), whereis("a"), whereis("b")) == (False, None, None)
    assert is_alive(house)


@virtual
@as_process
async def test_the_limit_of_a_mailbox_is_honoured(node):
    """5. It takes as many messages as it says and not one more; then the sender is told (P51; test_bounds)."""
    pid = spawn(idle, limit=3)
    await trio.testing.wait_all_tasks_blocked()
    for number in range(3):
        send_nowait(pid, number)
    with pytest.raises(MailboxFull):
        send_nowait(pid, 3)
    with pytest.raises(MailboxFull):
        cast_nowait(pid, 3)


def test_nothing_from_the_wire_names_code():
    """6. A record is a name that somebody registered: a module's path is not looked for, far less imported.

    Encodings that no encoder of ours writes are in codec/test_hostile.
    """
    for name in ("antigravity", "antigravity.fly_test", "os.system", "subprocess.popen"):
        text = name.encode()
        record = b"\xd9\xba\x00\x83" + bytes([0x60 + len(text)]) + text + b"\x01\x80"  # tag 47616: [name, version, []]
        with pytest.raises(DecodeError):
            decode(record)
    assert "antigravity" not in interpreter.modules


@pytest.mark.processes
def test_the_interpreter_exits_cleanly():
    """7. A program that used a node ends with exit code 0 and not a word, also when its host was cancelled."""
    program = """
        import trio
        from runtime import GenServer, spawn, start
        from supervisors import Node

        class Waits(GenServer):
            async def handle_info(self, message):
                await trio.sleep_forever()

        async def main():
            async with Node("first"):
                spawn(trio.sleep_forever)
                await start(Waits, name="waits")
            with trio.CancelScope() as scope:
                async with Node("second"):
                    await start(Waits)
                    scope.cancel()

        trio.run(main)
    """
    ended = subprocess.run(
        [interpreter.executable, "-X", "dev", "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


class Untouched(dict):
    """A table of names that refuses to be gone through."""

    def __iter__(self):
        raise AssertionError("somebody goes through all names")

    keys = values = items = copy = __iter__


@virtual
@as_process
async def test_names_are_freed_without_looking_at_the_others(node):
    """8. A death costs what its own names cost, however many others there are (P40, R3; test_names)."""
    for number in range(100):
        register(f"name {number}", spawn(idle))
    node.table.names = Untouched(node.table.names)
    victim = whereis("name 50")
    ref = monitor(victim)
    exit(victim, KILL)
    assert (await receive(Down)).ref is ref
    assert whereis("name 50") is None
    assert len(node.table.names) == 99
    node.table.names = dict(dict.items(node.table.names))


@virtual
@as_process
async def test_a_crash_in_a_cast_is_seen(node, caplog):
    """9. Nobody waits for a cast, so its crash is logged once, with what the server had in hand, and monitors hear it.

    The other ways to crash are in test_spawn and test_gen_server.
    """
    server = await start(Counter)
    monitor(server)
    with caplog.at_level(logging.WARNING, "banyan"):
        await cast(server, "lost and found")
        down = await receive(Down)
    assert isinstance(down.reason, Crash)
    (record,) = caplog.records
    assert "lost and found" in record.getMessage()
    assert record.exc_info[1] is down.reason.error


class Says(GenServer):
    """Tells a list why it ends."""

    trap_exit = True

    def init(self, ends):
        self.ends = ends

    async def terminate(self, reason):
        await trio.sleep(1)  # virtual
        self.ends.append(reason)


@virtual
async def test_closing_works_inside_nested_cancel_scopes():
    """10. A node, or one process, is stopped in order in a scope within scopes, also in a cancelled one (X5, L10).

    As with every nursery of Trio's, a node's block is left at the depth at which it was entered. Processes
    that end within scopes of their own are in test_failures.
    """
    ends = []
    with trio.CancelScope(), trio.move_on_after(1000):
        async with Node("nested") as node:
            await node.start(Says, ends)
            with trio.CancelScope(), trio.fail_after(100):
                await sys.stop(await start(Says, ends), "one")
            with trio.CancelScope() as inner:
                inner.cancel()
                with trio.CancelScope(shield=True):
                    await sys.stop(await start(Says, ends), "two")
                await trio.sleep_forever()
    assert inner.cancelled_caught
    assert ends == ["one", "two", SHUTDOWN]
    assert trio.current_time() == 3.0
