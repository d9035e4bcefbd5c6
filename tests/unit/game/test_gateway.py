"""The gateway: players over real sockets at real tables; what they are shown, may do, and are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from game.gateway import GatewaySettings
from game.messages import Look, TableConfig, Unwatch
from game.player import key_of_table
from game.protocol import first, later
from runtime import KILL, call, exit, whereis
from runtime.edge import frames
from runtime.edge.tokens import Signer, Token
from runtime.edge.websocket import Bounds
from supervisors import ChildRefused, which_children
from tests.unit.game.players import GRANT, OAK, SECRET, House, calling, farewell, house, paid_back, play

# -- login ---------------------------------------------------------------------------------------------


async def test_a_player_logs_in() -> None:
    """A login token opens a session, with a token to resume it and the house's grant in the wallet."""
    async with house() as room, room.player("ann", watch=()) as ann:
        assert {key: ann.welcome[key] for key in ("resumed", "seq", "player")} == {
            "resumed": False,
            "seq": 0,
            "player": "ann",
        }
        token = room.signer.verify(ann.welcome["resume"], "resume", room.node.world.wall())
        assert (token.subject, token.session) == ("ann", ann.welcome["session"])
        assert await ann.done("balance") == {"balance": GRANT}


async def test_the_grant_comes_once() -> None:
    """However often a player logs in, the house grants once."""
    async with house() as room:
        for _ in range(3):
            async with room.player("ann", watch=()) as ann:
                assert await ann.done("balance") == {"balance": GRANT}


async def test_a_house_may_grant_nothing() -> None:
    """With a grant of 0 a new player has an empty wallet."""
    async with house(GatewaySettings(secret=SECRET, grant=0)) as room, room.player("ann", watch=()) as ann:
        assert await ann.done("balance") == {"balance": 0}


def forged(room: House) -> str:
    return Signer(b"x" * 32).sign(Token("login", "ann", room.node.world.wall() + 60))


BAD_LOGINS = {
    "forged": (forged, "forged_token"),
    "expired": (lambda room: room.token("ann", seconds=-1.0), "expired_token"),
    "malformed": (lambda _room: "let me in", "malformed_token"),
    "of another purpose": (lambda room: room.token("ann", purpose="resume", session="0"), "wrong_token"),
    "changed": (lambda room: room.token("ann")[:-2] + "AA", "forged_token"),
    "too long a name": (lambda room: room.token("a" * 65), "bad_name"),
    "no name": (lambda room: room.token(""), "bad_name"),
    "an unprintable name": (lambda room: room.token("ann\n"), "bad_name"),
}


@pytest.mark.parametrize(("make", "reason"), BAD_LOGINS.values(), ids=BAD_LOGINS.keys())
async def test_a_bad_token_is_refused(make: Any, reason: str) -> None:
    """A token that proves nothing is refused with a word; nothing is started, and another try is free."""
    async with house() as room, room.connected("ann") as ann:
        await ann.send(op="login", token=make(room))
        assert (await ann.hear())["reason"] == reason
        assert await which_children("gateway.sessions") == []
        await ann.send(op="login", token=room.token("ann"))
        assert (await ann.hear())["type"] == "welcome"


@pytest.mark.parametrize("op", ["lobby", "watch", "sit", "act", "leave", "balance", "nonsense"])
async def test_nothing_is_done_before_the_login(op: str) -> None:
    """Whoever has not logged in may log in, and nothing else."""
    async with house() as room, room.connected("ann") as ann:
        await ann.send(op=op, id=1)
        assert (await ann.hear())["reason"] == "unknown_op"


async def test_guessing_tokens_is_cut() -> None:
    """A client that shows one bad token after the other is cut."""
    bounds = Bounds(strikes=3, strikes_rate=0.001, close_seconds=0.2)
    async with house(GatewaySettings(secret=SECRET, bounds=bounds)) as room, room.connected("ann") as ann:
        for _ in range(4):
            await ann.send(op="login", token=forged(room))
        assert await farewell(ann) == ("nonsense", 1008)


async def test_a_second_login_displaces_the_first() -> None:
    """A player is at one place: the newer login goes on, the older is told and cut."""
    async with house() as room, room.player("ann") as old, room.player("ann") as new:
        assert await farewell(old) == ("displaced", 4001)
        assert await new.done("balance") == {"balance": GRANT}
        assert old.welcome["session"] != new.welcome["session"]


# -- lobby and tables ----------------------------------------------------------------------------------


async def test_the_lobby_shows_the_tables() -> None:
    """The lobby lists each table with its blinds, its seats, and how many of them are taken."""
    tables = (OAK, TableConfig("elm", pause_seconds=-1.0), TableConfig("ash", pause_seconds=-1.0))
    async with house(tables=tables) as room, room.player("ann", sit=500) as ann:
        whole = await ann.done("lobby")
        assert [(one["table"], one["taken"]) for one in whole["tables"]] == [("ash", 0), ("elm", 0), ("oak", 1)]
        assert whole["tables"][2] == {
            "table": "oak",
            "blinds": [50, 100],
            "seats": 3,
            "turn_seconds": 0.0,
            "taken": 1,
            "seated": True,
            "damaged": None,
        }
        assert [one["seated"] for one in whole["tables"][:2]] == [False, False]
        page = await ann.done("lobby", after="ash", limit=1)
        assert ([one["table"] for one in page["tables"]], page["more"], whole["more"]) == (["elm"], True, False)


async def test_a_table_is_shown_as_it_is() -> None:
    """One absolute and then deltas add up to the table as this player may see it, after every change."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        await play([ann, bob], hand, calling)
        for player in (ann, bob):
            now = await call("table/oak", Look(player.name))
            view = await player.until(lambda v, number=now.sequence: v["sequence"] == number)  # type: ignore[misc]  # bound on purpose
            assert (view["viewer"], view["hand"], view["result"]["hand"]) == (player.name, None, hand)
            assert {one["player"]: one["stack"] for one in view["seats"]} == {
                seat.player: seat.stack for seat in now.seats
            }
        kinds = [text.split('"type":"')[1].split('"')[0] for text in ann.frames]
        assert kinds.count("absolute") == 1
        assert ann.sequences == list(range(1, len(ann.sequences) + 1))


async def test_a_table_that_is_not_watched_says_nothing() -> None:
    """After an unwatch nothing more of a table is pushed; a new watch begins with an absolute."""
    async with house() as room, room.player("ann") as ann, room.player("bob") as bob:
        await ann.done("unwatch", table="oak")
        heard = len(ann.sequences)
        await bob.done("sit", table="oak", amount=500)
        await bob.until(lambda view: len(view["seats"]) == 1)
        await ann.done("balance")
        assert len(ann.sequences) == heard
        await ann.done("watch", table="oak")
        await ann.until(lambda view: len(view["seats"]) == 1)


async def test_so_many_tables_are_watched() -> None:
    """A client watches a bounded number of tables; another one needs room first."""
    tables = (OAK, TableConfig("elm", pause_seconds=-1.0))
    async with house(GatewaySettings(secret=SECRET, watched=1), tables=tables) as room, room.player("ann") as ann:
        assert await ann.refused("watch", table="elm") == "too_many_tables"
        await ann.done("watch", table="oak")
        await ann.done("unwatch", table="oak")
        await ann.done("watch", table="elm")


async def test_news_that_was_missed_is_asked_for() -> None:
    """A table that has dropped a slow watcher is looked at again, and what was missed is shown."""
    async with house(GatewaySettings(secret=SECRET, look_again=0.05)) as room, room.player("ann") as ann:
        session = whereis("player/ann")
        assert session is not None
        await call("table/oak", Unwatch(session))
        async with room.player("bob", sit=500):
            await ann.until(lambda view: [one["player"] for one in view["seats"]] == ["bob"])


@pytest.mark.parametrize(
    ("op", "fields"),
    [("watch", {}), ("sit", {"amount": 5}), ("act", {"hand": 1, "action": "fold"}), ("leave", {})],
)
async def test_a_table_that_was_never_opened_is_refused(op: str, fields: dict[str, Any]) -> None:
    """Nobody waits for a table that there is not."""
    async with house() as room, room.player("ann", watch=()) as ann:
        assert await ann.refused(op, table="nowhere", **fields) == "no_such_table"


# -- chips ---------------------------------------------------------------------------------------------


async def test_chips_go_to_the_seat_and_back() -> None:
    """A buy-in leaves the wallet and stands at the seat; who leaves has all of it back."""
    async with house() as room, room.player("ann") as ann:
        assert await ann.done("sit", table="oak", amount=3_000) == {"table": "oak", "transfer": 1, "stack": 3_000}
        assert await ann.done("balance") == {"balance": GRANT - 3_000}
        assert await ann.done("sit", table="oak", amount=500) == {"table": "oak", "transfer": 2, "stack": 3_500}
        await ann.until(lambda view: any(one["stack"] == 3_500 for one in view["seats"]))
        assert await ann.done("leave") == {"table": "oak"}
        await ann.until(lambda view: view["seats"] == [])
        await paid_back("ann", GRANT)
        assert await ann.done("balance") == {"balance": GRANT}


async def test_a_repeated_buy_in_is_one_buy_in() -> None:
    """The same id over the same connection, over the next one, and after a crash of the session: once."""
    async with house() as room:
        async with room.player("ann") as ann:
            answers = [await ann.ask("sit", table="oak", amount=3_000, id=7) for _ in range(2)]
        async with room.resumed(ann) as back:
            assert back.welcome["resumed"]
            answers.append(await back.ask("sit", table="oak", amount=3_000, id=7))
            session = whereis("player/ann")
            assert session is not None
            exit(session, KILL)
            await farewell(back)
        async with room.resumed(ann) as again:
            # The session is a new process that remembers nothing: the wallet does.
            assert not again.welcome["resumed"]
            answers.append(await again.ask("sit", table="oak", amount=3_000, id=7))
            assert await again.done("balance") == {"balance": GRANT - 3_000}
        expected = {"type": "reply", "id": 7, "ok": {"table": "oak", "transfer": 1, "stack": 3_000}}
        assert answers == [expected] * 4


async def test_an_id_that_is_used_for_another_command_is_refused() -> None:
    """An id means one command, for as long as the session remembers it."""
    async with house() as room, room.player("ann") as ann:
        await ann.done("sit", table="oak", amount=500, id=3)
        assert await ann.refused("sit", table="oak", amount=600, id=3) == "id_reused"


async def test_more_than_the_wallet_holds_is_refused() -> None:
    """Nobody buys in for what they do not have."""
    async with house() as room, room.player("ann") as ann:
        assert await ann.refused("sit", table="oak", amount=GRANT + 1) == "not_enough_chips"
        assert await ann.done("balance") == {"balance": GRANT}


async def test_a_full_table_gives_the_chips_back() -> None:
    """Who finds no seat is told, and has the chips in the wallet again."""
    bots = tuple((name, "oak", 500) for name in ("bot1", "bot2", "bot3"))
    async with house(bots=bots) as room, room.player("ann") as ann:
        await ann.until(lambda view: len(view["seats"]) == 3)
        assert await ann.refused("sit", table="oak", amount=500) == "no_seat"
        assert await ann.done("balance") == {"balance": GRANT}


async def test_leaving_without_a_seat_is_refused() -> None:
    """Who sits nowhere is asked which table is meant; who names one is told that there is no seat."""
    async with house() as room, room.player("ann") as ann:
        assert await ann.refused("leave") == "which_table"
        assert await ann.refused("leave", table="oak") == "refused"


# -- playing -------------------------------------------------------------------------------------------


async def test_a_hand_is_played_to_its_end() -> None:
    """Two players play a hand over their sockets; chips change seats and none is lost."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        await play([ann, bob], await room.deal(), calling)
        view = await ann.until(lambda v: v["result"] is not None)
        assert sum(one["stack"] for one in view["seats"]) == 10_000
        assert sum(view["result"]["payoffs"]) == 0


async def test_what_the_rules_forbid_is_refused_with_a_word() -> None:
    """Out of turn, out of range, in another hand: a typed refusal; the connection and the hand stay."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        assert await ann.refused("act", table="oak", hand=1, action="call") == "no_hand"
        hand = await room.deal()
        view = await ann.until(lambda v: v["hand"] == hand)
        actor, other = (ann, bob) if view["actor"] == "ann" else (bob, ann)
        sequence = (await call("table/oak", Look(None))).sequence
        assert [
            await other.refused("act", table="oak", hand=hand, action="call"),
            await other.refused("act", table="oak", hand=hand, action="fold"),
            await actor.refused("act", table="oak", hand=hand, action="raise", to=1),
            await actor.refused("act", table="oak", hand=hand, action="raise", to=10**9),
            await actor.refused("act", table="oak", hand=hand + 1, action="call"),
        ] == ["not_your_turn", "not_your_turn", "bad_amount", "bad_amount", "refused"]
        assert (await call("table/oak", Look(None))).sequence == sequence
        assert (await actor.done("act", table="oak", hand=hand, action="raise", to=300)) == {"actions": 1}


async def test_a_spectator_cannot_act() -> None:
    """Who has no seat is no player of the hand."""
    async with house() as room, room.player("ann", sit=500), room.player("bob", sit=500), room.player("eve") as eve:
        hand = await room.deal()
        assert await eve.refused("act", table="oak", hand=hand, action="call") == "unknown_player"


async def test_nobody_waits_for_who_has_left() -> None:
    """Who leaves in mid-hand is checked and folded for at once, and the seat is free after the hand."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        await play([ann], hand, calling, until=lambda view: view["actor"] == "bob")
        await bob.done("leave", table="oak")
        await play([ann], hand, calling)
        view = await ann.until(lambda v: v["result"] is not None)
        assert [one["player"] for one in view["seats"]] == ["ann"]
        await paid_back("bob", GRANT - 5_000 + view["result"]["stacks"][view["result"]["players"].index("bob")])


async def test_a_repeated_action_is_one_action() -> None:
    """An action that is sent again under one id is done once."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        view = await ann.until(lambda v: v["hand"] == hand)
        actor = ann if view["actor"] == "ann" else bob
        for _ in range(3):
            assert await actor.done("act", table="oak", hand=hand, action="call", id=50) == {"actions": 1}


# -- odds and ends -------------------------------------------------------------------------------------


async def test_a_gateway_for_the_world_is_refused_at_start() -> None:
    """Beyond this machine a gateway listens only if it is told that it may."""
    with pytest.raises(ChildRefused, match="loopback"):
        async with house(GatewaySettings(listen="0.0.0.0:0", secret=SECRET)):
            pytest.fail("it listens")


def test_a_table_is_called_by_its_name() -> None:
    """Clients call a table by its name, the room by its key."""
    assert key_of_table("oak") == OAK.key


BAD_FRAMES = [
    '{"op":"sit","table":"oak","amount":5}',
    '{"op":"sit","id":0,"table":"oak","amount":5}',
    '{"op":"sit","id":1,"table":"oak","amount":0}',
    '{"op":"sit","id":1,"table":"oak","amount":-5}',
    '{"op":"sit","id":1,"table":"oak","amount":1.5}',
    '{"op":"sit","id":1,"table":"oak","amount":"5"}',
    '{"op":"sit","id":1,"table":"","amount":5}',
    '{"op":"sit","id":1,"table":"' + "x" * 65 + '","amount":5}',
    '{"op":"sit","id":1,"table":"oak","amount":99999999999999999999}',
    '{"op":"sit","id":1,"table":"oak","amount":5,"player":"bob"}',
    '{"op":"act","id":1,"table":"oak","hand":1,"action":"bluff"}',
    '{"op":"act","id":1,"table":"oak","hand":1,"action":"raise"}',
    '{"op":"act","id":1,"table":"oak","hand":1,"action":"fold","to":5}',
    '{"op":"act","id":1,"table":"oak","hand":true,"action":"fold"}',
    '{"op":"lobby","limit":0}',
    '{"op":"lobby","limit":1000}',
    '{"op":"watch","table":null}',
]


@pytest.mark.parametrize("text", BAD_FRAMES)
async def test_a_frame_that_is_not_as_documented_is_refused(text: str) -> None:
    """A field too many, too few or out of range: refused as a bad frame, nothing is done."""
    async with house() as room, room.player("ann", watch=()) as ann:
        await ann.connection.send(text)
        assert (await ann.hear())["reason"] == "bad_frame"
        assert await ann.done("balance") == {"balance": GRANT}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OPS = st.sampled_from(["login", "resume", "lobby", "watch", "unwatch", "sit", "act", "leave", "balance"])
FIELDS = st.sampled_from(["id", "table", "amount", "hand", "action", "to", "after", "limit", "token", "x"])


@given(OPS, st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_fields_are_a_frame_or_a_refusal(op: str, fields: dict[str, Any]) -> None:
    """Whatever stands in the fields of a frame, it is read or refused, and no token is in its repr."""
    text = frames.encode({**fields, "op": op, "token": "s3cret"}).decode()
    for decoder in (first, later):
        try:
            frame = frames.read(decoder, text)
        except frames.Refusal as refused:
            assert "s3cret" not in repr(refused)  # noqa: PT017  # most texts are refused, some are not
        else:
            assert "s3cret" not in repr(frame)
