"""The news of a watched table in the order of their making, though two nodes may have sent them. Pure.

A table numbers what it tells a watcher, and the count goes with it when its shard moves. What the new node sends may
overtake what the former one has sent: it is kept back until that is there. News is the whole view, so that a watcher
who has waited long enough for what a dead node has taken along lacks a picture, and nothing else.
"""

from __future__ import annotations

from typing import Final, final

from .messages import TableView

# News that is kept back; with more than that the rest is no longer waited for.
MOST: Final = 64


@final
class InOrder:
    """What one watcher is told of one table, from the answer to its `Watch` on.

    Each method returns the views that are to be shown now, in order.
    """

    __slots__ = ("_held", "_last", "_shown")

    def __init__(self) -> None:
        # Invariant: all up to `_last` were shown, or never will be; None: where the count stands is not known yet.
        self._last: int | None = None
        self._shown = 0
        # Invariant: numbers above `_last` + 1.
        self._held: dict[int, TableView] = {}

    @property
    def last(self) -> int:
        """The number up to which all is shown; -1 before the first answer."""
        return self._last if self._last is not None else -1

    @property
    def lacking(self) -> bool:
        """Whether something is kept back because one before it is not there."""
        return bool(self._held)

    def told(self, number: int, view: TableView) -> list[TableView]:
        """News has come."""
        if self._last is not None and number <= self._last:
            return []
        self._held[number] = view
        return self._next() if len(self._held) <= MOST else self._skip()

    def asked(self, number: int, view: TableView) -> list[TableView]:
        """The table was asked, and is like this after the news with this number."""
        if self._last is None or number < self._last:
            if view.sequence < self._shown:
                return []  # overtaken by what has happened since
            # We are a new watcher to it: it counts from here.
            first, self._last = self._last is None, number
            self._held = {later: one for later, one in self._held.items() if first and later > number}
            return self._now(view) + self._next()
        if number == self._last:
            return self._now(view)
        # What lies between is on its way, or lost.
        self._held.setdefault(number, view)
        return self._next()

    def overdue(self, number: int) -> list[TableView]:
        """What lacked when `last` was this number is waited for no longer."""
        return self._skip() if number == self.last else []

    def _now(self, view: TableView) -> list[TableView]:
        self._shown = max(self._shown, view.sequence)
        return [view]

    def _next(self) -> list[TableView]:
        """What follows without a gap."""
        views: list[TableView] = []
        while self._last is not None and self._last + 1 in self._held:
            self._last += 1
            views += self._now(self._held.pop(self._last))
        return views

    def _skip(self) -> list[TableView]:
        """All that is kept back, without what lacks."""
        views: list[TableView] = []
        for number in sorted(self._held):
            self._last = number
            views += self._now(self._held.pop(number))
        return views
