"""Hand histories: PokerStars' text format read into `RecordedHand`s, strictly.

A text is a row of hands, parted by empty lines. Each goes header, table, seats, blinds, hole cards, then
streets of actions, then who collected what, then the summary; the reader walks it line by line and keeps
the same books as a dealer would (stacks, bets, who is in), so that every number in an action is checked
against what it must be and a raise's total is known. What the rules allow is then asked of PokerKit
(`recorded.play`), unless the caller does so.

Read are hands of no-limit hold'em for play money, 2 to 10 seats, without antes, with everybody's hole
cards known. Everything else raises `HistoryError` with source, line, what was wanted, what came and what
to do, and so does every text that breaks off inside a hand: a hand ends with its "Total pot" line, its
board if there was one, and at a showdown everybody's cards. A text cut between two hands is whole as far
as anyone can tell.

The outcome (collected, uncalled, total pot, rake) is taken as it is told; whether it is true is asked by
`recorded.compare`.

Names may hold anything but a line break: an action's name is all before the last `": "`, as no action
contains one. Source: PokerStars' hand-history format as in the Pluribus files (Brown and Sandholm 2019).
"""

from __future__ import annotations

import re
from typing import NoReturn

from .hand import Action, CheckOrCall, Fold, RaiseTo, Street, chips
from .recorded import HistoryError, RecordedAction, RecordedHand, play

__all__ = ["HistoryError", "RecordedAction", "RecordedHand", "parse", "parse_bytes"]

_AMOUNT = r"([0-9]{1,15}(?:\.[0-9]{1,30})?)"
_CARD = r"([2-9TJQKA][cdhs])"
_HEADER = re.compile(
    rf"PokerStars (?:Zoom )?(?:Hand|Game) #([0-9]{{1,18}}): +Hold'em No Limit \({_AMOUNT}/{_AMOUNT}\) - .+"
)
_TABLE = re.compile(r"Table '(.*)' ([0-9]{1,2})-max (?:\(Play Money\) )?Seat #([0-9]{1,2}) is the button")
_SEAT = re.compile(rf"Seat ([0-9]{{1,2}}): (.+) \({_AMOUNT} in chips\)")
_POST = re.compile(rf"(.+): posts (small|big) blind {_AMOUNT}(?: and is all-in)?")
_DEALT = re.compile(rf"Dealt to (.+) \[{_CARD} {_CARD}\]")
_UNCALLED = re.compile(rf"Uncalled bet \({_AMOUNT}\) returned to (.+)")
_COLLECTED = re.compile(rf"(.+) collected {_AMOUNT} from (?:main |side )?pot(?:-[0-9]+)?")
_SHOWS = re.compile(rf"shows \[{_CARD} {_CARD}\](?: \(.*\))?")
_TOTAL = re.compile(
    rf"Total pot {_AMOUNT}(?: Main pot [0-9.]+\.(?: Side pot(?:-[0-9]+)? [0-9.]+\.)+)? \| Rake {_AMOUNT}"
)
_ENDED = re.compile(
    r"(?: \((?:button|small blind|big blind)\))*(?:"
    rf" showed \[{_CARD} {_CARD}\] and (?:won \({_AMOUNT}\)|lost)(?: with .+)?"
    rf"| mucked \[{_CARD} {_CARD}\]"
    rf"| collected \({_AMOUNT}\)"
    r"| mucked"
    r"| folded (?:before Flop|on the (?:Flop|Turn|River))(?: \(didn't bet\))?)"
)
_NEXT: dict[str, tuple[Street, int]] = {"FLOP": ("flop", 3), "TURN": ("turn", 4), "RIVER": ("river", 5)}
_STREETS: dict[Street, Street] = {"preflop": "flop", "flop": "turn", "turn": "river"}
_MOST_SEATS = 10
_COPY = "get an unaltered copy of the file"


def parse(text: str, source: str, *, rules: bool = True) -> list[RecordedHand]:
    """Read all hands of a text.

    Args:
        text: a hand history; lines end in LF or CR LF.
        source: what to call it in errors, such as the file's path.
        rules: whether PokerKit plays each hand (about 0.7 ms) to prove that its actions are legal and
            whole. Without it, call `play` on every hand before using any.

    Returns:
        The hands in the text's order, at least one, each id once.

    Raises:
        HistoryError: the text is not such a history, or is damaged or inconsistent, with the line.
    """
    lines = _Lines(text, source)
    hands: list[RecordedHand] = []
    seen: dict[int, int] = {}
    lines.skip_empty()
    while not lines.ended:
        hand = _Reader(lines).read()
        first = seen.setdefault(hand.id, hand.line)
        if first != hand.line:
            raise HistoryError(
                source, hand.line, "every hand once", f"hand {hand.id} of line {first} again", "take one out"
            )
        if rules:
            play(hand)
        hands.append(hand)
        lines.skip_empty()
    if not hands:
        raise HistoryError(source, 1, "at least one hand", "an empty text", "name a file with hands in it")
    return hands


def parse_bytes(data: bytes, source: str, *, rules: bool = True) -> list[RecordedHand]:
    """As `parse`, for a file's bytes in UTF-8, with or without a byte order mark.

    Raises:
        HistoryError: as in `parse`, also if the bytes are no text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HistoryError(
            source, line, "a hand history in UTF-8", f"the byte {data[error.start]:#04x}", _COPY
        ) from error
    return parse(text, source, rules=rules)


class _Lines:
    """The text's lines and the place of the reader."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        # Not splitlines: a name may hold what Unicode calls a line break.
        self.lines = text.removeprefix("\ufeff").split("\n")
        self.closed = not self.lines[-1]
        if self.closed:
            self.lines.pop()
        self.at = 0

    @property
    def ended(self) -> bool:
        return self.at >= len(self.lines)

    def peek(self) -> str:
        """The line here; "" where the text ends or has an empty one, which both end a hand."""
        return "" if self.ended else self.lines[self.at].removesuffix("\r")

    def skip_empty(self) -> None:
        while not self.ended and not self.lines[self.at].strip():
            self.at += 1

    def fail(self, wanted: str, advice: str = _COPY, came: str | None = None) -> NoReturn:
        """Refuse the line here, or the text's last line if it ends here."""
        if came is None:
            line = self.peek()
            came = repr(line[:100]) if line else "the end of the text" if self.ended else "an empty line"
        raise HistoryError(self.source, min(self.at, len(self.lines) - 1) + 1, wanted, came, advice)


class _Reader:
    """One hand's walk through its lines; the fields are the dealer's books, by seat."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self.first_line = lines.at + 1
        self.players: list[str] = []
        self.seats: list[int] = []
        self.stacks: list[int] = []
        self.starting: list[int] = []
        self.holes: list[str] = []
        self.board: list[str] = []
        self.cards: set[str] = set()
        self.street: Street = "preflop"
        self.bets: list[int] = []
        self.put_in: list[int] = []
        self.folded: list[bool] = []
        self.actions: list[RecordedAction] = []
        self.uncalled: list[int] = []
        self.collected: list[int] = []
        self.won: list[int | None] = []
        self.inexact = self.showdown = self.paid = False

    def read(self) -> RecordedHand:
        number, blinds = self.header()
        table, size, button = self.table()
        self.seating(size)
        small = self.post("small", blinds[0], None)
        self.check_button(button, small)
        self.post("big", blinds[1], (small + 1) % len(self.players))
        self.take_marker("HOLE CARDS")
        self.dealing()
        while self.lines.peek() != "*** SUMMARY ***":
            self.line_of_play()
        self.check_end()
        pot, rake = self.summary()
        return RecordedHand(
            id=number,
            table=table,
            source=self.lines.source,
            line=self.first_line,
            last_line=self.lines.at,
            players=tuple(self.players),
            seats=tuple(self.seats),
            button=button,
            small_blind=self.players[small],
            blinds=blinds,
            stacks=tuple(self.starting),
            holes=tuple(self.holes),
            board=tuple(self.board),
            actions=tuple(self.actions),
            put_in=tuple(self.put_in),
            uncalled=tuple(self.uncalled),
            collected=tuple(self.collected),
            won=tuple(self.won),
            inexact=self.inexact,
            pot=pot,
            rake=rake,
        )

    def header(self) -> tuple[int, tuple[int, int]]:
        line = self.lines.peek()
        found = _HEADER.fullmatch(line)
        if found is None:
            self.foreign(line)
        blinds = self.amount(found[2]), self.amount(found[3])
        if not 0 < blinds[0] <= blinds[1]:
            self.lines.fail("blinds with 0 < small <= big")
        self.lines.at += 1
        return int(found[1]), blinds

    def foreign(self, line: str) -> NoReturn:
        """Say in which way the first line is not that of a hand we read."""
        if not line.startswith("PokerStars "):
            self.lines.fail('a hand\'s first line, "PokerStars Hand #..."', "name a text in PokerStars' format")
        if "Tournament" in line:
            self.lines.fail("a cash game's hand", "take tournament hands out")
        if re.search(r"#[0-9]+: ", line) and "Hold'em No Limit" not in line:
            self.lines.fail("a hand of Hold'em No Limit", "take other games' hands out")
        if re.search(r"Hold'em No Limit \([^0-9]", line):
            self.lines.fail("play-money stakes like (50/100)", "take real-money hands out")
        self.lines.fail('"PokerStars Hand #ID: Hold\'em No Limit (SMALL/BIG) - DATE"')

    def table(self) -> tuple[str, int, int]:
        found = _TABLE.fullmatch(self.lines.peek())
        if found is None:
            self.lines.fail("\"Table 'NAME' N-max Seat #N is the button\"")
        size, button = int(found[2]), int(found[3])
        if not 2 <= size <= _MOST_SEATS or not 1 <= button <= size:
            self.lines.fail(f"a table of 2 to {_MOST_SEATS} seats with the button at one of them")
        self.lines.at += 1
        return found[1], size, button

    def seating(self, size: int) -> None:
        while self.lines.peek().startswith("Seat "):
            found = _SEAT.fullmatch(self.lines.peek())
            if found is None:
                self.lines.fail('"Seat N: NAME (AMOUNT in chips)"')
            seat, name, stack = int(found[1]), found[2], self.amount(found[3])
            if not (self.seats[-1] if self.seats else 0) < seat <= size:
                self.lines.fail(f"seats in order, up to {size}")
            if name in self.players:
                self.lines.fail("every player in one seat")
            if stack == 0:
                self.lines.fail("a stack above 0", "take the hand out")
            self.seats.append(seat)
            self.players.append(name)
            self.starting.append(stack)
            self.lines.at += 1
        count = len(self.players)
        if count < 2:
            self.lines.fail("at least two seats")
        self.stacks = list(self.starting)
        self.bets, self.put_in, self.uncalled, self.collected = ([0] * count for _ in range(4))
        self.folded, self.won, self.holes = [False] * count, [None] * count, [""] * count

    def post(self, which: str, blind: int, due: int | None) -> int:
        found = _POST.fullmatch(self.lines.peek())
        if found is None or found[2] != which:
            self.lines.fail(f'"NAME: posts {which} blind AMOUNT"', "take hands with antes or dead blinds out")
        index = self.seated(found[1])
        if due is not None and index != due:
            self.lines.fail(f"the {which} blind from {self.players[due]!r}, the next seat")
        if self.amount(found[3]) != min(blind, self.stacks[index]):
            self.lines.fail(f"a {which} blind of {chips(min(blind, self.stacks[index]))}")
        self.pay(index, self.amount(found[3]))
        self.lines.at += 1
        return index

    def check_button(self, button: int, small: int) -> None:
        """Behind the button comes the small blind; between two either may be written as the button."""
        behind = next((i for i, seat in enumerate(self.seats) if seat > button), 0)
        if len(self.seats) > 2 and behind != small:
            self.lines.at -= 1
            self.lines.fail(f"the small blind from {self.players[behind]!r}, behind the button")

    def dealing(self) -> None:
        while self.lines.peek().startswith("Dealt to "):
            found = _DEALT.fullmatch(self.lines.peek())
            if found is None:
                self.lines.fail('"Dealt to NAME [CARD CARD]"')
            index = self.seated(found[1])
            if self.holes[index]:
                self.lines.fail(f"cards for {found[1]!r} once")
            self.new_cards([found[2], found[3]])
            self.holes[index] = found[2] + found[3]
            self.lines.at += 1
        for player, hole in zip(self.players, self.holes, strict=True):
            if not hole:
                self.lines.fail(f'"Dealt to {player} [CARD CARD]"', "take hands with unknown hole cards out")

    def line_of_play(self) -> None:
        line = self.lines.peek()
        if line.startswith("*** "):
            self.marker(line)
        else:
            name, colon, verb = line.rpartition(": ")
            if not (colon and name in self.players and self.said(self.players.index(name), verb)):
                self.payment(line)
        self.lines.at += 1

    def said(self, index: int, verb: str) -> bool:
        """Take what a seated player did; False if it is nothing that a player does."""
        act = verb.removesuffix(" and is all-in")
        action: Action
        match act.split(" "):
            case ["folds"]:
                action = self.fold(index)
            case ["checks"]:
                action = self.call(index, 0)
            case ["calls", amount]:
                action = self.call(index, self.amount(amount))
            case ["bets", amount]:
                action = self.raise_to(index, 0, self.amount(amount), self.amount(amount))
            case ["raises", amount, "to", total]:
                action = self.raise_to(index, max(self.bets), self.amount(amount), self.amount(total))
            case _:
                return self.shown(index, verb)
        if act != verb and self.stacks[index]:
            self.lines.fail(f"no all-in, as {self.players[index]!r} has {chips(self.stacks[index])} left")
        self.actions.append(RecordedAction(self.players[index], action, self.street, self.lines.at + 1))
        return True

    def fold(self, index: int) -> Action:
        self.must_be_in(index)
        self.folded[index] = True
        return Fold()

    def call(self, index: int, amount: int) -> Action:
        self.must_be_in(index)
        due = min(max(self.bets) - self.bets[index], self.stacks[index])
        if amount != due:
            self.lines.fail(f"a call of {chips(due)} or a fold" if due else "a check")
        self.pay(index, due)
        return CheckOrCall()

    def raise_to(self, index: int, highest: int, by: int, to: int) -> Action:
        self.must_be_in(index)
        if max(self.bets) != highest:
            self.lines.fail(f"a raise, as there is a bet of {chips(max(self.bets))}")
        if by <= 0 or highest + by != to:
            self.lines.fail(f"a raise by {chips(to - highest)} to {chips(to)} over a bet of {chips(highest)}")
        more = to - self.bets[index]
        if more > self.stacks[index]:
            self.lines.fail(f"at most the {chips(self.stacks[index])} that {self.players[index]!r} has left")
        self.pay(index, more)
        return RaiseTo(to)

    def must_be_in(self, index: int) -> None:
        if self.paid or self.showdown:
            self.lines.fail("no more actions")
        if self.folded[index]:
            self.lines.fail(f"no action by {self.players[index]!r}, who has folded")

    def shown(self, index: int, verb: str) -> bool:
        if verb in ("mucks hand", "doesn't show hand"):
            return True
        found = _SHOWS.fullmatch(verb)
        if found is not None:
            self.check_shown(index, found[1] + found[2])
        return found is not None

    def check_shown(self, index: int, cards: str) -> None:
        if cards != self.holes[index]:
            self.lines.fail(f"the cards that {self.players[index]!r} was dealt")

    def marker(self, line: str) -> None:
        if self.paid or self.showdown:
            self.lines.fail('a payment or "*** SUMMARY ***"')
        if line in ("*** SHOWDOWN ***", "*** SHOW DOWN ***"):
            self.showdown = True
            return
        name = line[4:].partition(" ")[0]
        street, count = _NEXT.get(name, (None, 0))
        if street is None or street != _STREETS.get(self.street):
            self.lines.fail(f'an action, "*** {_STREETS.get(self.street, "showdown").upper()} ***" or a payment')
        cards = re.findall(_CARD, line)
        # PokerStars writes all earlier cards in one bracket, others give each street its own.
        apart = f"[{' '.join(cards[:3])}]" + "".join(f" [{card}]" for card in cards[3:])
        joined = f"[{' '.join(cards[:-1])}] [{cards[-1]}]" if len(cards) > 3 else apart
        if len(cards) != count or line not in (f"*** {name} *** {apart}", f"*** {name} *** {joined}"):
            self.lines.fail(f"{count} board cards in brackets")
        if cards[: len(self.board)] != self.board:
            self.lines.fail("the earlier board cards again")
        self.new_cards(cards[len(self.board) :])
        self.board = cards
        self.street = street
        self.bets = [0] * len(self.bets)

    def payment(self, line: str) -> None:
        back = _UNCALLED.fullmatch(line)
        if back is not None:
            index = self.seated(back[2])
            self.uncalled[index] += self.amount(back[1])
            return
        found = _COLLECTED.fullmatch(line)
        if found is None:
            self.lines.fail("an action by a seated player, a street, a payment or the summary")
        index = self.seated(found[1])
        self.collected[index] += self.share(found[2])
        self.paid = True

    def check_end(self) -> None:
        if not self.paid:
            self.lines.fail('"NAME collected AMOUNT from pot"')
        left = self.folded.count(False)
        # The Pluribus files leave the showdown out where a fold closes the last betting of several.
        closed_by_fold = bool(self.actions) and isinstance(self.actions[-1].action, Fold)
        if self.showdown != (left > 1) and not (left > 1 and closed_by_fold):
            came = f"{left} left and {'a' if self.showdown else 'no'} showdown"
            self.lines.fail("a showdown only among several who did not fold", came=came)

    def summary(self) -> tuple[int, int]:
        self.take_marker("SUMMARY")
        found = _TOTAL.fullmatch(self.lines.peek())
        if found is None:
            self.lines.fail('"Total pot AMOUNT | Rake AMOUNT"')
        pot, rake = self.amount(found[1]), self.amount(found[2])
        missing = pot - rake - sum(self.collected) - (len(self.players) if self.inexact else 0)
        if self.lines.at == len(self.lines.lines) - 1 and not self.lines.closed and missing > 0:
            # The only line that may end in a number: nothing else shows that digits were cut off.
            self.lines.fail("a line break after the rake, which is too small", came="the end of the text")
        self.lines.at += 1
        if self.board:
            board = f"Board [{' '.join(self.board)}]"
            if self.lines.peek() != board:
                self.lines.fail('the "Board" line with the cards that came')
            self.lines.at += 1
        shown = [False] * len(self.players)
        while self.lines.peek().startswith("Seat "):
            self.seat_summary(shown)
            self.lines.at += 1
        if self.showdown and any(not (a or b) for a, b in zip(shown, self.folded, strict=True)):
            self.lines.fail("the cards of everyone in the showdown")
        if self.lines.peek() and not self.lines.peek().startswith("PokerStars "):
            self.lines.fail("a seat's summary or the hand's end")
        return pot, rake

    def seat_summary(self, shown: list[bool]) -> None:
        number, _, rest = self.lines.peek().removeprefix("Seat ").partition(": ")
        index = next((i for i, seat in enumerate(self.seats) if str(seat) == number), 0)
        name = self.players[index]
        found = _ENDED.fullmatch(rest.removeprefix(name))
        if found is None or not rest.startswith(name) or str(self.seats[index]) != number:
            self.lines.fail('"Seat N: NAME showed [CARD CARD] and won (AMOUNT)" or "and lost"')
        if cards := (found[1] or found[4] or "") + (found[2] or found[5] or ""):
            self.check_shown(index, cards)
            shown[index] = True
        amount = found[3] or found[6]
        if amount:
            self.won[index] = self.share(amount)

    def take_marker(self, name: str) -> None:
        if self.lines.peek() != f"*** {name} ***":
            self.lines.fail(f'"*** {name} ***"')
        self.lines.at += 1

    def seated(self, name: str) -> int:
        if name not in self.players:
            self.lines.fail("a seated player")
        return self.players.index(name)

    def new_cards(self, cards: list[str]) -> None:
        for card in cards:
            if card in self.cards:
                self.lines.fail("every card once", came=f"{card} again")
            self.cards.add(card)

    def pay(self, index: int, amount: int) -> None:
        self.stacks[index] -= amount
        self.bets[index] += amount
        self.put_in[index] += amount

    def amount(self, text: str) -> int:
        """Hundredths, exactly; refuses what is no amount or finer than that."""
        value, exact = _hundredths(text)
        if value is None or not exact:
            self.lines.fail("an amount with at most two decimals", came=repr(text[:40]))
        return value

    def share(self, text: str) -> int:
        """Hundredths, cut off: a split pot may be written as 333.3333333333333."""
        value, exact = _hundredths(text)
        self.inexact |= not exact
        return value or 0


def _hundredths(text: str) -> tuple[int | None, bool]:
    if re.fullmatch(_AMOUNT, text) is None:
        return None, False
    whole, _, part = text.partition(".")
    return int(whole) * 100 + int(part[:2].ljust(2, "0")), not part[2:].strip("0")
