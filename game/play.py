"""`banyan play`: take a seat against bots, in this terminal, over the gateway's own socket.

It plays at a running node, or where none runs at one of its own, which lives as long as the game. That one
has a session of its own, so that Ctrl-C reaches this program alone, which then ends it in order. The login
token is signed with the key in the node's data directory, which only the node's own user can read. Lines
are read from stdin, so a pipe can play too; its end leaves the table.
"""

from __future__ import annotations

import argparse
import getpass
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import trio

from runtime.edge.frames import MOST
from runtime.edge.keys import BadKey, read_key
from runtime.edge.tokens import Signer, Token
from runtime.observe.client import AdminClient, nodes
from runtime.observe.protocol import Info, Refusal
from supervisors.cli.failure import Exit
from supervisors.cli.signals import ENDING, endings_raised
from supervisors.cli.target import connect

from .play_screen import Unseen, screen
from .play_seat import Seat, Stopped, lines_of

# Seconds for the node that is started to be ready, to stop in order, and to answer.
READY, STOP, ANSWER = 20.0, 15.0, 5.0
SETTINGS = ("tables=1", "think=1.5", "pause=3", "turn=120")
CHUNK = 1 << 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--table", metavar="NAME", help="which table (default: the first with a free seat)")
    parser.add_argument("--name", metavar="PLAYER", help="who you are (default: your user name)")
    parser.add_argument("--stack", type=_stack, default=10_000, metavar="CHIPS", help="what you buy in for")
    named = parser.add_mutually_exclusive_group()
    named.add_argument("-n", dest="node", metavar="NODE", help="the running node's name")
    named.add_argument("--data", metavar="DIR", help="the running node's data directory")
    parser.epilog = "Without a running node one is started for this game, on a temporary data directory."


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns its exit code."""
    player = args.name if args.name is not None else _user()
    with _node(args) as node:
        until = time.time() + 60.0  # allowed: a command, outside every node
        token = Signer(_secret(node)).sign(Token("login", player, until))
        seat = Seat(node.address, token, player, screen(), lines_of(_typed), patient=not os.isatty(0))
        return trio.run(_play, seat, args.table, args.stack * 100)


async def _play(seat: Seat, table: str | None, stack: int) -> int:
    """The game, until it ends or a signal ends it; then the seat is kept for whoever comes back soon."""
    code = 0

    async def end_by_signal() -> None:
        nonlocal code
        # Ctrl-C too: a KeyboardInterrupt would come out as a group.
        with trio.open_signal_receiver(signal.SIGINT, *ENDING) as signals:
            async for number in signals:
                code = 128 + number
                nursery.cancel_scope.cancel()

    stopped: Stopped | Unseen | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_by_signal)
        try:
            await seat.play(table, stack)
        except (Stopped, Unseen) as reason:
            stopped = reason  # raised outside, where no group is made of it
        nursery.cancel_scope.cancel()
    if isinstance(stopped, Unseen):
        raise BrokenPipeError from stopped
    if stopped is not None:
        raise stopped
    return code


async def _typed() -> bytes:
    """What is there on stdin; nothing at its end.

    Not from `sys.stdin`: a thread that is left waiting inside it would hold its lock, and at its end the
    interpreter would want it.
    """
    if sys.stdin is None:
        return b""  # it was closed, and number 0 is another file by now
    try:
        return await trio.to_thread.run_sync(os.read, 0, CHUNK, abandon_on_cancel=True)
    except OSError:
        return b""  # its terminal is gone


def _stack(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MOST // 100:
        raise argparse.ArgumentTypeError(f"wanted a whole number of chips, at least 1, got {text!r}")
    return int(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "you"  # a user that the system has no name for


# -- the node ------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """The node that is played at: its admin socket, and its process if it is our own."""

    socket: Path
    process: subprocess.Popen[str] | None = None

    def info(self) -> dict[str, Any]:
        """What the node says of itself; raises Refusal."""
        with AdminClient(self.socket, timeout=ANSWER) as client:
            said: dict[str, Any] = client.request(Info())
            return said

    async def address(self) -> str:
        """Where the gateway listens now: a node that was started again has another port.

        Raises OSError if it cannot be told now, Stopped if it never will.
        """
        if self.process is not None and self.process.poll() is not None:
            why = f"its process ended with {self.process.returncode}"
            raise Stopped("the node of this game has ended", why, "play again", Exit.UNREACHABLE)
        try:
            addresses = (await trio.to_thread.run_sync(self.info, abandon_on_cancel=True))["gateway"]
        except Refusal as refused:
            raise OSError(str(refused)) from None
        if not addresses:
            raise OSError("the node's gateway does not listen")
        return str(addresses[0])


def _secret(node: _Place) -> bytes:
    """The key that the node's gateway believes; raises Stopped where there is none to be had."""
    info = node.info()
    data, advice = info["data"], "start one: banyan start game.app:application --data DIR"
    if not info["gateway"]:
        raise Stopped("cannot play", f"node {info['name']} has no gateway", advice, Exit.REFUSED)
    if not data:
        raise Stopped(
            "cannot play", "the node has no data directory, and so no key to log in with", advice, Exit.REFUSED
        )
    try:
        secret = read_key(data)
    except (BadKey, OSError) as error:
        raise Stopped("cannot log in", str(error), "play as the user whose node it is", Exit.REFUSED) from None
    if secret is None:
        raise Stopped("cannot log in", f"there is no gateway.key in {data}", "start the node anew", Exit.REFUSED)
    return secret


@contextmanager
def _node(args: argparse.Namespace) -> Iterator[_Place]:
    """The running node that is meant, or where nobody named one and none runs, a node of our own."""
    try:
        with connect(argparse.Namespace(name=args.node, data=args.data, timeout=ANSWER)) as client:
            found = client.path
    except Refusal as refused:
        # Only who named no node is told that it cannot be found: there are none, or several.
        if refused.code != Exit.NOT_FOUND or nodes():
            raise
    else:
        yield _Place(found)
        return
    with endings_raised(), tempfile.TemporaryDirectory(prefix="banyan-play-") as scratch, _own(Path(scratch)) as own:
        yield own


@contextmanager
def _own(scratch: Path) -> Iterator[_Place]:
    print("no node is running: one is started for this game", file=sys.stderr)
    command = [sys.executable, "-m", "supervisors.cli.main", "start", "game.app:application"]
    command += ["--name", f"play-{os.getpid()}", "--data", str(scratch / "store")]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    log = scratch / "node.log"
    with log.open("ab") as file:
        node = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            # What is configured for other nodes is not meant for this one.
            env={name: value for name, value in os.environ.items() if not name.startswith("BANYAN_")},
            cwd=scratch,
            text=True,
            start_new_session=True,
        )
    with node:
        try:
            assert node.stdout is not None
            readable, _, _ = select.select([node.stdout], [], [], READY)
            line = node.stdout.readline() if readable else ""
            if not line.startswith("ready "):
                said = log.read_text(errors="replace").strip().splitlines()[-5:]
                why = "\n".join(said) or f"it was not ready within {READY:g} s"
                raise Stopped("the node of this game did not start", why, "banyan start says more", Exit.FAILED)
            yield _Place(Path(line.rstrip("\n").split(" ", 3)[3]), node)
        finally:
            _end(node)


def _end(node: subprocess.Popen[str]) -> None:
    """End a node in order, or if that takes too long, or somebody cannot wait, at once."""
    try:
        node.send_signal(signal.SIGTERM)
        node.wait(STOP)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        node.kill()
        node.wait()
