"""Servers that do as they are told, for the tests of calls and of failures."""

from __future__ import annotations

import trio

from runtime import Call, GenServer, message


@message("unit.kernel.work")
class Work(Call[int]):
    seconds: float


class Worker(GenServer):
    """Takes `seconds` for each request; its replies are how many it has done."""

    def init(self):
        self.done = 0

    async def handle_call(self, request, caller):
        await trio.sleep(request.seconds)  # virtual
        self.done += 1
        return self.done


class Does(GenServer):
    """Does as the request says: a function of the caller's reply address."""

    def handle_call(self, request, caller):
        return request(caller) if callable(request) else request

    def handle_cast(self, request):
        return request() if callable(request) else None


class Awaits(GenServer):
    """Awaits what the request is; notes how it ended."""

    def init(self, log=None):
        self.log = log if log is not None else []

    async def handle_call(self, request, caller):
        return await request()

    def terminate(self, reason):
        self.log.append(reason)


async def raises(error: BaseException) -> None:
    raise error
