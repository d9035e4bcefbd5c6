"""What a person at a table reads and types: views into lines, lines into frames. Pure.

`narrate` tells what has happened between two views of a table, `offer` what the player may do now, and
`understand` makes of a typed line the fields of a frame for the gateway, or says what was wanted.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from runtime.errors import BanyanError

from .action import chips

View: TypeAlias = dict[str, Any]

HELP = "fold, check, call, raise AMOUNT (what you bet in all on this street), all-in, leave, help"

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?", re.ASCII)


class Unclear(BanyanError):
    """A typed line that means nothing here; the text says what was wanted."""


# -- typing --------------------------------------------------------------------------------------------


def understand(line: str, view: View | None, player: str) -> dict[str, Any]:
    """The fields of the `act` frame that a typed line means.

    Args:
        line: one of the words of `HELP` that are actions.
        view: the table as last shown.
        player: who types.

    Raises:
        Unclear: it is no action, or none that can be taken now.
    """
    words = line.lower().replace("all in", "all-in").split()
    match words:
        case ["fold" | "f" | "check" | "x" | "call" | "c" | "all-in" | "allin" | "a"]:
            verb, amount = words[0], None
        case ["raise" | "r" | "bet" | "b", text] if _AMOUNT.fullmatch(text.replace(",", "")):
            whole, _, part = text.replace(",", "").partition(".")
            verb, amount = "raise", int(whole) * 100 + int(part.ljust(2, "0"))
        case ["raise" | "r" | "bet" | "b", *_]:
            raise Unclear("wanted an amount of chips after raise, like: raise 400")
        case _:
            raise Unclear(f"wanted one of: {HELP}")
    legal = view["legal"] if view is not None else None
    if view is None or legal is None:
        raise Unclear(_waiting(view, player))
    return {"hand": view["hand"], **_action(verb, amount, legal)}


def _action(verb: str, amount: int | None, legal: dict[str, Any]) -> dict[str, Any]:
    owed, least, most = legal["to_call"], legal["min_raise_to"], legal["max_raise_to"]
    match verb:
        case "fold" | "f":
            if not legal["may_fold"]:
                raise Unclear("a check is free: check")
            return {"action": "fold"}
        case "check" | "x":
            if owed:
                raise Unclear(f"there is a bet: call {chips(owed)}, or fold")
            return {"action": "call"}
        case "call" | "c":
            return {"action": "call"}
        case "raise":
            if least is None:
                raise Unclear("nobody can raise now: call or fold")
            if amount is None or not least <= amount <= most:
                bounds = chips(least) if least == most else f"{chips(least)} to {chips(most)}"
                raise Unclear(f"wanted a raise to {bounds}")
            return {"action": "raise", "to": amount}
        case _:
            return {"action": "raise", "to": most} if most is not None else {"action": "call"}


def _waiting(view: View | None, player: str) -> str:
    if view is None:
        return "the table has not been shown yet: wait a moment"
    seat = seat_of(view, player)
    if seat is None:
        return "you have no seat: wait until your chips have arrived"
    if view["hand"] is None:
        return "no hand is being played: wait for the next one"
    if seat["waiting"]:
        return "you were not dealt in: wait for the next hand"
    if seat["folded"]:
        return f"you are not in this hand: {view['actor'] or 'nobody'} is to act"
    return f"it is not your turn: {view['actor'] or 'nobody'} is to act"


def seat_of(view: View, player: str) -> dict[str, Any] | None:
    """A player's seat; None if there is none."""
    return next((seat for seat in view["seats"] if seat["player"] == player), None)


def is_out(view: View, player: str) -> bool:
    """Whether a player who had a seat can play no more: it is gone, or empty between hands."""
    seat = seat_of(view, player)
    return seat is None or (view["hand"] is None and seat["stack"] == 0)


# -- reading -------------------------------------------------------------------------------------------


def narrate(before: View | None, after: View, player: str) -> list[str]:
    """What has happened between two views of a table, a line for each thing.

    Without a view before, the table as it is. Of what lies between two views that are not neighbours only
    what can be told from them is told: that a hand ended, and which one is played.
    """
    if before is None:
        return picture(after, player)
    result = after["result"]
    ended = result is not None and (before["result"] is None or before["result"]["hand"] != result["hand"])
    lines: list[str] = []
    if before["hand"] is not None and after["hand"] == before["hand"]:
        lines += _acted(before, after)
        lines += _streets(before["board"], after["board"], f", pot {chips(after['pot'])}")
    elif ended and result["hand"] == before["hand"]:
        lines += _acted_last(before, result)
        lines += _streets(before["board"], result["board"])
    lines += _came_and_went(before, after, player)
    if ended:
        lines += _outcome(result, after, player)
    if after["hand"] is not None and after["hand"] != before["hand"]:
        lines += _begun(after, player)
    return lines


def _acted(before: View, after: View) -> list[str]:
    """What the player to act has done; told from the chips, because a view shows what is, not what was done."""
    name = before["actor"]
    old = seat_of(before, name) if name is not None else None
    new = seat_of(after, name) if name is not None else None
    if old is None or new is None or after["sequence"] == before["sequence"]:
        return []
    if after["actor"] == name and after["street"] == before["street"] and new["bet"] == old["bet"]:
        return []  # it was something else: they are still to act
    if new["folded"]:
        return [f"{name} folds"]
    return [_paid(name, old["bet"], old["stack"] - new["stack"], _highest(before), new["all_in"])]


def _acted_last(before: View, result: dict[str, Any]) -> list[str]:
    """The action that ended a hand: nobody can have raised by it."""
    name = before["actor"]
    old = seat_of(before, name) if name is not None else None
    if old is None:
        return []
    if not result["shown"]:
        return [f"{name} folds"]
    owed = min(_highest(before) - old["bet"], old["stack"])
    return [_paid(name, old["bet"], owed, _highest(before), owed == old["stack"])]


def _highest(view: View) -> int:
    return max((seat["bet"] for seat in view["seats"]), default=0)


def _paid(name: str, bet: int, paid: int, highest: int, all_in: bool) -> str:
    end = ", all-in" if all_in else ""
    if paid <= 0:
        return f"{name} checks"
    if bet + paid <= highest:
        return f"{name} calls {chips(paid)}{end}"
    return f"{name} {'raises to' if highest else 'bets'} {chips(bet + paid)}{end}"


def _streets(before: list[str], board: list[str], pot: str = "") -> list[str]:
    """The streets that have come, by the boards before and now."""
    streets = (("flop", 3), ("turn", 4), ("river", 5))
    return [f"{name}: {' '.join(board[:count])}{pot}" for name, count in streets if len(before) < count <= len(board)]


def _came_and_went(before: View, after: View, player: str) -> list[str]:
    old = {seat["player"] for seat in before["seats"]}
    new = {seat["player"] for seat in after["seats"]}
    come = [seat for seat in after["seats"] if seat["player"] not in old]
    gone = [seat["player"] for seat in before["seats"] if seat["player"] not in new]
    lines = [f"{_you(seat['player'], player)} with {chips(seat['stack'])}" for seat in come]
    return lines + [f"{name} leaves" for name in gone]


def _you(name: str, player: str) -> str:
    return "you sit down" if name == player else f"{name} sits down"


def _outcome(result: dict[str, Any], after: View, player: str) -> list[str]:
    holes = dict(zip(result["players"], result["holes"], strict=True))
    lines = [f"{name} shows {_cards(holes[name])}" for name in result["shown"]]
    lines += [
        f"{name} wins {chips(won)}" for name, won in zip(result["players"], result["collected"], strict=True) if won > 0
    ]
    seat = seat_of(after, player)
    if seat is not None and player in holes:
        lines.append(f"you have {chips(seat['stack'])}")
    return lines


def _begun(view: View, player: str) -> list[str]:
    small, big = view["blinds"]
    lines = [f"hand {view['hand']}, blinds {chips(small)}/{chips(big)}, {view['button']} has the button"]
    seat = seat_of(view, player)
    if seat is not None and seat["hole"]:
        lines.append(f"you are dealt {_cards(seat['hole'])}")
    return lines


def picture(view: View, player: str) -> list[str]:
    """The whole table as it is."""
    if view["hand"] is None:
        names = ", ".join(f"{seat['player']} ({chips(seat['stack'])})" for seat in view["seats"])
        return [f"at the table: {names or 'nobody'}"]
    lines = _begun(view, player)
    if view["board"]:
        lines.append(f"board {' '.join(view['board'])}, pot {chips(view['pot'])}")
    lines += [f"  {line}" for line in seats(view, player)]
    return lines


def seats(view: View, player: str) -> list[str]:
    """A line for each seat."""
    return ["  ".join(part for part in seat_parts(seat, view, player) if part) for seat in view["seats"]]


def seat_parts(seat: dict[str, Any], view: View, player: str) -> tuple[str, str, str, str, str]:
    """A seat's name, stack, bet, state and cards, as they are shown."""
    name = f"{seat['player']} (you)" if seat["player"] == player else seat["player"]
    if view["hand"] is not None and seat["player"] == view["button"]:
        name += " *"
    bet = f"bet {chips(seat['bet'])}" if seat["bet"] else ""
    return name, chips(seat["stack"]), bet, _state(seat, view), _cards(seat["hole"])


def _state(seat: dict[str, Any], view: View) -> str:
    if seat["waiting"]:
        return "waits for the next hand" if seat["stack"] else "out of chips"
    if view["actor"] == seat["player"]:
        state = "to act"
    else:
        state = "folded" if seat["folded"] else "all-in" if seat["all_in"] else ""
    return ", ".join(part for part in (state, "leaving" if seat["leaving"] else "") if part)


def offer(view: View, player: str) -> str | None:
    """What the player may do now; None if it is not their turn."""
    legal = view["legal"]
    if legal is None or legal["player"] != player:
        return None
    may = ["fold"] if legal["may_fold"] else []
    may.append(f"call {chips(legal['to_call'])}" if legal["to_call"] else "check")
    least, most = legal["min_raise_to"], legal["max_raise_to"]
    if least is not None:
        may.append(f"raise {chips(least)} to {chips(most)}" if least != most else f"raise {chips(least)}")
    return f"your turn: {', '.join(may)}"


def turn_of(view: View) -> tuple[int, int]:
    """What tells one turn from the next: the hand's number and the view's sequence."""
    return view["hand"] or 0, view["sequence"]


def _cards(hole: str) -> str:
    return f"{hole[:2]} {hole[2:]}" if hole else ""
