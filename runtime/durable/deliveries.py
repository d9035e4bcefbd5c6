"""Deliveries: what one durable process still owes another, as a function of its state.

A process that has, say, debited a wallet owes somebody a credit until that somebody has acknowledged it.
`pending(state)` names all that is owed; this machine sends it, in order per destination, again and again
until the answer comes, and then has the process journal that the debt is settled. Nothing about it is
stored apart: after a crash `pending` of the recovered state says again what is owed, and the receiver's
table of numbered commands makes sure that what had arrived is not applied twice.

Pure: it decides what to send when; the behaviour sends. Source: transactional outbox; Akka's reliable
delivery.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast, final

from ..kernel.ids import Name

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 1.0


@final
@dataclass(frozen=True, slots=True)
class Delivery:
    """A command owed to another durable process.

    Args:
        number: unique in this process and rising; it numbers the command at the receiver.
        destination: the receiver's registered name, or a Via, such as an entity of a region.
        command: what it is to do.
        settled: this process's own command once the receiver has done it.
        refused: this process's own command if the receiver says no, made with the reason by
            `dataclasses.replace` on its field `reason`; None: a refusal is an error of the program and
            the delivery is tried again.
    """

    number: int
    destination: Name
    command: object
    settled: object
    refused: object | None = None

    def after(self, refused: str | None) -> object | None:
        """This process's own command when the receiver has done it, or has `refused` it; None: it is tried again."""
        if refused is None or self.refused is None:
            return self.settled if refused is None else None
        return cast("object", replace(cast("Any", self.refused), reason=refused))


@final
@dataclass(frozen=True, slots=True)
class Sent:
    """The label of a delivery's request."""

    destination: Name
    number: int


@final
@dataclass(frozen=True, slots=True)
class SendAgain:
    """The message that says that the pause after a failed delivery is over."""

    destination: Name


@final
@dataclass(slots=True)
class _Flight:
    delivery: Delivery
    failures: int = 0
    under_way: bool = False


@final
class Outbox:
    """Which deliveries are under way: at most one per destination, the oldest first."""

    def __init__(self) -> None:
        self._heads: dict[Name, _Flight] = {}

    def due(self, pending: Iterable[Delivery]) -> list[Delivery]:
        """What to send now, given all that is owed; marks it as under way."""
        oldest: dict[Name, Delivery] = {}
        for delivery in pending:
            first = oldest.get(delivery.destination)
            if first is None or delivery.number < first.number:
                oldest[delivery.destination] = delivery
        for destination in [name for name in self._heads if name not in oldest]:
            del self._heads[destination]
        send: list[Delivery] = []
        for destination, delivery in oldest.items():
            flight = self._heads.get(destination)
            if flight is None or flight.delivery.number != delivery.number:
                flight = self._heads[destination] = _Flight(delivery)
            if not flight.under_way:
                flight.under_way = True
                send.append(delivery)
        return send

    def head(self, destination: Name, number: int) -> Delivery | None:
        """The delivery with this number, if it is the one under way."""
        flight = self._heads.get(destination)
        return flight.delivery if flight is not None and flight.delivery.number == number else None

    def arrived(self, destination: Name) -> None:
        """The receiver has answered what was under way."""
        del self._heads[destination]

    def failed(self, destination: Name, number: int) -> float | None:
        """No answer: the seconds to wait before `again`, or None if it is no longer owed."""
        flight = self._heads.get(destination)
        if flight is None or flight.delivery.number != number:
            return None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**flight.failures)
        flight.failures = min(flight.failures + 1, 16)
        return pause

    def again(self, destination: Name) -> None:
        """The pause is over: `due` may send it again."""
        flight = self._heads.get(destination)
        if flight is not None:
            flight.under_way = False
