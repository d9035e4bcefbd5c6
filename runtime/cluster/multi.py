"""One request for the servers of one name on several nodes. Source: OTP `gen_server:multi_call`, `abcast`; N11, N25."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from ..behaviours.gen_server import cast_nowait
from ..errors import BanyanError, CallFailed, MailboxFull
from ..kernel.api import call
from ..kernel.elsewhere import at
from ..kernel.table import current_table
from .nodes import nodes


async def multi_call(
    name: str, request: object, on: Iterable[str] | None = None, *, timeout: float = 5.0
) -> tuple[dict[str, object], list[str]]:
    """Ask the server of this local name on several nodes at once; who replies, and the nodes that did not.

    A reply that comes after `timeout` seconds is dropped, as that of any call.

    Args:
        on: the nodes; by default this one and all that it is linked with.

    Returns: the replies by node, and the other nodes, both in the order of the nodes.

    Raises:
        Misuse: the request cannot travel: only this node's server was asked.
        RemoteError: a server refused the request, or could not read it.
    """
    asked = _all(on)
    replies: dict[str, object] = {}
    refused: list[BanyanError] = []

    async def ask(node: str) -> None:
        try:
            replies[node] = await call(at(name, node), request, timeout=timeout)
        except CallFailed:
            pass
        except BanyanError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for node in asked:
            nursery.start_soon(ask, node)
    if refused:
        raise refused[0]
    return {node: replies[node] for node in asked if node in replies}, [node for node in asked if node not in replies]


def abcast(name: str, request: object, on: Iterable[str] | None = None) -> None:
    """Cast to the server of this local name on several nodes; never fails for one that is missing or full (N11).

    Raises Misuse if the request cannot travel.
    """
    for node in _all(on):
        try:
            cast_nowait(at(name, node), request)
        except MailboxFull:
            pass


def _all(on: Iterable[str] | None) -> list[str]:
    return list(dict.fromkeys(on)) if on is not None else sorted([current_table().node, *nodes()])


__all__ = ["abcast", "multi_call"]
