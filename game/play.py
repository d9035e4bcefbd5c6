"""`banyan play`: take a seat against bots, in this terminal, over the gateway's own socket.

Without a running node it starts one of its own on a temporary data directory and ends it afterwards. The
login token is signed with the key in the node's data directory, which only the node's own user can read.
Lines are read from stdin, so a pipe can play too; its end leaves the table.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from runtime.edge.deltas import apply
from runtime.edge.keys import read_key
from runtime.edge.tokens import Signer, Token
from runtime.observe.client import AdminClient, find_node
from runtime.observe.protocol import Info, Refusal

from .action import chips

READY = 20.0
HELP = "fold | call | check | raise AMOUNT | all-in | leave"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--table", default="oak", metavar="NAME", help="which table (default oak)")
    parser.add_argument("--name", default=None, metavar="PLAYER", help="who you are (default: your user name)")
    parser.add_argument("--stack", type=int, default=10_000, metavar="CHIPS", help="what you buy in for")
    parser.add_argument("-n", dest="node", metavar="NODE", help="the running node's name")
    parser.add_argument("--data", metavar="DIR", help="the running node's data directory")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns its exit code."""
    player = args.name if args.name is not None else getpass.getuser()
    try:
        with _node(args) as info:
            addresses, data = info["gateway"], info["data"]
            if not addresses or not data:
                raise Refusal("cannot play", "that node has no gateway", "start game.app:application", 5)
            secret = read_key(data)
            if secret is None:
                raise Refusal("cannot play", f"there is no gateway.key in {data}", "start the node anew", 5)
            token = Signer(secret).sign(Token("login", player, time.time() + 60.0))
            stack = args.stack * 100
            return trio.run(_play, f"ws://{addresses[0]}", token, player, args.table, stack)
    except Refusal as refused:
        print(f"what: {refused.what}\nwhy:  {refused.why}\nnext: {refused.next}", file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return 130


@contextmanager
def _node(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is known of the node to play at: a running one, or one that lives as long as the game."""
    try:
        running = find_node(args.node, args.data)
    except Refusal:
        if args.node is not None or args.data is not None:
            raise
    else:
        with AdminClient(running.socket) as client:
            yield client.request(Info())
        return
    print("no node is running: one is started for this game", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="banyan-play-") as scratch, Path(scratch, "node.log").open("ab") as log:
        command = [sys.executable, "-m", "supervisors.cli.main", "start", "game.app:application"]
        options = ["--name", f"play-{os.getpid()}", "--data", f"{scratch}/store", "--set=think=0.8", "--set=turn=60"]
        node = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, cwd=scratch, text=True)
        try:
            assert node.stdout is not None
            readable, _, _ = select.select([node.stdout], [], [], READY)
            line = node.stdout.readline() if readable else ""
            if not line.startswith("ready "):
                raise Refusal("cannot play", "the node did not start", "try `banyan demo` and read its log", 1)
            with AdminClient(Path(line.split(" ", 3)[3].strip())) as client:
                yield client.request(Info())
        finally:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(15)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
            if node.stdout is not None:
                node.stdout.close()


async def _play(address: str, token: str, player: str, table: str, stack: int) -> int:
    async with connect(address) as socket:
        game = _Game(socket, player, table)
        await game.send({"op": "login", "token": token})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.listen, nursery.cancel_scope)
            await game.send({"op": "watch", "table": table})
            await game.command({"op": "sit", "table": table, "amount": stack})
            print(f"{player}, you sit down at {table} with {chips(stack)}. You can: {HELP}")
            await game.read_lines()
            nursery.cancel_scope.cancel()
    return game.code


@final
class _Game:
    """One player's end of the socket."""

    def __init__(self, socket: ClientConnection, player: str, table: str) -> None:
        self.socket = socket
        self.player = player
        self.table = table
        self.code = 0
        self.view: dict[str, Any] | None = None
        self._last = 0
        self._shown: object = None

    async def send(self, frame: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(frame))

    async def command(self, frame: dict[str, Any]) -> None:
        """Send a command under the next id."""
        self._last += 1
        await self.send({**frame, "id": self._last})

    async def listen(self, scope: trio.CancelScope) -> None:
        """Show what the gateway sends, until it says good-bye."""
        try:
            while True:
                self._take(json.loads(await self.socket.recv()))
        except ConnectionClosed:
            scope.cancel()

    def _take(self, frame: dict[str, Any]) -> None:
        match frame.get("type"):
            case "absolute":
                self.view = frame["view"]
                self._show()
            case "delta" if self.view is not None:
                view: Any = apply(frame["changes"], self.view)
                self.view = view
                self._show()
            case "refused":
                print(f"  refused: {frame['text']}")
            case "bye":
                print(f"  the table says good-bye: {frame['text']}")
                self.code = 1

    def _show(self) -> None:
        view = self.view
        assert view is not None
        result = view["result"]
        if view["hand"] is None:
            if result is not None and self._shown != ("result", result["hand"]):
                self._shown = ("result", result["hand"])
                print(f"  hand {result['hand']} is over: {_winners(result)}")
            return
        now = (view["hand"], view["street"], view["actor"], view["pot"])
        if now == self._shown:
            return
        self._shown = now
        seats = "  ".join(_seat(seat, self.player) for seat in view["seats"])
        board = " ".join(view["board"]) or "-"
        print(f"  hand {view['hand']} {view['street']}  board {board}  pot {chips(view['pot'])}  {seats}")
        legal = view["legal"]
        if legal is not None:
            may = [f"call {chips(legal['to_call'])}" if legal["to_call"] else "check"]
            if legal["may_fold"]:
                may.insert(0, "fold")
            if legal["min_raise_to"] is not None:
                may.append(f"raise {chips(legal['min_raise_to'])} to {chips(legal['max_raise_to'])}")
            print(f"  your turn: {', '.join(may)}")

    async def read_lines(self) -> None:
        """Carry out what is typed; the end of the input leaves the table."""
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            words = line.split()
            if not line or (words and words[0] in ("leave", "quit", "exit")):
                await self.command({"op": "leave", "table": self.table})
                print("  you leave; your chips go back to your wallet")
                return
            if words:
                await self._do(words)

    async def _do(self, words: list[str]) -> None:
        view = self.view
        if view is None or view["legal"] is None:
            print("  it is not your turn")
            return
        turn: dict[str, Any] = {"op": "act", "table": self.table, "hand": view["hand"]}
        legal = view["legal"]
        match words:
            case ["fold"]:
                await self.command({**turn, "action": "fold"})
            case ["call" | "check"]:
                await self.command({**turn, "action": "call"})
            case ["all-in"] if legal["max_raise_to"] is not None:
                await self.command({**turn, "action": "raise", "to": legal["max_raise_to"]})
            case ["all-in"]:
                await self.command({**turn, "action": "call"})
            case ["raise", amount] if amount.replace(".", "", 1).isdecimal():
                await self.command({**turn, "action": "raise", "to": round(float(amount) * 100)})
            case _:
                print(f"  wanted {HELP}, got {' '.join(words)!r}")


def _seat(seat: dict[str, Any], player: str) -> str:
    name = f"*{seat['player']}*" if seat["player"] == player else seat["player"]
    hole = f" [{seat['hole'][:2]} {seat['hole'][2:]}]" if seat["hole"] else ""
    state = " folded" if seat["folded"] else " all-in" if seat["all_in"] else ""
    bet = f" bets {chips(seat['bet'])}" if seat["bet"] else ""
    return f"{name} {chips(seat['stack'])}{bet}{state}{hole}"


def _winners(result: dict[str, Any]) -> str:
    won = zip(result["players"], result["collected"], strict=True)
    return ", ".join(f"{player} wins {chips(amount)}" for player, amount in won if amount)
