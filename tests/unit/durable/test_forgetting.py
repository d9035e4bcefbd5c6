"""Senders that are forgotten: after a time they get SessionExpired, nothing is applied twice, and memory is bounded."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runtime import AlreadyDone, Delivery, Session, call, start
from runtime.durable import gate as gates
from runtime.durable.commands import Numbered, SessionExpired
from runtime.durable.gate import MARGIN, NEW, Gate

from .purse import Purse, Read, Take, killed

DAY = 86400.0


class Often(Purse):
    """One that keeps a snapshot of all."""

    snapshot_every = 1

    def initial(self, key):
        return 1000


class Hasty(Often):
    """One that forgets after a day."""

    dedup_ttl = DAY


async def again(pid, kind=Often):
    """The same process after a kill."""
    await killed(pid)
    return await start(kind, "purse", name="purse")


async def test_a_sender_unheard_of_for_seven_days_is_forgotten(node):
    """Any command of it is then SessionExpired, new or old, also after a recovery; others are served."""
    pid = await start(Often, "purse", name="purse")
    assert await call(pid, Numbered("ann", 1, Take(3))) == 997
    await trio.sleep(7.01 * DAY)  # virtual
    assert await call(pid, Numbered("ann", 1, Take(3))) == 997, "not before a snapshot"
    await call(pid, Numbered("bob", 1, Take(2)))
    for number in (1, 2):
        with pytest.raises(SessionExpired) as caught:
            await call(pid, Numbered("ann", number, Take(3)))
        assert (caught.value.sender, caught.value.number) == ("ann", number)
        pid = await again(pid)
    assert await call(pid, Numbered("bob", 1, Take(2))) == 995
    assert await call(pid, Read()) == 995


async def test_a_sender_that_is_heard_of_stays(node):
    """The time counts from its last command that was applied."""
    pid = await start(Often, "purse", name="purse")
    for number in range(1, 6):
        await call(pid, Numbered("ann", number, Take(1)))
        await trio.sleep(2.2 * DAY)  # virtual
    assert await call(pid, Numbered("ann", 5, Take(1))) == 995
    assert await call(await again(pid), Numbered("ann", 4, Take(1))) == 996


async def test_a_session_hears_of_it(node):
    """A session that comes back too late gets SessionExpired at once, and another id works."""
    pid = await start(Often, "purse", name="purse")
    late = Session("ann")
    await late.command(pid, Take(1))
    await trio.sleep(9 * DAY)  # virtual
    await call(pid, Take(1))
    with pytest.raises(SessionExpired):
        await late.command(pid, Take(1))
    assert await Session("ann/2").command(pid, Take(1)) == 997


async def test_a_session_that_is_remembered_is_never_expired(node):
    """A sender whose number 1 means the same for ever is told that it is done."""
    pid = await start(Hasty, "purse", name="purse")
    assert await Session("house/ann", remembered=True).command(pid, Take(1)) == 999
    await trio.sleep(9 * DAY)  # virtual
    await call(pid, Take(1))
    assert await Session("house/ann", remembered=True).command(pid, Take(1)) == AlreadyDone("house/ann", 1)


async def test_a_delivery_is_never_expired(node):
    """A durable sender is remembered by its highest number for ever: what it repeats is done, what is new is new."""
    pid = await start(Hasty, "purse", name="purse")
    assert await call(pid, Numbered("wallet", 7, Take(3), lasting=True)) == 997
    await trio.sleep(9 * DAY)  # virtual
    await call(pid, Take(1))
    for _ in range(2):
        assert await call(pid, Numbered("wallet", 7, Take(3), lasting=True)) == AlreadyDone("wallet", 7)
        assert await call(pid, Numbered("wallet", 5, Take(3), lasting=True)) == AlreadyDone("wallet", 5)
        pid = await again(pid, Hasty)
    assert await call(pid, Numbered("wallet", 57, Take(1), lasting=True)) == 995


async def test_a_delivery_arrives_however_late(node):
    """What was owed all that time is applied once, whatever the receiver has forgotten meanwhile."""

    class Owing(Purse):
        def pending(self, state):
            return [Delivery(10 - n, "purse", Take(1), Take(1)) for n in (state,) if n % 2]

    owing = await start(Owing, "owing", name="owing")
    pid = await start(Hasty, "purse", name="purse")
    await call(owing, Take(1))
    await trio.sleep(3 * DAY)  # virtual
    await call(pid, Take(1))
    await killed(pid)
    await call(owing, Take(1))
    await trio.sleep(2000.0)  # virtual
    pid = await start(Hasty, "purse", name="purse")
    await trio.sleep(10)  # virtual
    assert (await call(pid, Read()), await call(owing, Read())) == (997, 6)


async def test_who_was_forgotten_for_good_needs_to_say_since_when(node, monkeypatch):
    """Beyond the bound only a time remains: a stranger that may be older than it is refused, a newer one is served."""
    monkeypatch.setattr(gates, "EXPIRED_KEPT", 2)
    pid = await start(Often, "purse", name="purse")
    for name in ("ann", "bob", "cat", "dan"):
        await call(pid, Numbered(name, 1, Take(1)))
    begun = node.world.wall()
    await trio.sleep(9 * DAY)  # virtual
    await call(pid, Take(1))
    pid = await again(pid)
    for name in ("ann", "bob", "cat", "dan", "eve"):
        with pytest.raises(SessionExpired):
            await call(pid, Numbered(name, 1, Take(1)))
        with pytest.raises(SessionExpired):
            await call(pid, Numbered(name, 1, Take(1), since=begun))
        with pytest.raises(SessionExpired):
            await call(pid, Numbered(name, 1, Take(1), since=begun + 1e9))
    assert await Session("eve", since=node.world.wall()).command(pid, Take(1)) == 994


async def test_commands_under_way_keep_their_sender(node):
    """Forgetting takes nobody whose command is being committed."""
    pid = await start(Often, "purse", name="purse")
    await call(pid, Numbered("ann", 1, Take(1)))
    await trio.sleep(9 * DAY)  # virtual
    assert await call(pid, Numbered("ann", 2, Take(1))) == 998
    assert await call(pid, Numbered("ann", 2, Take(1))) == 998


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 5), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("pass"), st.integers(1, 5)),
        st.tuples(st.just("forget")),
        st.tuples(st.just("repeat"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(MOVES)
def test_nothing_is_ever_applied_twice_and_memory_is_bounded(moves):
    """Whatever is repeated whenever, with whatever is forgotten meanwhile: once at most, for senders of both kinds."""
    it: Gate[None] = Gate(None)
    kept, gates.EXPIRED_KEPT = gates.EXPIRED_KEPT, 2
    wall, applied, sent, highest = 1000 * DAY, [], [], {}

    def arrive(command):
        sender, number, since, lasting = command
        if it.known(sender, number) is not NEW or (not lasting and it.lapsed(sender, since)):
            return
        applied.append((sender, number))
        it.settle(it.accept(("e",), None, None, "reply", sender, number, wall, lasting))

    try:
        for move in moves:
            match move:
                case ("send", who, step, stamped):
                    sender = f"s{who}"
                    highest[sender] = number = highest.get(sender, 0) + step
                    since = wall + MARGIN if stamped else 0.0
                    sent.append((sender, number, since, who == 0))
                    arrive(sent[-1])
                case ("pass", days):
                    wall += days * DAY
                case ("forget",):
                    it.forget(wall - 7 * DAY)
                case ("repeat", index) if sent:
                    arrive(sent[index % len(sent)])
        assert len(applied) == len(set(applied))
        assert len(it.expired) <= 2
        assert not it.expired.keys() & it.replies.keys()
    finally:
        gates.EXPIRED_KEPT = kept
