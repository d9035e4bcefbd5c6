"""Mistakes of who writes his first server: each is told in words that name it, and nothing is done."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import GenServer, Misuse, call, message, start
from tests.support.processes import as_process


class Unawaited(GenServer):
    """Forgot the `async` of its `handle_call`, but for 1."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        async def work() -> int:
            return 1

        return work() if request != 1 else 1


@as_process
async def test_a_coroutine_is_no_reply(node):
    """The caller is told what is the matter; the server goes on."""
    pid = await start(Unawaited)
    with pytest.raises(Misuse, match="handle_call of Unawaited returned a coroutine: make it async def, or await it"):
        await call(pid, 2)
    assert await call(pid, 1) == 1


def test_a_message_needs_a_name() -> None:
    """`@message` above a class, without a name, says how it is to be written."""
    with pytest.raises(Misuse, match=r"@message needs a name, got .*Deposit: write @message\('wallet.deposit'\)"):

        @message  # type: ignore[arg-type]  # the mistake that is meant
        class Deposit:
            pass


@pytest.mark.parametrize("timeout", ["5", None])
@as_process
async def test_a_timeout_is_a_number(node, timeout):
    """Anything else is refused before the request is sent."""
    got: list[object] = []

    class Counts(GenServer):
        def handle_call(self, request: Any, caller: Any) -> Any:
            got.append(request)

    pid = await start(Counts)
    with pytest.raises(Misuse, match=r"a timeout is seconds, or math.inf, got "):
        await call(pid, 1, timeout=timeout)
    await call(pid, 2, timeout=5)
    assert got == [2]
