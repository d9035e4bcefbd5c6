"""What is said on a new connection before it is a link: TLS, then the handshake, in time.

From here nothing leads to a process: whoever is at the other end is a stranger until both have agreed. `handshake`
judges what is said; this is its shell.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from .handshake import (
    HELLO_SECONDS,
    Acquaintances,
    Agreed,
    Handshake,
    Opened,
    Received,
    Refusal,
    Refused,
    Role,
    Say,
    late,
)
from .pipe import Pipe
from .tls import Cipher, Keys, Security, node_of


async def agree(
    stream: trio.abc.Stream,
    known: Acquaintances,
    security: Security | None,
    now: Callable[[], float],
    *,
    dialled: str | None,
    role: Role,
) -> tuple[Pipe, Agreed] | Refusal:
    """Agree with the other end of a connection, within HELLO_SECONDS; on a refusal the stream is closed.

    Args:
        known: what the handshake is held against; it notes there what is under way.
        security: keys, or clear text.
        now: the node's time, in seconds.
        dialled: whom this side has dialled; None: the other side has.
        role: what the connection is to be.

    Returns the connection and what was agreed, or why there is none: refused by either side, too slow, or left.
    """
    pipe = Pipe(stream, Cipher(security, listening=dialled is None) if isinstance(security, Keys) else None)
    refusal = late(dialled)
    agreed = None
    try:
        with trio.move_on_after(HELLO_SECONDS):
            agreed = await _talk(pipe, known, now, dialled, role)
    except Refusal as error:
        refusal = error
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        refusal = Refusal("left", "the connection broke before both had agreed", node=dialled or "")
    finally:
        if agreed is None:
            with trio.CancelScope(shield=True):
                await pipe.aclose()
    return (pipe, agreed) if agreed is not None else refusal


async def _talk(pipe: Pipe, known: Acquaintances, now: Callable[[], float], dialled: str | None, role: Role) -> Agreed:
    vouched = await pipe.secure()
    try:
        name = node_of(vouched) if vouched is not None else None
    except Refusal as posing:
        await pipe.send(posing.to_bytes())
        raise
    machine = Handshake(known, dialled=dialled, vouched=name, now=now(), role=role)
    event: Opened | Received = Opened()
    try:
        while True:
            for effect in machine.handle(event, now()):
                match effect:
                    case Say(data):
                        await pipe.send(data)
                    case Agreed():
                        return effect
                    case Refused(refusal):
                        raise refusal
            event = Received(await pipe.receive())
    finally:
        machine.end()
