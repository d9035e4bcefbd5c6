"""How `banyan play` shows a table: plain lines, or on a terminal with colours and a picture of the seats."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runtime.errors import BanyanError

from .action import chips
from .play_words import View, offer, seat_parts, seats


class Unseen(BanyanError):
    """Nobody reads any more what is shown."""


@contextmanager
def _seen() -> Iterator[None]:
    # By a name of its own, since to whoever shows what comes over a socket an OSError is the socket's.
    try:
        yield
    except OSError as error:
        raise Unseen(str(error)) from error


class Screen:
    """Plain lines on stdout; for pipes, and for terminals without rich. Its methods raise Unseen."""

    def say(self, line: str) -> None:
        """Something that happened."""
        with _seen():
            print(line, flush=True)

    def complain(self, line: str) -> None:
        """Something that the player cannot do, or that went wrong."""
        self.say(f"! {line}")

    def ask(self, view: View, player: str) -> None:
        """It is the player's turn."""
        board = " ".join(view["board"]) or "no board yet"
        self.say(f"{view['street']}: {board}, pot {chips(view['pot'])}")
        for line in seats(view, player):
            self.say(f"  {line}")
        self.say(offer(view, player) or "")

    def prompt(self) -> None:
        """The player may type."""

    def typed(self) -> None:
        """The player has typed a line."""


class ColourScreen(Screen):
    """For a terminal: red suits are red, the player's own lines are bold, a table at each turn."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        # Whether the cursor stands behind a prompt.
        self._prompted = False

    def say(self, line: str) -> None:
        self._print(self._text(line))

    def complain(self, line: str) -> None:
        self._print(line, style="yellow", markup=False)

    def ask(self, view: View, player: str) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        title = Text.assemble(f"{view['street']}  ", self._cards(view["board"]), f"  pot {chips(view['pot'])}")
        table = Table(box=box.ROUNDED, title=title, title_style="bold", show_header=False, title_justify="left")
        for justify in ("left", "right", "right", "left", "left"):
            table.add_column(justify=justify)
        for seat in view["seats"]:
            name, stack, bet, state, cards = seat_parts(seat, view, player)
            style = "bold" if seat["player"] == player else "dim" if seat["folded"] or seat["waiting"] else ""
            # A name is text, whatever it looks like to rich.
            table.add_row(Text(name), stack, bet, state, self._cards(cards.split()), style=style)
        self._print(table)
        self._print(offer(view, player) or "", style="bold green")

    def prompt(self) -> None:
        self._print("> ", end="")
        self._prompted = True

    def typed(self) -> None:
        self._prompted = False

    def _print(self, what: Any, **how: Any) -> None:
        with _seen():
            if self._prompted:
                self._console.print()
                self._prompted = False
            self._console.print(what, **how)

    def _cards(self, cards: list[str]) -> Any:
        from rich.text import Text

        shown = Text()
        for card in cards:
            shown.append(card[0] + self._suit(card[1]), style="red" if card[1] in "dh" else "")
            shown.append(" ")
        shown.rstrip()
        return shown

    def _suit(self, suit: str) -> str:
        return {"c": "♣", "d": "♦", "h": "♥", "s": "♠"}[suit] if self._console.encoding == "utf-8" else suit

    def _text(self, line: str) -> Any:
        """A line with its cards in colour."""
        from rich.text import Text

        text = Text()
        for index, word in enumerate(line.split(" ")):
            text.append(" " if index else "")
            bare = word.rstrip(",")
            if len(bare) == 2 and bare[0] in "23456789TJQKA" and bare[1] in "cdhs":
                text.append_text(self._cards([bare]))
                text.append(word[2:])
            else:
                text.append(word)
        if line.startswith(("hand ", "you ")):
            text.stylize("bold")
        return text


def screen() -> Screen:
    """The screen that fits this process's stdout."""
    if not sys.stdout.isatty():
        return Screen()
    try:
        return ColourScreen()
    except ModuleNotFoundError:  # rich belongs to the extra [repl]
        return Screen()
