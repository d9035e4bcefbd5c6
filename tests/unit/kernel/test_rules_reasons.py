"""What an exit reason can be: any value, and to each its effect (rules P2, P5, P14)."""

from __future__ import annotations

import pytest

from runtime import (
    Crash,
    Exit,
    GenServer,
    Misuse,
    Stop,
    cast,
    exit,
    exit_after,
    exit_with,
    is_alive,
    link,
    spawn,
    spawn_link,
    start,
    sys,
    trap_exit,
)
from tests.support.processes import as_process, end_of, ended, exit_and_wait, idle, mail


class Stops(GenServer):
    """Ends with what it is told."""

    def handle_cast(self, request):
        return Stop(request)


@pytest.mark.parametrize("reason", [0, False, "", (), [], {"why": 1}, 1.5], ids=repr)
@as_process
async def test_any_value_is_a_reason(node, reason):
    """Also one that is false to Python ends whoever does not trap, with that very value (P2, P5, P14)."""

    async def parent():
        spawn_link(exits)
        await idle()

    async def exits():
        exit_with(reason)

    server = await start(Stops)
    link_to = spawn(links, server)
    await mail()
    await cast(server, reason)
    assert await end_of(link_to) is reason
    assert await ended(parent) is reason
    assert await exit_and_wait(spawn(idle), reason) is reason
    assert await exit_and_wait(await start(Stops), reason) is reason


async def links(pid):
    """A process that is linked to another one."""
    link(pid)
    await idle()


@as_process
async def test_none_is_no_reason(node):
    """None is refused where it is said, before anything is sent (P2, P5)."""
    pid = spawn(idle)
    for act in (lambda: exit(pid, None), lambda: exit_after(1.0, pid, None), lambda: exit_with(None)):
        with pytest.raises(Misuse, match="any value but None"):
            act()
    for ask in (sys.stop, sys.terminate):
        with pytest.raises(Misuse, match="any value but None"):
            await ask(pid, None)
    await mail()
    assert is_alive(pid)


@as_process
async def test_a_server_that_stops_with_none_has_crashed(node):
    """What a callback says too late to be refused ends the server as the mistake that it is (P3, P14)."""
    trap_exit(True)
    server = await start(Stops)
    link(server)
    await cast(server, None)
    match await mail():
        case [Exit(source, Crash(Misuse()))]:
            assert source == server
        case other:
            pytest.fail(f"wanted the Exit of a Crash, got {other}")
