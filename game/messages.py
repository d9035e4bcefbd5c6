"""The card room's records: what its processes are asked, what they journal, and what they remember.

Commands ask and may be refused; events say what happened and may not. Amounts are whole hundredths of a
chip. Who has an event that names cards keeps them out of its repr (see `deal.Deal`).
"""

from __future__ import annotations

from runtime import Call, Pid, Query, message

from .action import Action, Legal
from .deal import Deal
from .view import Result, SeatView

# -- the wallet: commands ------------------------------------------------------------------------------


@message("wallet.grant")
class Grant(Call[int]):
    """Give `amount` to the player, from the house. The reply is the new balance."""

    amount: int


@message("wallet.buy_in")
class BuyIn(Call[int]):
    """Send `amount` to the player's seat at a table. The reply is the transfer's number.

    Refused: an amount below 1, or more than the wallet holds.
    """

    table: str
    amount: int


@message("wallet.credit")
class Credit(Call[int]):
    """A table pays `amount` out. The reply is the new balance."""

    amount: int


@message("wallet.close_transfer")
class CloseTransfer(Call[None]):
    """The table has acknowledged transfer `number`."""

    number: int


@message("wallet.return_transfer")
class ReturnTransfer(Call[None]):
    """The table refused transfer `number`: take the chips back."""

    number: int
    reason: str = ""


@message("wallet.balance")
class Balance(Query[int]):
    """What the wallet holds, in hundredths."""


@message("wallet.under_way")
class UnderWay(Query[bool]):
    """Whether transfer `number` has neither arrived nor come back yet."""

    number: int


# -- the wallet: events and state ----------------------------------------------------------------------


@message("wallet.granted")
class Granted:
    amount: int


@message("wallet.debited")
class Debited:
    number: int
    table: str
    amount: int


@message("wallet.credited")
class Credited:
    amount: int


@message("wallet.transfer_closed")
class TransferClosed:
    number: int


@message("wallet.transfer_returned")
class TransferReturned:
    number: int
    reason: str


@message("wallet.transfer")
class Transfer:
    """Chips that have left one place and are not acknowledged by the other yet."""

    number: int
    to: str
    player: str
    amount: int


@message("wallet.state")
class WalletState:
    """`granted` is the sum of all grants; `open` are transfers that are under way."""

    player: str
    balance: int
    granted: int
    last_transfer: int
    open: tuple[Transfer, ...]


# -- the table: commands -------------------------------------------------------------------------------


@message("table.config", version=2)
class TableConfig:
    """How a table is played.

    Attributes:
        name: its key without the `table/`.
        blinds: small and big blind, in hundredths.
        seats: how many may sit, 2 to 10.
        turn_seconds: how long a player may think; then the table checks or folds. 0: no limit.
        pause_seconds: how long the table waits between hands; below 0: it deals only when told to.
        away_hands: after how many hands in a row in which a player missed every turn the seat is given up;
            0: never.
    """

    name: str
    blinds: tuple[int, int] = (5_000, 10_000)
    seats: int = 6
    turn_seconds: float = 20.0
    pause_seconds: float = -1.0
    away_hands: int = 3

    @property
    def key(self) -> str:
        return f"table/{self.name}"


@message("table.take_chips")
class TakeChips(Call[int]):
    """A wallet's transfer arrives: chips for the player's seat, a free one if there is none yet.

    A seat that its player is leaving is kept. The reply is the seat's stack. Refused: the table is full.
    """

    player: str
    amount: int


@message("table.cash_out")
class CashOut(Call[int]):
    """Send `amount` of a seat's chips back to the player's wallet. The reply is the transfer's number.

    Refused: nobody of that name sits here, the player is in a hand, or has less.
    """

    player: str
    amount: int


@message("table.open")
class Open(Call[None]):
    """Play as `config` says, for good: it is told to a table that was started without one, as an entity is.

    Until then nobody is seated. A table that was told before stays as it is.
    """

    config: TableConfig


@message("table.leave")
class Leave(Call[None]):
    """Give up the seat, now or after the hand; all its chips go back to the wallet."""

    player: str


@message("table.close_payout")
class ClosePayout(Call[None]):
    """The wallet has acknowledged payout `number`."""

    number: int


@message("table.play_hand")
class PlayHand(Call[int]):
    """Deal this very hand, as a recorded game has it. Refused unless all stacks are as the deal says."""

    deal: Deal


@message("table.next_hand")
class NextHand:
    """The pause after hand `after` is over: shuffle and deal, if two players have chips."""

    after: int


@message("table.act")
class Act(Call[int]):
    """A player acts in hand `hand`. The reply is how many actions the hand has now."""

    player: str
    hand: int
    action: Action


@message("table.turn_over")
class TurnOver:
    """Whoever was to take action number `turn` of hand `hand` has thought long enough."""

    hand: int
    turn: int


@message("table.watch")
class Watch(Query["News"]):
    """Be sent a `News` on every change, as `player` may see it; None watches from the rail.

    The reply is the view now, under the number of the last one that was sent. Ends when `watcher` does, or falls
    10,000 messages behind.
    """

    watcher: Pid
    player: str | None


@message("table.unwatch")
class Unwatch(Query[None]):
    """Send `watcher` no more news."""

    watcher: Pid


@message("table.where")
class Where(Query[Pid]):
    """The table's process as it is now: one that is an entity can be monitored by its pid only."""


@message("table.look")
class Look(Query["TableView"]):
    """The table as `player` may see it now."""

    player: str | None


@message("table.progress")
class Progress(Query["TableProgress"]):
    """How far the table is: for whoever drives recorded hands."""


# -- the table: events and state -----------------------------------------------------------------------


@message("table.opened")
class Opened:
    config: TableConfig


@message("table.seated")
class Seated:
    player: str


@message("table.chips_taken")
class ChipsTaken:
    player: str
    amount: int


@message("table.paid_out")
class PaidOut:
    number: int
    player: str
    amount: int


@message("table.payout_closed")
class PayoutClosed:
    number: int


@message("table.leaving")
class Leaving:
    player: str


@message("table.stayed")
class Stayed:
    """Who was leaving is not any more."""

    player: str


@message("table.left")
class Left:
    player: str


@message("table.hand_dealt")
class HandDealt:
    """A hand has begun. Its repr names no card: `Deal` sees to that."""

    deal: Deal


@message("table.acted")
class Acted:
    player: str
    action: Action
    timed_out: bool = False


@message("table.hand_ended")
class HandEnded:
    result: Result


@message("table.seat", version=2)
class Seat:
    """One player's seat.

    Attributes:
        stack: chips on the seat that are in no hand; what the seat has in the hand is in the deal.
        leaving: whether it is given up when the hand ends.
        missed: hands in a row in which the clock took every turn of the player's.
        present: whether the player has taken a turn of this hand; None before their first.
    """

    player: str
    stack: int
    leaving: bool = False
    missed: int = 0
    present: bool | None = None


@message("table.state", version=2)
class TableState:
    """`hand` and `actions` are the hand in play; `result` is the last one that ended.

    `config` is how the table is played, if it was opened by a command; else its start has said so.
    """

    seats: tuple[Seat, ...]
    hand: Deal | None
    actions: tuple[Action, ...]
    hands: int
    button: str
    payouts: tuple[Transfer, ...]
    last_payout: int
    result: Result | None
    config: TableConfig | None = None


@message("table.progress_made")
class TableProgress:
    """`hands` have ended; `stacks` are the seats' chips; `hand` is the number of the one in play, or None."""

    hands: int
    stacks: tuple[tuple[str, int], ...]
    hand: int | None
    actions: int
    result: Result | None
    open_payouts: int


@message("table.view")
class TableView:
    """A table as one viewer may see it. `sequence` rises with every change."""

    table: str
    sequence: int
    viewer: str | None
    blinds: tuple[int, int]
    hand: int | None
    street: str
    board: tuple[str, ...]
    pot: int
    actor: str | None
    legal: Legal | None
    button: str
    seats: tuple[SeatView, ...]
    result: Result | None


@message("table.news")
class News:
    """To a watcher: the table has changed, and looks like this to you now.

    `number` counts those that this watcher was sent, from 1: while a table moves they come from two nodes, and the
    later may be there first.
    """

    view: TableView
    number: int


@message("table.moved")
class Moved:
    """To a watcher: the table runs as this process now, on another node; `times` is how often it has moved.

    It is watched as before, and so is its former process in its place: nothing needs to be asked anew.
    """

    table: str
    process: Pid
    times: int


# -- the lobby -----------------------------------------------------------------------------------------


@message("lobby.set_aside")
class TellSetAside(Query[Pid]):
    """The entity `key` is set aside, which `pid` stands in for as long as it lives. The reply: the lobby's own pid."""

    key: str
    why: str
    pid: Pid


@message("lobby.open_table")
class OpenTable(Call[str]):
    """Open a table, for good. The reply is its key. Refused: another table has the name."""

    config: TableConfig


@message("lobby.join")
class Join(Call[bool]):
    """A player comes to the room: there is a wallet for them from now on. The reply: whether they are new."""

    player: str


@message("lobby.tables")
class Tables(Query[tuple[TableConfig, ...]]):
    """All tables."""


@message("lobby.damaged_entities")
class DamagedEntities(Query[tuple[tuple[str, str], ...]]):
    """The keys of the tables and wallets that are set aside, and why."""


@message("lobby.table_opened")
class TableOpened:
    config: TableConfig


@message("lobby.joined")
class Joined:
    player: str


@message("lobby.state")
class LobbyState:
    tables: tuple[TableConfig, ...]
    players: tuple[str, ...]
