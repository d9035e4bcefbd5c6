"""Clients of the registers, in each node's namespace: what they ask, and what they are told, is a history.

A client asks one thing at a time of the door in its namespace. What it does not hear of it leaves open: nobody
knows whether it was done. Only what bears a session's number is repeated until it is answered, at each door, while
the client goes on with other keys.
All are tasks of this one program, so that one counter tells what was answered before what was asked.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any, Final, final

import trio

from runtime.testing.history import History, Operation

from .hosts import DOOR, Host, pause

# Seconds between two requests of a client, at most; and for one answer, by the node's own count.
PAUSE: Final = 0.06
PATIENCE: Final = 2.0
# Beyond that the door itself does not answer: its node is stopped, or gone.
_GRACE: Final = 0.5
# Numbered commands of a client without an answer, at most.
_OPEN: Final = 12
# Keys that are asked again and again, and new ones of each fault: the shards of those may never have been written.
HOT: Final = tuple(f"hot-{number}" for number in range(6))
FRESH: Final = 24


@final
class Gone(Exception):
    """A door does not answer; whether it has done what it was asked is not known."""


@final
class Line:
    """A connection with a node's door, made when it is needed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._stream: trio.SocketStream | None = None

    async def ask(self, request: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
        """One request and its answer. Raises Gone."""
        await self.reach()
        answer: dict[str, Any] | None = None
        try:
            with trio.move_on_after(patience + _GRACE):
                answer = await self._ask({**request, "patience": patience})
        except (OSError, trio.BrokenResourceError):
            pass
        if answer is None:
            self.close()
            raise Gone
        return answer

    async def reach(self) -> None:
        """Connect, unless it is connected. Raises Gone: nothing was asked then."""
        if self._stream is not None:
            return
        plug = trio.socket.from_stdlib_socket(self.host.net.socket(self.host.name))
        try:
            await plug.connect(DOOR)
            self._stream = trio.SocketStream(plug)
        except OSError:
            await pause(0.02)
            raise Gone from None
        finally:
            if self._stream is None:
                plug.close()

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        assert self._stream is not None
        await self._stream.send_all(json.dumps(request).encode() + b"\n")
        said = b""
        while not said.endswith(b"\n"):
            piece = await self._stream.receive_some()
            if not piece:
                return None
            said += piece
        answer: dict[str, Any] = json.loads(said)
        return answer

    def close(self) -> None:
        """Forget the connection."""
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None


@final
class Crowd:
    """All clients of a run.

    Attributes:
        history: what they asked, and were told.
        errors: by kind, how often nobody could tell.
        fresh: the part of new keys that is asked now.
        over: whether they are to ask nothing new.
    """

    def __init__(self, hosts: list[Host], each: int, dice: Random) -> None:
        self.hosts = hosts
        self.history = History()
        self.errors: Counter[str] = Counter()
        self.fresh = 0
        self.over = False
        self.probes = Counter[str]()
        self._clients = [
            Client(f"{host.name}{number}", host, self, Random(dice.getrandbits(64)))
            for host in hosts
            for number in range(1, each + 1)
        ]

    async def run(self) -> None:
        """Ask until it is `over`, and what bears a session's number is answered."""
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.run)

    async def probe(self, host: Host, key: str) -> None:
        """Ask at one door until there is an answer. Never gives up."""
        line = Line(host)
        sender = f"probe/{host.name}/{key}"
        try:
            while True:
                try:
                    await line.reach()
                    self.probes[sender] += 1
                    number = self.probes[sender]
                    request = {"op": "add", "key": key, "sender": sender, "number": number, "amount": 1}
                    operation = self.history.called(key, sender, number, request)
                    if settle(self, operation, await line.ask(request, 10.0)):
                        return
                except Gone:
                    pass
        finally:
            line.close()

    async def owner(self, host: Host, key: str) -> str | None:
        """Whose a key is, as one node says. Raises Gone."""
        line = Line(host)
        try:
            found: str | None = (await line.ask({"op": "owner", "key": key}))["ok"]
            return found
        finally:
            line.close()


def settle(crowd: Crowd, operation: Operation, answer: dict[str, Any]) -> bool:
    """Write down what was answered; False if that says nothing."""
    history, id = crowd.history, operation.id
    if "ok" in answer:
        reply = tuple(answer["ok"])
        history.answered(operation, reply)
        if id.number:
            history.acked(id.key, id.sender, id.number, reply)
        return True
    if "no" in answer:
        history.answered(operation, refused=answer["no"])
        return True
    crowd.errors[answer["unknown"].partition(":")[0]] += 1
    return False


@final
class Client:
    """One that asks.

    Args:
        name: no other has it.
        home: the node at whose door it asks.
    """

    def __init__(self, name: str, home: Host, crowd: Crowd, dice: Random) -> None:
        self.name = name
        self._crowd = crowd
        self._dice = dice
        self._home = Line(home)
        self._count = 0
        self._numbers: Counter[str] = Counter()
        self._unanswered: set[str] = set()
        # What it has last seen of each key.
        self._seen: dict[str, int] = {}

    async def run(self) -> None:
        """Ask, one thing after the other."""
        try:
            async with trio.open_nursery() as nursery:
                while not self._crowd.over:
                    await pause(self._dice.uniform(0.0, PAUSE))
                    await self._one(nursery)
        finally:
            self._home.close()

    async def _one(self, nursery: trio.Nursery) -> None:
        dice, crowd = self._dice, self._crowd
        key = dice.choice(HOT) if dice.random() < 0.5 else f"new-{crowd.fresh}-{dice.randrange(FRESH)}"
        draw = dice.random()
        if draw < 0.4:
            if key not in self._unanswered and len(self._unanswered) < _OPEN:
                await self._number(nursery, {"op": "add", "key": key, "session": True, "amount": dice.randint(1, 9)})
        elif draw < 0.7:
            await self._once({"op": "read", "key": key}, 0)
        elif draw < 0.85:
            self._count += 1
            await self._once({"op": "add", "key": key, "amount": dice.randint(1, 9)}, self._count)
        else:
            self._count += 1
            swap = {"op": "swap", "wanted": self._seen.get(key, 0), "value": dice.randint(1, 1 << 20)}
            await self._once({**swap, "key": key}, self._count)

    async def _once(self, request: dict[str, Any], number: int) -> None:
        """Ask once; what is not answered stays open."""
        key = request["key"]
        try:
            await self._home.reach()
            operation = self._crowd.history.called(key, self.name, number, request)
            answer = await self._home.ask({**request, "sender": self.name, "number": number})
        except Gone:
            self._crowd.errors["Gone"] += 1
            return
        if settle(self._crowd, operation, answer):
            self._look(key, answer)

    async def _number(self, nursery: trio.Nursery, request: dict[str, Any]) -> None:
        """Ask under a session's number; again and again, but no longer waited for, if there is no answer at once."""
        key = request["key"]
        try:
            await self._home.reach()
        except Gone:
            return
        self._numbers[key] += 1
        sender, number = f"{self.name}/{key}", self._numbers[key]
        operation = self._crowd.history.called(key, sender, number, request)
        asked = {**request, "sender": sender, "number": number}
        if not await self._try(self._home, operation, asked):
            self._unanswered.add(key)
            nursery.start_soon(self._repeat, operation, asked)

    async def _repeat(self, operation: Operation, asked: dict[str, Any]) -> None:
        """Ask at each door until it is answered."""
        doors = [Line(host) for host in self._crowd.hosts]
        try:
            while not await self._try(self._dice.choice(doors), operation, asked):
                pass
        finally:
            for door in doors:
                door.close()
        self._unanswered.discard(operation.id.key)

    async def _try(self, door: Line, operation: Operation, asked: dict[str, Any]) -> bool:
        try:
            answer = await door.ask(asked)
        except Gone:
            self._crowd.errors["Gone"] += 1
            return False
        if not settle(self._crowd, operation, answer):
            return False
        self._look(operation.id.key, answer)
        return True

    def _look(self, key: str, answer: dict[str, Any]) -> None:
        self._seen[key] = answer["ok"][1] if "ok" in answer else 0
