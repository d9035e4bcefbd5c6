"""How a command shows what a node answers: as lines for a person or one line of JSON, once or again and again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from runtime.observe.client import AdminClient
from runtime.observe.protocol import Request

from .main import is_tty
from .target import add_target, connect

Render = Callable[[Any], Iterable[str]]

# Clears a terminal and goes to its first line.
CLEAR = "\x1b[H\x1b[2J"


def add_output(parser: argparse.ArgumentParser, *, watch: bool = False) -> None:
    """Declare --json, with `watch` --watch too, and the options that name a node."""
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    if watch:
        parser.add_argument(
            "--watch",
            type=seconds,
            nargs="?",
            const=2.0,
            metavar="SECONDS",
            help="again every so many seconds (2), until Ctrl-C",
        )
    add_target(parser)


def seconds(text: str) -> float:
    """A finite number of seconds, from 0 to 600."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise argparse.ArgumentTypeError(f"wanted seconds from 0 to 600, got {text!r}")
    return value


def present(args: argparse.Namespace, request: Request, render: Render, *, patience: float = 0.0) -> int:
    """Ask and show, once, or with --watch until somebody ends it; returns 0.

    `patience` is how many seconds longer than --timeout the answer may take, because the node works so long.
    """
    watch: float | None = getattr(args, "watch", None)
    with connect(args) as client:
        while True:
            said = client.request(request, timeout=args.timeout + patience)
            if watch is not None and not args.json and is_tty(sys.stdout):
                print(CLEAR, end="")
            show(args, said, render)
            if watch is None:
                return 0
            sys.stdout.flush()
            pause(client, watch)
            if not args.json and not is_tty(sys.stdout):
                print()


def show(args: argparse.Namespace, said: Any, render: Render) -> None:
    """Print an answer in the form that was asked for."""
    if args.json:
        print(json.dumps(said))
    else:
        for line in render(said):
            print(line)


def pause(_client: AdminClient, length: float) -> None:
    """Wait between two looks."""
    time.sleep(length)  # noqa: TID251  # a command waits here, outside every node


def clock(wall: float) -> str:
    """A moment as the time of day here; with its date, if it was another day."""
    moment = time.localtime(wall)
    today = time.localtime()
    form = "%H:%M:%S" if moment[:3] == today[:3] else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, moment)
