"""Global names on several nodes: a lock for the name on every node, one after the other, then the name on all.

Nodes are asked in the order of their names, so that of several who want one name the first node lets one pass. Who
finds a lock taken gives back what it has and tries again a little later. A lock goes with the node that asked for it.

Two parts of a cluster that could not reach each other may both have given a name. When they are linked again, the
process on the node of the lesser name keeps it, and the other one is ended with KILL, by its own node: everybody
decides alike, without a word (OTP's default leaves it to the dice). Source: OTP `global`; rules R7-R9.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

import trio

from ..errors import CalleeExited, CallTimeout, Misuse
from ..kernel.exits import KILL
from ..kernel.global_names import AGREEMENT, names_of
from ..kernel.ids import Pid
from . import terms
from .asking import ask
from .wire import Frame, Kind

if TYPE_CHECKING:
    from .dist import Dist

logger = logging.getLogger("banyan")

# Seconds until who asks gives up, and at most between two tries.
PATIENCE: Final = 5.0
PAUSE: Final = 0.05

Granted = Literal["granted", "locked", "taken"]


@final
class GlobalAgreement:
    """What one node keeps to agree with others: the locks that are held here, and by whom."""

    def __init__(self, dist: Dist) -> None:
        self.dist = dist
        self.table = dist.table
        self.names = names_of(dist.table)
        # By name: the node that holds the lock, and which of its tries.
        self.locks: dict[Hashable, tuple[str, int]] = {}
        dist.listeners.append(self._linked)
        self.table.services[AGREEMENT] = self

    def needed(self) -> bool:
        return bool(self.dist.nodes())

    async def register(self, name: Hashable, pid: Pid, *, over: bool) -> bool:
        process = self.table.own(pid)
        terms.encode(self.dist, name)
        try:
            with trio.fail_after(PATIENCE):
                while True:
                    if not over and (process in self.names.held or name in self.names.holders):
                        return False
                    found = await self._try(name, pid, over)
                    if found != "locked":
                        return found == "granted"
                    await trio.sleep(self.table.world.random.uniform(PAUSE / 10, PAUSE))
        except trio.TooSlowError:
            text = f"the nodes did not agree on who has the global name {name!r} within {PATIENCE:g} s: try again"
            raise CallTimeout(text, name, pid, PATIENCE) from None

    async def _try(self, name: Hashable, pid: Pid, over: bool) -> Granted:
        token, me = self.dist.new_number(), self.table.node
        asked: list[str] = []
        given = False
        try:
            for node in sorted([me, *self.dist.nodes()]):
                asked.append(node)
                found = await self._ask(node, "lock", name, token, over)
                if found != "granted":
                    return found or "locked"
            if not over and self.table.own(pid) in self.names.held:
                return "taken"
            given = True
            # What this node sends there afterwards arrives after it. Itself last: if the process has ended, it says so.
            for node in [*self.dist.nodes(), me]:
                if node in asked:
                    self._tell(node, "give", name, token, pid)
                else:  # it has come meanwhile
                    self._tell(node, "mine", None, 0, ((name, pid),))
            for node in asked:
                await self._heard(node, name, token)
            return "granted"
        except CalleeExited:
            return "locked"  # that node is gone: once more, without it
        finally:
            if not given:
                for node in asked:
                    self._tell(node, "unlock", name, token, None)

    async def _heard(self, node: str, name: Hashable, token: int) -> None:
        """Wait until a node has done all that it was told before; not for one that is lost meanwhile."""
        try:
            await self._ask(node, "unlock", name, token, None)
        except (CalleeExited, CallTimeout):
            pass

    async def _ask(self, node: str, what: str, name: Hashable, token: int, more: object) -> Granted | None:
        if node == self.table.node:
            return self.serve(node, what, name, token, more)
        return cast("Granted", await ask(node, "global", what, name, token, more, timeout=PATIENCE))

    def _tell(self, node: str, what: str, name: object, token: int, more: object) -> None:
        """Ask without waiting for a reply."""
        if node == self.table.node:
            self.serve(node, what, name, token, more)
            return
        payload = terms.encode(self.dist, ("global", what, name, token, more))
        self.dist.peer(node).carry(0, Frame(Kind.ASK, 0, 0, payload))

    def freed(self, name: Hashable, pid: Pid) -> None:
        for node in self.dist.nodes():
            try:
                self._tell(node, "free", name, 0, pid)
            except Misuse:  # it was given before there were others, who never heard of it
                pass

    # -- being asked ------------------------------------------------------------------------------------

    def serve(self, node: str, what: str, name: Any, token: int, more: Any) -> Granted | None:
        """Do what another node, or this one, asks; never waits. Raises Misuse for what is none of it."""
        match what, more:
            case "lock", bool(over):
                return self._lock(node, name, token, over)
            case "unlock", None:
                self._unlock(node, name, token)
            case "give", Pid() as pid:
                self._unlock(node, name, token)
                self.names.take(name)
                self._give(name, pid)
            case "free", Pid() as pid:
                holder = self.names.holders.get(name)
                if holder is not None and holder.pid == pid:
                    self.names.take(name)
            case "mine", tuple(pairs):
                for theirs, pid in pairs:
                    self._compare(theirs, pid)
            case _:
                raise Misuse(f"global names know lock, unlock, give, free and mine, got {what!r}")
        return None

    def _lock(self, node: str, name: Hashable, token: int, over: bool) -> Granted:
        if self.locks.get(name, (node, token)) != (node, token):
            return "locked"
        if name in self.names.holders and not over:
            return "taken"
        self.locks[name] = (node, token)
        return "granted"

    def _unlock(self, node: str, name: Hashable, token: int) -> None:
        if self.locks.get(name) == (node, token):
            del self.locks[name]

    def _give(self, name: Hashable, pid: Pid) -> None:
        process = pid._process
        if process is not None:
            self.names.give(name, process)
        elif pid.node == self.table.node:
            self.freed(name, pid)  # it has ended meanwhile

    # -- nodes that come and go -------------------------------------------------------------------------

    def _linked(self, node: str, up: bool) -> None:
        if not up:
            for name in [name for name, holder in self.names.holders.items() if holder.pid.node == node]:
                self.names.take(name)
            for name in [name for name, (owner, _) in self.locks.items() if owner == node]:
                del self.locks[name]
            return
        for name, holder in [*self.names.holders.items()]:
            if not holder.remote:
                try:
                    self._tell(node, "mine", None, 0, ((name, holder.pid),))
                except Misuse as error:
                    logger.warning("node %s does not know the global name %r: %s", node, name, error)

    def _compare(self, name: Hashable, pid: Pid) -> None:
        holder = self.names.holders.get(name)
        if holder is None or holder.pid == pid:
            if holder is None:
                self._give(name, pid)
            return
        if pid.node < holder.pid.node:
            self.names.take(name)
            self._give(name, pid)
            if not holder.remote:
                logger.warning("the global name %r is %s's; %s is ended (KILL)", name, pid, holder.pid)
                self.table.timers.soon(partial(holder.exit_signal, holder.pid), KILL)


__all__ = ["GlobalAgreement"]
