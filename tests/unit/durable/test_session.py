"""A session that is refused: when its number may serve again, and when it must not."""

from __future__ import annotations

import pytest

from runtime import NO_REPLY, GenServer, Numbered, Raise, Refused, Session, call, message, start
from runtime.kernel.messages import Call

from .purse import Purse, Read, Take


@message("tests.session.deliver")
class Deliver(Call[int]):
    """The first try arrives now."""


class Ways(GenServer):
    """Two ways to the purse: the first try of a command goes by one that is late, the others are passed on."""

    def init(self):
        self.late = None

    async def handle_call(self, request, caller):
        if isinstance(request, Deliver):
            return await call("purse", self.late)
        if self.late is None:
            assert isinstance(request, Numbered)
            self.late = request
            return NO_REPLY
        try:
            return await call("purse", request)
        except Refused as refused:
            return Raise(refused)


async def test_a_number_is_free_again_after_one_try(node):
    """What was sent once and refused is nowhere any more: the next command bears its number."""
    await start(Purse, "purse", name="purse")
    session = Session("ann")
    with pytest.raises(Refused, match="only 10"):
        await session.command("purse", Take(11))
    assert (session.number, await session.command("purse", Take(1)), session.number) == (0, 9, 1)


async def test_a_number_that_may_be_on_its_way_is_not_used_again(node):
    """A try by another way that comes after the refusal is not taken for the session's next command."""
    await start(Purse, "purse", name="purse")
    ways = await start(Ways)
    session = Session("ann")
    assert await call("purse", Take(8)) == 2
    with pytest.raises(Refused, match="only 2"):
        await session.command(ways, Take(5))
    assert session.number == 1
    assert await call("purse", Take(-5)) == 7
    assert await call(ways, Deliver()) == 2
    assert await session.command(ways, Take(1)) == 1
    assert (session.number, await call("purse", Read())) == (2, 1)


async def test_a_late_try_is_nothing_once_the_next_command_is_done(node):
    """What was refused is not done later, when a command with a higher number has been."""
    await start(Purse, "purse", name="purse")
    ways = await start(Ways)
    session = Session("ann")
    assert await call("purse", Take(8)) == 2
    with pytest.raises(Refused, match="only 2"):
        await session.command(ways, Take(5))
    assert await call("purse", Take(-5)) == 7
    assert await session.command("purse", Take(1)) == 6
    await call(ways, Deliver())
    assert await call("purse", Read()) == 6
