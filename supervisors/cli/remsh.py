"""`banyan remsh`: type lines that run inside a running node.

At a terminal it has history, completion and multi-line input (with the extra `[repl]`); otherwise it reads
its lines from stdin, prints what they give, and ends with 1 if one of them failed and 5 if one was refused.
Ctrl-C interrupts the line that runs, never the node. A node that was started without --allow-eval answers
the words that look, such as `tree`, `ps` and `state NAME`.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol, final

from runtime.observe import text
from runtime.observe.client import AdminClient
from runtime.observe.protocol import (
    At,
    Crashes,
    Doctor,
    Eval,
    Info,
    Log,
    Mailbox,
    Ps,
    Refusal,
    Request,
    Stack,
    State,
    Tree,
)
from runtime.observe.source import needs_more

from .failure import Exit, report
from .main import is_tty
from .show import clock
from .target import add_target, connect

WORDS = """\
tree  tree NAME     the supervision tree, or the part below a supervisor
ps  top             the processes, those with the longest mailboxes first
info  info NAME     the node, or one process
state NAME          the state of a process, as it allows it to be shown
mailbox NAME        the messages that wait for it
stack NAME          where it is
log NAME            the last journal entries of a durable process
at NAME POSITION    its state at a position of its journal, and what changed there
crashes  doctor     the last crashes; what seems wrong
quit                leave (or Ctrl-D)
This node was started without --allow-eval, so it runs no typed lines."""

_WORD = re.compile(r"""(?P<word>[a-z]+)(?:\s+(?P<name>\S.*)|\(\s*(?P<quote>["']?)(?P<argument>.*?)(?P=quote)\s*\))?""")


class Front(Protocol):
    """Where lines come from."""

    def read(self, prompt: str) -> str:
        """The next line, or lines; raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""


@final
class Plain:
    """Lines from stdin; the prompt is shown at a terminal only."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def read(self, prompt: str) -> str:
        """One line."""
        if self._terminal:
            return input(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Talk until the lines end; returns 0, or without a terminal what became of the worst line."""
    with connect(args) as client:
        node = client.request(Info())
        terminal = is_tty(sys.stdin) and is_tty(sys.stdout)
        print(banner(node), file=sys.stderr)
        conversation = Conversation(client, node, terminal)
        code = conversation.run(front(client, conversation.evaluates, terminal))
        return Exit.OK if terminal and code != 130 else code


def front(client: AdminClient, evaluates: bool, terminal: bool) -> Front:
    """The best way to read lines that there is here."""
    if not terminal:
        return Plain(terminal=False)
    try:
        from .prompt import Prompt
    except ModuleNotFoundError:
        print("(for history and completion: pip install 'banyan-runtime[repl]')", file=sys.stderr)
        return Plain(terminal=True)
    return Prompt(client, multiline=evaluates)


@final
class Conversation:
    """Reads lines, has the node run them, prints what comes back."""

    def __init__(self, client: AdminClient, node: dict[str, Any], terminal: bool) -> None:
        self._client = client
        self._name = str(node["name"])
        self._terminal = terminal
        self.evaluates = "eval" in str(node["level"]).split("+")
        self._worst: int = Exit.OK

    def run(self, front: Front) -> int:
        """Until the lines end; the exit code of the worst of them."""
        held: list[str] = []
        while True:
            try:
                line = front.read(f"{self._name}> " if not held else "." * len(self._name) + "> ")
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                held = []
                print(file=sys.stderr)
                continue
            except EOFError:
                if held:
                    self._line("\n".join([*held, ""]))
                if self._terminal:
                    print()
                return self._worst
            held.append(line)
            source = "\n".join(held)
            if self.evaluates and needs_more(source):
                continue
            held = []
            if not self._line(source):
                return self._worst

    def _line(self, source: str) -> bool:
        """Run one line; False if it was to leave."""
        if not source.strip():
            return True
        try:
            return self._evaluate(source) if self.evaluates else self._word(source.strip())
        except Refusal as refusal:
            if refusal.code in (Exit.UNREACHABLE, Exit.TIMEOUT):
                raise
            report(refusal.what, refusal.why, refusal.next)
            self._worst = max(self._worst, refusal.code)
            return True

    # -- a node that runs lines ----------------------------------------------------------------------

    def _evaluate(self, source: str) -> bool:
        number = self._client.send(Eval(source=_encodable(source)))
        try:
            # No deadline: a line may take its time, and Ctrl-C ends the wait.
            said = self._client.answer(number, timeout=math.inf)
        except KeyboardInterrupt:
            self._client.interrupt()
            try:
                said = self._client.answer(number, timeout=math.inf)
            except KeyboardInterrupt:
                print("the line does not stop; leaving it", file=sys.stderr)
                self._worst = 130
                return False
        self._show(said)
        return True

    def _show(self, said: dict[str, Any]) -> None:
        output = said["output"]
        if output:
            print(output, end="" if output.endswith("\n") else "\n")
        if said["value"] is not None:
            print(said["value"])
        sys.stdout.flush()
        if said["error"] is not None:
            print(said["error"], file=sys.stderr)
        elif said["interrupted"]:
            print("Interrupted: this line; the node goes on.", file=sys.stderr)
        if said["more"]:
            print("the line is not complete", file=sys.stderr)
        if said["error"] is not None or said["interrupted"] or said["more"]:
            self._worst = max(self._worst, Exit.FAILED)

    # -- a node that does not ------------------------------------------------------------------------

    def _word(self, line: str) -> bool:
        found = _WORD.fullmatch(line)
        word = found["word"] if found is not None else ""
        name = (found["name"] or found["argument"] or None) if found is not None else None
        asked = word_request(word, name)
        if asked is not None:
            request, render = asked
            for row in render(self._client.request(request)):
                print(row)
            sys.stdout.flush()
            return True
        match word:
            case "h" | "help":
                print(WORDS)
            case "quit" | "exit":
                return False
            case _:
                self._client.request(Eval(source=_encodable(line)))  # the node itself says why not
        sys.stdout.flush()
        return True


Render = Callable[[Any], Iterable[str]]


def word_request(word: str, name: str | None) -> tuple[Request, Render] | None:
    """What a word, with the name behind it, asks of a node, and how the answer is shown; None if it is no such word."""
    match word, name:
        case "tree", _:
            return Tree(of=name), text.tree
        case (("ps" | "top"), None):
            return Ps(limit=100), text.ps
        case "info", _:
            return Info(of=name), text.info
        case "crashes", _:
            return Crashes(of=name), lambda said: text.crashes(said, clock)
        case "doctor", None:
            return Doctor(), text.doctor
        case "state", str(of):
            return State(of=of), text.state
        case "mailbox", str(of):
            return Mailbox(of=of), text.mailbox
        case "stack", str(of):
            return Stack(of=of), text.stack
        case "log", str(of):
            return Log(of=of), lambda said: text.log(said, clock)
        case "at", str(both):
            of, _, position = both.rpartition(" ")
            named = bool(of) and position.lstrip("-").isdecimal() and len(position) < 15
            request = At(of=of.rstrip(", "), position=int(position)) if named else At(of=both)
            return request, lambda said: text.at(said, clock)
    return None


def _encodable(typed: str) -> str:
    """Text as UTF-8 can say it; what stdin brought of other encodings becomes question marks."""
    return typed.encode("utf-8", "replace").decode()


def banner(node: dict[str, Any]) -> str:
    """What stands above the first prompt."""
    up, count = duration(float(node["uptime"])), f"{node['processes']:,} processes"
    return f"banyan {node['version']}  node {node['name']}  up {up}  {count}   ({node['level']}; h() for help)"


def duration(seconds: float) -> str:
    """Seconds as a person says them, in the two greatest units: `3h12m`."""
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    first, *rest = parts[:2]
    return f"{first[0]}{first[1]}" + "".join(f"{count:02}{unit}" for count, unit in rest)
