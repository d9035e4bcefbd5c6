"""How a mover says something to another one: in order, in pieces that leave room for others on the link.

What is short goes out at once, as long as nothing waits before it. What is long is cut, and a process of its own
sends one piece after the other, each when the link has room for it, and lets others have their turn between two:
frames of regions that find no room count as lost, and are asked for again only a quarter of a second later.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Final, final

import trio

from runtime.behaviours.gen_server import CastEnvelope, cast
from runtime.cluster.dist import Dist
from runtime.errors import BanyanError, Misuse
from runtime.kernel.api import spawn_link
from runtime.kernel.elsewhere import at

from .handoff_frames import Frame, Token
from .mover_frames import SMALL, Part, Told, cut, size_of
from .orders import MOVER

logger = logging.getLogger("banyan")

# Frames that wait for one node: the machines bound what is under way, so there are never so many.
_MOST: Final = 10_000


@final
class Speaker:
    """What the mover of a node says to the others.

    Args:
        dist: of the node.
    """

    def __init__(self, dist: Dist) -> None:
        self._dist = dist
        self._node = dist.table.node
        # What waits, by node; while there is such a row, somebody sends it.
        self._waiting: dict[str, deque[tuple[Frame, Told | Part]]] = {}

    def say(self, node: str, frame: Frame) -> None:
        """Say something to the mover of a node; it may be lost with the link, and what was said after it too."""
        waiting = self._waiting.get(node)
        if waiting and isinstance(frame, Token) and any(one is frame for one, _ in waiting):
            return  # it is on its way: one more would only come later
        try:
            if waiting is None and size_of(frame) <= SMALL:
                # Past the bound of the link's outbox: it is little, and somebody waits for it.
                self._dist.named(node, MOVER).post(CastEnvelope(Told(self._node, frame)))
                return
            pieces = [(frame, piece) for piece in cut(self._dist, self._node, frame)]
        except Misuse:
            logger.exception("what shard movers say cannot travel")
            return
        if waiting is None:
            waiting = self._waiting[node] = deque()
            spawn_link(self._send, node, waiting)
        if len(waiting) < _MOST:
            waiting.extend(pieces)

    def forget(self, node: str) -> None:
        """The link with a node has come or gone: what waits for it is lost."""
        if node in self._waiting:
            self._waiting[node].clear()

    async def _send(self, node: str, waiting: deque[tuple[Frame, Told | Part]]) -> None:
        destination = at(MOVER, node)
        while waiting:
            first = waiting[0]
            try:
                await cast(destination, first[1], timeout=math.inf)
            except BanyanError as error:
                logger.warning("something for the mover of %s is lost: %s", node, error)
            if waiting and waiting[0] is first:  # else it is forgotten already
                waiting.popleft()
            await trio.lowlevel.checkpoint()
        del self._waiting[node]
