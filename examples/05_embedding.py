"""A node inside a Trio program that has a life of its own: here a small TCP server.

You see four clients ask the server for pages; a supervised process of the node counts the visits. The
third asks for something that kills that process: its answer is an apology, the server goes on, and so does
the counting, by a new process that begins at 0. The node takes no signal, no logging set-up and no socket
of the program it is in, and it ends with its block. (The crash report on stderr comes from `logging`.)

    python examples/05_embedding.py
"""

from __future__ import annotations

from functools import partial

import trio

from runtime import Caller, CallFailed, GenServer, call
from supervisors import ChildSpec, Node, Supervisor, child


class Visits(GenServer):
    def init(self) -> None:
        self.pages = {"home": 0, "news": 0}

    def handle_call(self, page: str, caller: Caller) -> int:
        self.pages[page] += 1
        return self.pages[page]


class Shop(Supervisor):
    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [child("visits", Visits, name="visits")]


async def serve(stream: trio.SocketStream) -> None:
    """One client of the host's own server: plain Trio that calls a process."""
    page = (await stream.receive_some(100)).decode()
    try:
        visits = await call("visits", page)
    except CallFailed:  # it ended instead of answering, or is just being restarted
        await stream.send_all(f"sorry, {page} is broken".encode())
    else:
        await stream.send_all(f"{page}, visit {visits}".encode())


async def visit(port: int, page: str) -> None:
    """A client, as it would run elsewhere."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(page.encode())
        print((await stream.receive_some(100)).decode())


async def main() -> None:
    # The node comes first: tasks that are started inside its block may call its processes.
    async with Node("embedded") as node, trio.open_nursery() as nursery:
        await node.start(Shop)
        server = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(server)
        port = listeners[0].socket.getsockname()[1]
        for page in ("home", "home", "attic", "home"):
            await visit(port, page)
        nursery.cancel_scope.cancel()
    print("the node has ended, the program goes on")


trio.run(main)
