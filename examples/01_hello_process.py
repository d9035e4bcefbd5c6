"""A process is a function with a mailbox: it deals with one message after the other.

You see a greeter that is written to (nobody waits for it) and then asked twice (the caller waits for its
reply). It counts: what it remembers between two messages is its own, and nobody else can touch it.

    python examples/01_hello_process.py
"""

from __future__ import annotations

import trio

from runtime import Caller, call, receive, reply, send
from supervisors import ChildSpec, Node, Supervisor, child


async def greeter() -> None:
    """The whole life of this process."""
    greeted = 0
    while True:
        message = await receive()
        greeted += 1
        if isinstance(message, Caller):
            reply(message, f"hello {message.request}, you are number {greeted}")
        else:
            print(f"the greeter waves at {message}")


class Hall(Supervisor):
    """Processes are declared, not started by hand: here is the one of this program."""

    def init(self) -> list[ChildSpec]:
        return [child("greeter", greeter, name="greeter")]


async def main() -> None:
    async with Node("hello") as node:
        await node.start(Hall)
        await send("greeter", "Robert")
        print(await call("greeter", "Joe"))
        print(await call("greeter", "Mike"))


trio.run(main)
