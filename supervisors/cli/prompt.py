"""Typing lines with history, completion and several lines at once, by prompt_toolkit (the extra `[repl]`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from runtime.observe.client import AdminClient
from runtime.observe.protocol import Complete, Refusal
from runtime.observe.source import needs_more

# Seconds for which a keypress may wait for the node.
PATIENCE = 0.5


@final
class Prompt:
    """Reads lines at a terminal; the node says how they may go on."""

    def __init__(self, client: AdminClient, *, multiline: bool) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=history(),
            completer=NodeCompleter(client),
            complete_while_typing=False,
            multiline=multiline,
            key_bindings=_keys() if multiline else None,
            prompt_continuation=_continuation,
        )

    def read(self, prompt: str) -> str:
        """What was typed, several lines if they belong together."""
        return self._session.prompt(prompt)


@final
class NodeCompleter(Completer):
    """Asks the node; without an answer in time there is nothing to offer."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The ways in which the text before the cursor may go on."""
        text = document.current_line_before_cursor
        try:
            said = self._client.request(Complete(text=text), timeout=PATIENCE)
        except Refusal:
            return
        for match in said["matches"]:
            yield Completion(match, start_position=said["start"] - len(text))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        """Run what is whole; go on below what is not."""
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and not needs_more(buffer.text):
            buffer.validate_and_handle()
            return
        before = buffer.document.current_line_before_cursor
        indent = before[: len(before) - len(before.lstrip())]
        if before.rstrip().endswith(":"):
            indent += "    "
        buffer.insert_text("\n" + (indent if before.strip() else ""))

    @keys.add("tab")
    def tab(event: KeyPressEvent) -> None:
        """Indent at the beginning of a line, else complete."""
        buffer = event.current_buffer
        if not buffer.document.current_line_before_cursor.strip():
            buffer.insert_text("    ")
        else:
            buffer.start_completion(insert_common_part=True)

    return keys


def _continuation(width: int, _line: int, is_soft_wrap: int) -> AnyFormattedText:
    return " " * width if is_soft_wrap else "." * max(0, width - 2) + "> "


def history() -> History:
    """The lines of earlier sessions, in the user's state directory; where it cannot be written, none."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(base if base.startswith("/") else Path.home() / ".local" / "state") / "banyan"
    path = folder / "remsh_history"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What was typed may hold secrets: nobody else reads it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
