"""A table: a durable process that deals hands, asks PokerKit about every action, and pays out.

Its state is a value: who sits with what, the deal and the actions of the hand in play. PokerKit's mutable
`Hand` is a cache beside it, keyed by the deal and the number of actions, and rebuilt whenever it does not
fit. Snapshots are taken between hands only. What watchers see is made for each of them from the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, final

from runtime import (
    Delivery,
    Down,
    MailboxFull,
    Pid,
    Ref,
    Refuse,
    call,
    cancel_timer,
    demonitor,
    monitor,
    self_pid,
    send_after,
    send_nowait,
)

from .aside import Entity
from .hand import BadDeal, CheckOrCall, Deal, Fold, Hand, IllegalAction, deal_from, shuffle_deck
from .messages import (
    Act,
    Acted,
    CashOut,
    ChipsTaken,
    ClosePayout,
    Credit,
    HandDealt,
    HandEnded,
    Leave,
    Leaving,
    Left,
    Look,
    Moved,
    News,
    NextHand,
    Open,
    Opened,
    PaidOut,
    PayoutClosed,
    PlayHand,
    Progress,
    Seat,
    Seated,
    Stayed,
    TableConfig,
    TableProgress,
    TableState,
    TableView,
    TakeChips,
    Transfer,
    TurnOver,
    Unwatch,
    Watch,
    Where,
)
from .places import place
from .view import SeatView
from .wallet import key_of

TableEvent = (
    Opened | Seated | ChipsTaken | PaidOut | PayoutClosed | Leaving | Stayed | Left | HandDealt | Acted | HandEnded
)


async def watch(table: str, watcher: Pid, player: str | None) -> TableView:
    """Let `watcher` be sent a `News` on each change of a table; returns the view as it is now."""
    return (await call(place(table), Watch(watcher, player))).view


async def look(table: str, player: str | None = None) -> TableView:
    """The table as a player, or with None a spectator, may see it."""
    return await call(place(table), Look(player))


@final
@dataclass(slots=True)
class _Watcher:
    """Who is shown a table: as which player, the monitor of it, and how many news it was sent."""

    player: str | None
    ref: Ref
    told: int = 0


class Table(Entity[TableState, TableEvent]):
    """One table; its key is `table/NAME`, its arguments the key and a `TableConfig`.

    Without one it waits until it is told by the command `Open`. Who watches it and the clock of whose turn it is
    are not journalled: they go with it when its shard moves.
    """

    snapshot_every = 64

    def setup(self, config: TableConfig | None = None) -> None:
        self._given = config if config is not None else TableConfig(self.key.removeprefix("table/"), (0, 0), 0)
        self._hand: Hand | None = None
        self._hand_turn = -1
        self._watchers: dict[Pid, _Watcher] = {}
        self._turn_timer: Any = None
        self._pause_timer: Any = None
        # How often it has moved in this life.
        self._moves = 0

    def initial(self, key: str) -> TableState:
        return TableState((), None, (), 0, "", (), 0, None)

    def _config(self, state: TableState) -> TableConfig:
        return state.config or self._given

    # -- deciding ------------------------------------------------------------------------------------

    def handle(self, state: TableState, command: Any) -> Refuse | tuple[Any, Any]:
        match command:
            case Act(player, hand, action):
                return self._act(state, player, hand, action)
            case TakeChips(player, amount):
                return self._take_chips(state, player, amount)
            case CashOut(player, amount):
                return self._cash_out(state, player, amount)
            case Leave(player):
                return self._leave(state, player)
            case ClosePayout(number):
                if all(one.number != number for one in state.payouts):
                    return None, None
                return PayoutClosed(number), None
            case PlayHand(deal):
                return self._play_hand(state, deal)
            case NextHand(after):
                return self._next_hand(state, after)
            case TurnOver(hand, turn):
                return self._turn_over(state, hand, turn)
            case Open(config):
                return (Opened(config) if state.config is None else None), None
            case _:
                return Refuse(f"a table cannot do {type(command).__name__}")

    def _live(self, state: TableState) -> Hand:
        """PokerKit's state for the hand in play; rebuilt if the cache is of another moment."""
        assert state.hand is not None
        turn = len(state.actions)
        hand = self._hand
        if hand is None or hand.deal.hand != state.hand.hand or self._hand_turn != turn:
            hand = self._hand = Hand(state.hand, state.actions)
            self._hand_turn = turn
        return hand

    def _act(self, state: TableState, player: str, number: int, action: Any) -> Refuse | tuple[Any, Any]:
        if state.hand is None:
            return Refuse(f"no hand is being played at {self.key}: wait for the next one")
        if number != state.hand.hand:
            return Refuse(f"hand {number} is not being played: hand {state.hand.hand} is")
        hand = self._live(state)
        try:
            hand.act(player, action)
        except IllegalAction as error:
            return Refuse(f"{error.reason}: {error}")
        # The cache is one action ahead of the state until the commit; if that fails, it no longer fits.
        self._hand_turn = len(state.actions) + 1
        return self._after_action(state, hand, Acted(player, action)), self._hand_turn

    def _after_action(self, state: TableState, hand: Hand, acted: Acted) -> list[TableEvent]:
        events: list[TableEvent] = [acted]
        if hand.finished:
            result = hand.result()
            events.append(HandEnded(result))
            number = state.last_payout
            stacks = dict(zip(result.players, result.stacks, strict=True))
            for seat in self.apply(state, acted).seats:
                if seat.leaving or self._is_away(state, seat):
                    amount = seat.stack + stacks.get(seat.player, 0)
                    if amount:
                        number += 1
                        events.append(PaidOut(number, seat.player, amount))
                    events.append(Left(seat.player))
        return events

    def _is_away(self, state: TableState, seat: Seat) -> bool:
        """Whether the hand that ends now is one too many that the player of a seat has missed."""
        most = self._config(state).away_hands
        return 0 < most <= seat.missed + 1 and seat.present is False

    def _take_chips(self, state: TableState, player: str, amount: int) -> Refuse | tuple[Any, Any]:
        if type(amount) is not int or amount < 1:
            return Refuse(f"chips are a whole number of hundredths above 0, got {amount!r}")
        seat = _seat(state, player)
        if seat is not None:
            taken = ChipsTaken(player, amount)
            return [Stayed(player), taken] if seat.leaving else taken, seat.stack + amount
        seats = self._config(state).seats
        if len(state.seats) >= seats:
            full = f"is full: all {seats} seats are taken" if seats else "is not open"
            return Refuse(f"{self.key} {full}")
        return [Seated(player), ChipsTaken(player, amount)], amount

    def _cash_out(self, state: TableState, player: str, amount: int) -> Refuse | tuple[Any, Any]:
        seat = _seat(state, player)
        if seat is None:
            return Refuse(f"{player!r} has no seat at {self.key}")
        if state.hand is not None and player in state.hand.players:
            return Refuse(f"{player!r} is in a hand: chips leave the table between hands only")
        if type(amount) is not int or not 1 <= amount <= seat.stack:
            return Refuse(f"{player!r} has {seat.stack} hundredths here and asked for {amount!r}")
        number = state.last_payout + 1
        return PaidOut(number, player, amount), number

    def _leave(self, state: TableState, player: str) -> Refuse | tuple[Any, Any]:
        seat = _seat(state, player)
        if seat is None:
            return Refuse(f"{player!r} has no seat at {self.key}")
        if state.hand is not None and player in state.hand.players:
            return (None if seat.leaving else Leaving(player)), None
        events: list[TableEvent] = []
        if seat.stack:
            events.append(PaidOut(state.last_payout + 1, player, seat.stack))
        return [*events, Left(player)], None

    def _play_hand(self, state: TableState, deal: Deal) -> Refuse | tuple[Any, Any]:
        if state.hand is not None:
            return Refuse(f"hand {state.hand.hand} is being played")
        for player, stack in zip(deal.players, deal.stacks, strict=True):
            seat = _seat(state, player)
            if seat is None or seat.stack != stack:
                here = "no seat" if seat is None else str(seat.stack)
                return Refuse(f"{player!r} has {here} here, hand {deal.hand} wants {stack}")
        return self._deal(deal)

    def _next_hand(self, state: TableState, after: int) -> Refuse | tuple[Any, Any]:
        if state.hand is not None or state.hands != after:
            return Refuse("not now")
        ready = [seat for seat in state.seats if seat.stack > 0 and not seat.leaving]
        if len(ready) < 2:
            return Refuse("a hand needs two players with chips")
        names = [seat.player for seat in state.seats]
        # The button moves to the next seat that plays, counted from where it was.
        start = names.index(state.button) + 1 if state.button in names else 0
        order = [*names[start:], *names[:start]]
        playing = {seat.player: seat.stack for seat in ready}
        ring = [name for name in order if name in playing]
        # The first of the ring has the button now; between two players it posts the small blind too.
        players = (*ring[1:], ring[0]) if len(ring) > 2 else tuple(ring)
        deck = shuffle_deck(self.world.random)
        stacks = tuple(playing[name] for name in players)
        return self._deal(deal_from(deck, state.hands + 1, players, stacks, self._config(state).blinds))

    def _deal(self, deal: Deal) -> Refuse | tuple[Any, Any]:
        try:
            hand = Hand(deal)
        except BadDeal as error:
            return Refuse(str(error))
        self._hand, self._hand_turn = hand, 0
        events: list[TableEvent] = [HandDealt(deal)]
        if hand.finished:  # the blinds have put everyone all-in
            events.append(HandEnded(hand.result()))
        return events, deal.hand

    def _turn_over(self, state: TableState, number: int, turn: int) -> Refuse | tuple[Any, Any]:
        if state.hand is None or state.hand.hand != number or len(state.actions) != turn:
            return Refuse("they have acted")
        hand = self._live(state)
        legal = hand.legal()
        assert legal is not None, "a hand in play waits for somebody"
        action = Fold() if legal.may_fold else CheckOrCall()
        hand.act(legal.player, action)
        self._hand_turn = turn + 1
        return self._after_action(state, hand, Acted(legal.player, action, timed_out=True)), turn + 1

    # -- what happened -------------------------------------------------------------------------------

    def apply(self, state: TableState, event: TableEvent) -> TableState:
        match event:
            case Acted(player, action, timed_out):
                return replace(_with_turn(state, player, not timed_out), actions=(*state.actions, action))
            case Opened(config):
                return replace(state, config=config)
            case Seated(player):
                return replace(state, seats=(*state.seats, Seat(player, 0)))
            case ChipsTaken(player, amount):
                return _with_stack(state, player, amount)
            case PaidOut(number, player, amount):
                paid = _with_stack(state, player, -amount)
                transfer = Transfer(number, key_of(player), player, amount)
                return replace(paid, payouts=(*state.payouts, transfer), last_payout=number)
            case PayoutClosed(number):
                return replace(state, payouts=tuple(one for one in state.payouts if one.number != number))
            case Leaving(player):
                return _with_seat(state, player, lambda seat: replace(seat, leaving=True))
            case Stayed(player):
                return _with_seat(state, player, lambda seat: replace(seat, leaving=False, missed=0, present=True))
            case Left(player):
                return replace(state, seats=tuple(s for s in state.seats if s.player != player))
            case HandDealt(deal):
                dealt = dict(zip(deal.players, deal.stacks, strict=True))
                seats = tuple(
                    replace(s, stack=s.stack - dealt[s.player]) if s.player in dealt else s for s in state.seats
                )
                return replace(state, seats=seats, hand=deal, actions=(), button=deal.button)
            case HandEnded(result):
                back = dict(zip(result.players, result.stacks, strict=True))
                seats = tuple(_after_hand(s, back.get(s.player, 0)) for s in state.seats)
                return replace(state, seats=seats, hand=None, actions=(), hands=state.hands + 1, result=result)

    def pending(self, state: TableState) -> Iterable[Delivery]:
        for one in state.payouts:
            yield Delivery(one.number, place(one.to), Credit(one.amount), settled=ClosePayout(one.number))

    def upcast(self, name: str, version: int, fields: tuple[Any, ...]) -> object:
        match name, version:
            case "table.state", 1:
                return TableState(*fields)
            case "table.seat", 1:
                return Seat(*fields)
        return super().upcast(name, version, fields)

    def snapshot_now(self, state: TableState, since: int) -> bool:
        return state.hand is None and since >= self.snapshot_every

    # -- after the commit ----------------------------------------------------------------------------

    def recovered(self, state: TableState) -> None:
        self._set_timers(state)

    def committed(self, state: TableState, events: tuple[TableEvent, ...]) -> None:
        self._set_timers(state)
        self._tell_watchers(state)

    def _set_timers(self, state: TableState) -> None:
        if self._turn_timer is not None:
            cancel_timer(self._turn_timer)
            self._turn_timer = None
        me, config = self_pid(), self._config(state)
        if state.hand is not None:
            # Nobody waits for whoever has left.
            gone = any(seat.leaving for seat in state.seats) and self._is_leaving(state)
            if gone or config.turn_seconds > 0:
                over = TurnOver(state.hand.hand, len(state.actions))
                self._turn_timer = send_after(0.0 if gone else config.turn_seconds, me, over)
        elif config.pause_seconds >= 0 and sum(1 for seat in state.seats if seat.stack) >= 2:
            if self._pause_timer is not None:
                cancel_timer(self._pause_timer)
            self._pause_timer = send_after(config.pause_seconds, me, NextHand(state.hands))

    def _is_leaving(self, state: TableState) -> bool:
        """Whether the player to act has given up the seat."""
        actor = self._live(state).actor
        return any(seat.leaving and seat.player == actor for seat in state.seats)

    def _tell_watchers(self, state: TableState) -> None:
        for pid, watcher in list(self._watchers.items()):
            try:
                send_nowait(pid, News(self._view(state, watcher.player), watcher.told + 1))
            except MailboxFull:
                # Too slow to be told: it looks again when it has caught up.
                demonitor(watcher.ref, flush=True)
                del self._watchers[pid]
            else:
                watcher.told += 1

    def hand_over(self) -> object:
        """When its shard moves: who watches, and the clocks, which go on from where they are."""
        watchers = tuple((pid, one.player, one.ref, one.told) for pid, one in self._watchers.items())
        return watchers, self._turn_timer, self._pause_timer, self._moves

    def take_over(self, value: Any) -> None:
        """The other end of that, on the new node: the watchers' monitors and the timers are already ours."""
        watchers, self._turn_timer, self._pause_timer, moves = value
        self._watchers = {pid: _Watcher(player, ref, told) for pid, player, ref, told in watchers}
        self._moves = moves + 1
        for pid in self._watchers:
            try:
                send_nowait(pid, Moved(self.key, self_pid(), self._moves))
            except MailboxFull:
                pass  # our former process stands in for us

    def unexpected(self, state: TableState, message: object) -> None:
        match message:
            case Down(monitored=pid) if isinstance(pid, Pid):
                self._watchers.pop(pid, None)
            case _:
                super().unexpected(state, message)

    # -- what others see -----------------------------------------------------------------------------

    def query(self, state: TableState, request: Any) -> Any:
        match request:
            case Watch(pid, player):
                watcher = self._watchers.get(pid)
                if watcher is None:
                    watcher = self._watchers[pid] = _Watcher(player, monitor(pid))
                return News(self._view(state, player), watcher.told)
            case Unwatch(pid):
                watcher = self._watchers.pop(pid, None)
                if watcher is not None:
                    demonitor(watcher.ref, flush=True)
                return None
            case Where():
                return self_pid()
            case Look(player):
                return self._view(state, player)
            case Progress():
                return TableProgress(
                    state.hands,
                    tuple((seat.player, seat.stack) for seat in state.seats),
                    state.hand.hand if state.hand is not None else None,
                    len(state.actions),
                    state.result,
                    len(state.payouts),
                )
            case _:
                return super().query(state, request)

    def describe(self, state: TableState) -> str:
        if state.hand is None:
            return f"{state.hands} hands played"
        return f"hand {state.hand.hand}, {len(state.actions)} actions"

    def _view(self, state: TableState, player: str | None) -> TableView:
        if state.hand is None:
            seats = tuple(SeatView(seat.player, seat.stack, 0, False, False, "") for seat in state.seats)
            return TableView(
                self.key,
                self.sequence,
                player,
                self._config(state).blinds,
                None,
                "",
                (),
                0,
                None,
                None,
                state.button,
                seats,
                state.result,
            )
        view = self._live(state).view(player)
        in_hand = {seat.player: seat for seat in view.seats}
        seats = tuple(
            replace(there, stack=there.stack + seat.stack, leaving=seat.leaving)
            if (there := in_hand.get(seat.player)) is not None
            else SeatView(seat.player, seat.stack, 0, False, False, "", waiting=True)
            for seat in state.seats
        )
        return TableView(
            self.key,
            self.sequence,
            player,
            self._config(state).blinds,
            view.hand,
            view.street,
            view.board,
            view.pot,
            view.actor,
            view.legal,
            state.button,
            seats,
            state.result,
        )


def _seat(state: TableState, player: str) -> Seat | None:
    for seat in state.seats:
        if seat.player == player:
            return seat
    return None


def _with_seat(state: TableState, player: str, change: Callable[[Seat], Seat]) -> TableState:
    return replace(state, seats=tuple(change(seat) if seat.player == player else seat for seat in state.seats))


def _with_turn(state: TableState, player: str, present: bool) -> TableState:
    """Note who took a player's turn: the player, or the clock. One turn of their own is enough for a hand."""
    seat = _seat(state, player)
    if seat is None or seat.present in (True, present):
        return state
    return _with_seat(state, player, lambda seat: replace(seat, present=present))


def _after_hand(seat: Seat, back: int) -> Seat:
    missed = seat.missed if seat.present is None else 0 if seat.present else seat.missed + 1
    return replace(seat, stack=seat.stack + back, missed=missed, present=None)


def _with_stack(state: TableState, player: str, change: int) -> TableState:
    return _with_seat(state, player, lambda seat: replace(seat, stack=seat.stack + change))
