"""What a player's client may send to the card room's gateway: one struct for each `op`. Pure.

docs/gateway.md says the same for people. Amounts are whole hundredths of a chip.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

from runtime.edge import frames

from .action import Action, CheckOrCall, Fold, RaiseTo

Id: TypeAlias = Annotated[int, Meta(ge=1, le=frames.MOST)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Amount: TypeAlias = Annotated[int, Meta(ge=1, le=frames.MOST)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1024)]

# -- the first frame -----------------------------------------------------------------------------------


class First(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """The base of what opens a session."""


class Login(First, frozen=True, tag="login"):
    """Begin a session; one that the player had is displaced."""

    token: Text

    def __repr__(self) -> str:
        return "Login(token=<redacted>)"


class Resume(First, frozen=True, tag="resume"):
    """Go on with a session. `after` is the last `seq` that the client has read."""

    token: Text
    after: Annotated[int, Meta(ge=0, le=frames.MOST)]

    def __repr__(self) -> str:
        return f"Resume(token=<redacted>, after={self.after})"


# -- the frames after it -------------------------------------------------------------------------------


class Later(msgspec.Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """The base of what is sent in a session. A command has an id, which rises; it may be sent again."""

    command: ClassVar[bool] = False


class ShowLobby(Later, frozen=True, tag="lobby"):
    """The tables, in the order of their names, from the one after `after` on."""

    id: Id | None = None
    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class WatchTable(Later, frozen=True, tag="watch"):
    """Be pushed a table as an absolute, then each change as a delta."""

    table: Name
    id: Id | None = None


class UnwatchTable(Later, frozen=True, tag="unwatch"):
    """Be pushed no more of a table."""

    table: Name
    id: Id | None = None


class ShowBalance(Later, frozen=True, tag="balance"):
    """What is in the player's wallet."""

    id: Id | None = None


class Sit(Later, frozen=True, tag="sit"):
    """Take `amount` from the wallet to a seat at a table: a free one, or the player's own."""

    command: ClassVar[bool] = True

    id: Id
    table: Name
    amount: Amount


class TakeTurn(Later, frozen=True, tag="act"):
    """Act in a hand. `to` goes with a raise, and with nothing else."""

    command: ClassVar[bool] = True

    id: Id
    table: Name
    hand: Annotated[int, Meta(ge=0, le=frames.MOST)]
    action: Literal["fold", "call", "raise"]
    to: Amount | None = None

    def chosen(self) -> Action:
        """The action that is meant; raises frames.Refusal if it makes no sense."""
        if (self.action == "raise") != (self.to is not None):
            raise frames.Refusal(
                "bad_frame", "wanted an amount `to` with a raise, and only there", id=self.id, strike=True
            )
        match self.action:
            case "fold":
                return Fold()
            case "call":
                return CheckOrCall()
            case "raise":
                assert self.to is not None
                return RaiseTo(self.to)


class LeaveTable(Later, frozen=True, tag="leave"):
    """Give up a seat, now or after the hand; without `table` the only one that is seen to be taken."""

    command: ClassVar[bool] = True

    id: Id
    table: Name | None = None


AnyFirst: TypeAlias = Login | Resume
AnyLater: TypeAlias = ShowLobby | WatchTable | UnwatchTable | ShowBalance | Sit | TakeTurn | LeaveTable

first = msgspec.json.Decoder(AnyFirst)
later = msgspec.json.Decoder(AnyLater)
