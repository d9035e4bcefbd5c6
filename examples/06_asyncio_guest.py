"""A node inside an asyncio program, by Trio's guest mode: both loops take turns in one thread.

You see five asyncio tasks ask one supervised process at the same time. When asyncio has had enough, also
by Ctrl-C or by an error of its own, it lets the node stop in order and waits until it has.

    python examples/06_asyncio_guest.py
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # the host of this example is an asyncio program

import trio
from outcome import Outcome  # Trio's own: how a guest run tells what became of it

from runtime import Caller, CallFailed, GenServer, call
from supervisors import ChildSpec, Node, Supervisor, child

Question = tuple[int, "asyncio.Future[object]"]


class Squares(GenServer):
    async def handle_call(self, number: int, caller: Caller) -> int:
        await trio.sleep(0.01)  # a process waits with Trio, not with asyncio
        return number * number


class Shop(Supervisor):
    def init(self) -> list[ChildSpec]:
        return [child("squares", Squares, name="squares")]


async def guest(questions: trio.MemoryReceiveChannel[Question]) -> None:
    """Trio's side: a node that answers until asyncio closes the channel."""
    async with questions, Node("guest") as node, trio.open_nursery() as nursery:
        await node.start(Shop)
        async for number, future in questions:
            nursery.start_soon(answer, number, future)


async def answer(number: int, future: asyncio.Future[object]) -> None:
    try:
        future.set_result(await call("squares", number))  # one thread: the future may be touched here
    except CallFailed as error:
        future.set_exception(error)


async def main() -> None:
    """Asyncio's side."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome[None]] = loop.create_future()
    channel, questions = trio.open_memory_channel[Question](100)

    async def ask(number: int) -> object:
        future: asyncio.Future[object] = loop.create_future()
        ended.add_done_callback(lambda _: future.cancel())  # then no answer will come any more
        channel.send_nowait((number, future))
        return await asyncio.shield(future)  # who stops waiting does not take the future along

    trio.lowlevel.start_guest_run(
        guest,
        questions,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,  # signals stay asyncio's
    )
    try:
        print(*await asyncio.gather(*(ask(number) for number in range(1, 6))))
    finally:
        channel.close()  # the guest's loop ends, and with it the node
        await asyncio.wait([ended])
        ended.result().unwrap()
    print("the node has ended, asyncio goes on")


asyncio.run(main())
