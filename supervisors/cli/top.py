"""`banyan top`: look into a running node on a screen that stays, by keyboard or mouse (with the extra `[tui]`).

It shows the processes with what changes within a window, the live tree with its restarts, what seems wrong,
the last crashes and stalls; and of one process all that is known in one place, its past included. When the
node goes away the last that was seen stays, and the screen finds the node again when it is back.
"""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from runtime.observe.requests import SortBy

from .failure import Exit, Failure
from .main import is_tty
from .show import seconds
from .target import add_target, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", metavar="PROCESS", nargs="?", help="open the page of this process first")
    parser.add_argument(
        "--interval", type=_interval, default=2.0, metavar="SECONDS", help="between two looks (default 2)"
    )
    parser.add_argument("--limit", type=_limit, default=100, metavar="N", help="processes listed (default 100)")
    parser.add_argument("--sort", choices=get_args(SortBy), default="mailbox", help="what the first ones have most of")
    parser.add_argument(
        "--window", type=seconds, default=0.0, metavar="SECONDS", help="order by what changes within so many seconds"
    )
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Show the screen until somebody leaves it."""
    try:
        from .top_screens.app import Top
        from .top_screens.poller import Source
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("textual", "rich"):
            raise
        advice = "pip install 'banyan-runtime[tui]'"
        raise Failure("`banyan top` cannot run", f"{missing} is not installed", advice, Exit.USAGE) from None
    # Whoever names no node, or one that does not run, is told so before the screen is taken.
    with connect(args) as client:
        path = client.path
    # The screen is drawn on stderr, as Textual does.
    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    elsewhere = [name for name, stream in streams.items() if not is_tty(stream)]
    if elsewhere:
        why = f"not a terminal: {', '.join(elsewhere)}; it needs stdin, stdout and stderr to be one"
        advice = "leave out the redirection; `banyan ps --watch` and `banyan doctor --json` print lines"
        raise Failure("`banyan top` cannot run", why, advice, Exit.USAGE)
    source = Source(path, timeout=args.timeout, interval=args.interval)
    Top(source, of=args.of, limit=args.limit, sort=args.sort, window=args.window).run()
    return Exit.OK


def _interval(text: str) -> float:
    value = seconds(text)
    if value < 0.1:
        raise argparse.ArgumentTypeError(f"wanted seconds from 0.1 to 600, got {text!r}")
    return value


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"wanted a number from 1 to 1000, got {text!r}")
    return int(text)
