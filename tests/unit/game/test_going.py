"""A gateway whose node goes: its players are sent to another one, and go on there."""

from __future__ import annotations

import pytest

from game.player import WhichSession
from game.usher import is_draining
from game.wallet import balance
from runtime import call, whereis
from runtime.cluster.membership import membership_of
from runtime.kernel.table import current_table
from tests.support.clusters import Machines, clustered
from tests.unit.game.phones import GRANT, House, connected, farewell, playing, three


async def drain(on: bool = True) -> None:
    membership_of(current_table()).drain(on)


async def session_of(player: str) -> str | None:
    """The id of a player's session on this node."""
    pid = whereis(f"player/{player}")
    return await call(pid, WhichSession()) if pid is not None else None


@pytest.mark.parametrize("stopped", [False, True], ids=["drained", "stopped"])
def test_a_player_goes_on_at_another_node(stopped: bool) -> None:
    """The bye says where and with which token; the session is the same there, with the seat and what was watched."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        async with playing(machines, "a", "ann", sit=5_000) as ann:
            before = ann.welcome["session"]
            if stopped:
                await machines.stop("a")
            else:
                await machines.at("a", drain)
            bye = await farewell(ann)
            assert (bye["reason"], ann.connection.close_code) == ("draining", 1012)
            assert bye["gateway"] in ("b:5000", "c:5000")
            node = bye["gateway"][0]
        async with connected(machines, bye["gateway"], "ann") as back:
            await back.send(op="resume", token=bye["resume"], after=ann.sequences[-1])
            welcome = await back.hear()
            assert (welcome["type"], welcome["resumed"], welcome["session"]) == ("welcome", False, before)
            assert await machines.at(node, session_of, "ann") == before
            if stopped:
                await machines.start("a", data="a", shards=8)
            view = await back.until(lambda view: bool(view["seats"]))
            assert [(seat["player"], seat["stack"]) for seat in view["seats"]] == [("ann", 5_000)]
            # The command of before is known by its number, and the next one is done.
            assert await back.done("sit", id=2, table="oak", amount=5_000) == {
                "table": "oak",
                "transfer": 1,
                "stack": 5_000,
            }
            assert await machines.at(node, balance, "ann") == GRANT - 5_000
            assert await back.done("leave", id=3, table="oak") == {"table": "oak"}
            await back.until(lambda view: not view["seats"])

    clustered(scenario, House)


def test_a_drained_gateway_sends_on_whoever_comes() -> None:
    """A login at it is let in, and sent away; a node that is drained too is not chosen; with none left it stays."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", drain)
        await machines.at("b", drain)
        assert await machines.at("b", ask) is True
        await machines.until(lambda: sent_to(machines) == ["c"])
        async with playing(machines, "a", "ann") as ann:
            assert (await farewell(ann))["gateway"] == "c:5000"
        await machines.at("c", drain)
        async with playing(machines, "b", "bob") as bob:
            await bob.done("lobby")
            await machines.at("a", drain, False)
            assert (await farewell(bob))["gateway"] == "a:5000"

    async def ask() -> bool:
        return is_draining()

    def sent_to(machines: Machines) -> list[str]:
        members = membership_of(machines.nodes["a"].table).members()
        return [name for name, one in members.items() if not one.draining]

    clustered(scenario, House)


def test_another_login_there_keeps_its_place() -> None:
    """A player who has logged in at two nodes loses neither to the other: the third one takes the session in."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        async with playing(machines, "a", "ann") as ann, playing(machines, "b", "ann") as other:
            await machines.at("a", drain)
            assert (await farewell(ann))["gateway"] == "c:5000"
            assert await machines.at("b", session_of, "ann") == other.welcome["session"]
            await machines.at("c", drain)
            await machines.until(lambda: membership_of(machines.nodes["b"].table).members()["c"].draining)
            await other.done("lobby")

    clustered(scenario, House)
