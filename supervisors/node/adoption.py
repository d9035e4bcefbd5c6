"""Serving a dead node's shards out of its own data directory, on the machine where that lies, until it is back.

    adopted           a supervisor: who writes to each adopted store
    |-- NODE          the writer of that store; not started again
    adopter           takes a store by its lock and gives it back; `banyan adopt`

The lock is what makes it safe: it is free when the node's program has ended, and only then. A node that stands still
(SIGSTOP) holds it, and so does one that cannot reach the coordination store. Nothing is copied: the shards' records
stay where they are, their rows name that store as their home, and only their owner changes. So whoever opens the
directory next has them again: the node itself once this one has given the store back or has ended, or another adopter.

An adoption is of this life of the node, and nobody's but an operator's decision. It ends with that life, with the
order to give the store back, and if the store fails; the node's own shards have nothing to do with that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import trio

from runtime.behaviours.gen_server import GenServer, Raise
from runtime.cluster import moving
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.joining import store_id
from runtime.cluster.membership import MemberFact, membership_of
from runtime.durable.fence import NodeFences
from runtime.durable.journal import Journal, StoreError, StoreFull, StoreInUse, StoreMissing
from runtime.durable.writer import JournalWriter, has_relaxed
from runtime.errors import BanyanError
from runtime.kernel.api import monitor
from runtime.kernel.ids import Ref
from runtime.kernel.messages import Call, message
from runtime.kernel.signals import Down
from runtime.kernel.table import current_process
from runtime.kernel.world import World
from runtime.observe.protocol import Code, Refusal

from ..children import start_child, terminate_child
from ..dynamic import DynamicSupervisor
from ..shards.entities import RegionSpec
from ..shards.luggage import regions_here
from ..shards.mover_target import staged_of
from ..shards.router import router_of
from ..specs import child

logger = logging.getLogger("banyan")

ADOPTED: Final = "adopted"
ADOPTER: Final = "adopter"
# Seconds until the shards are served, and until their processes have ended, that an order waits for.
PATIENCE: Final = 3.0
LOOK: Final = 0.01


@final
@message("adoption.adopt")
class Adopt(Call["Adoption"]):
    """Serve the shards of a node that is down out of its store. Raises Refusal: why not; nothing has changed then."""

    node: str


@final
@message("adoption.give_back")
class GiveBack(Call["Adoption"]):
    """Serve them no more and let go of the store: the node can be started. Raises Refusal: it was not adopted here."""

    node: str


@final
@message("adoption.told")
class Adoption:
    """A node's store, where it lies, who has adopted it, and how many shards have their records in it."""

    node: str
    by: str
    data: str
    shards: int


@final
@dataclass(slots=True, eq=False)
class AdoptedStore:
    """A store that this node has open in another's place, and who writes to it; why it is of no more use, if so."""

    node: str
    id: str
    data: str
    journal: Journal
    writer: str
    failed: str = ""


@final
class AdoptedStores:
    """All of them, by node; they outlive the process that has opened them, and are closed with this node."""

    def __init__(self) -> None:
        self.held: dict[str, AdoptedStore] = {}

    def open(self, world: World, me: str, node: str, member: MemberFact) -> AdoptedStore:
        """Open a node's store; blocks. Raises: Refusal: it is none that could be adopted; what opening raises."""
        journal: Journal = world.open_store(member.data, node, adopter=me)  # type: ignore[assignment]  # the seam knows no ports
        try:
            if store_id(journal) != member.store:
                why = f"{member.data} holds another store than the one that it had"
                raise _refusal(node, why, "adopt it on the machine where it ran")
            if has_relaxed(journal):
                why = "it keeps relaxed state as well, which cannot be adopted"
                raise _refusal(node, why, "start it: its shards wait for it")
        except BaseException:
            journal.close()
            raise
        # No two adoptions are written by one name: whoever was started for one knows nothing of the next.
        name = f"journal.{node}.{journal.epoch}"
        found = self.held[node] = AdoptedStore(node, member.store, member.data, journal, name)
        return found

    def close(self, node: str) -> None:
        """Let go of a store. Harmless if it was not held."""
        found = self.held.pop(node, None)
        if found is not None:
            try:
                found.journal.close()
            except StoreError as error:
                logger.warning("the store of node %s that was adopted cannot be closed in order: %s", node, error)

    def close_all(self) -> None:
        """Let go of all."""
        for node in list(self.held):
            self.close(node)


@final
class AdoptedFences:
    """The fences of an adopted store, which may fail without stopping the node's own shards.

    Args:
        failed: told that it is of no more use.
    """

    def __init__(self, journal: Journal, failed: Callable[[StoreError], None]) -> None:
        self._fences = NodeFences(journal)
        self._failed = failed

    def claim(self, epochs: Mapping[int, int]) -> Sequence[int]:
        """As `Fences.claim`; all are refused if the store fails."""
        try:
            return self._fences.claim(epochs)
        except StoreFull as error:
            logger.warning("an adopted store cannot be claimed: %s", error)
        except StoreError as error:
            self._failed(error)
        return list(epochs)

    def seal(self, shard: int, epoch: int) -> bool:
        """As `Fences.seal`; False if the store fails."""
        try:
            return self._fences.seal(shard, epoch)
        except StoreFull:
            pass
        except StoreError as error:
            self._failed(error)
        return False

    def written(self, shard: int) -> bool:
        """As `Fences.written`; True if nobody can tell."""
        try:
            return self._fences.written(shard)
        except StoreError as error:
            self._failed(error)
        return True


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Failed:
    """A store is of no more use."""

    store: AdoptedStore
    why: object


@final
class Writers(DynamicSupervisor):
    """Who writes to adopted stores. None is started again: what its store holds is known only to who opens it anew."""

    def init(self) -> Any:
        return []


@final
class Adopter(GenServer):
    """Adopts stores and gives them back; under the local name `adopter`.

    Args:
        stores: those that are open. A former adopter of this life may have left some here: their shards are served on.
    """

    def init(self, stores: AdoptedStores) -> None:
        self._process = current_process()
        self._table = self._process.table
        self._stores = stores
        self._watched: dict[Ref, AdoptedStore] = {}
        for node, found in list(stores.held.items()):
            if self._table.names.get(found.writer) is None:
                stores.close(node)
            else:
                self._take(found)

    def state(self) -> object:
        return {node: found.data for node, found in self._stores.held.items()}

    async def handle_call(self, request: Any, caller: Any) -> Any:
        try:
            match request:
                case Adopt(node):
                    return await self._adopt(node)
                case GiveBack(node):
                    return await self._give_back(node)
        except BanyanError as error:
            return Raise(error)
        return await super().handle_call(request, caller)

    async def handle_info(self, message: Any) -> None:
        match message:
            case Down(ref=ref, reason=reason) if ref in self._watched:
                await self._lost(self._watched.pop(ref), reason)
            case _Failed(store, why):
                await self._lost(store, why)
            case _:
                super().handle_info(message)

    async def _lost(self, found: AdoptedStore, why: object) -> None:
        if self._stores.held.get(found.node) is found:
            logger.warning("the adopted store of node %s is given up: %s", found.node, why)
            await self._release(found)

    # -- taking --------------------------------------------------------------------------------------

    async def _adopt(self, node: str) -> Adoption:
        member = self._checked(node)
        me, world = self._table.node, self._table.world
        try:
            # In a thread: what a crash has left behind may take its time.
            found = await world.run_blocking(lambda: self._stores.open(world, me, node, member))
        except StoreError as error:
            raise _unusable(node, member.data, error) from error
        try:
            await self._settle(found)
            writer = child(
                node,
                JournalWriter,
                found.journal,
                found.writer,
                name=found.writer,
                restart="temporary",
                shutdown=math.inf,
            )
            await start_child(ADOPTED, writer)
        except BaseException as error:
            self._stores.close(node)
            if isinstance(error, CoordinationUnreachable):
                raise _refusal(node, str(error), "banyan doctor tells more; try again then") from error
            raise
        self._take(found)  # if its membership is being restarted, so is this process, and takes it then
        logger.info("%s has adopted the store of node %s, %s", me, node, found.data)
        shards = self._homed(found)
        await self._until(lambda: found.failed or all(self._served(shard) for shard in shards))
        if found.failed:
            await self._release(found)
            raise _refusal(node, found.failed, f"banyan check {found.data}")
        return Adoption(node, me, found.data, len(shards))

    def _checked(self, node: str) -> MemberFact:
        """A node that might be adopted. Raises Refusal."""
        table = self._table
        membership = membership_of(table)
        mine, member = membership.members()[table.node], membership.members().get(node)
        if node == table.node:
            raise _refusal(node, "it is the node that was asked", "name one that is down: banyan nodes")
        if member is None:
            raise _refusal(
                node, f"there is no node {node!r} in this cluster", "banyan nodes lists them", Code.NOT_FOUND
            )
        if not mine.store:
            raise _refusal(node, f"{table.node} keeps nothing: it has no data directory", "ask another node")
        if node in self._stores.held:
            raise _refusal(node, f"{table.node} has adopted it already", f"banyan adopt {node} --undo gives it back")
        if member.state == "up":
            raise _refusal(node, "it is up", f"banyan drain {node} has it give its shards away")
        if member.state == "suspect":
            raise _refusal(node, "it is suspect: perhaps it lives", "try again when banyan nodes shows it as down")
        if not member.store:
            raise _refusal(node, "it kept nothing", "there is nothing to adopt: its shards are others' by now")
        if not member.data:
            raise _refusal(node, "its data lie in no directory", "start it: its shards wait for it")
        if not membership.serving:
            raise _refusal(node, f"the lease of {table.node} is over", "banyan doctor tells why; try again then")
        return member

    async def _settle(self, found: AdoptedStore) -> None:
        """End what the node would end at its own start: moves to it that had been won. Raises Refusal."""
        membership = membership_of(self._table)
        for shard, note in found.journal.staged().items():
            if shard >= membership.cluster.shards:
                continue
            row = await moving.look(membership, shard)
            if row.home != found.id:
                continue  # it is elsewhere: what is left of it here is of no use, and the node erases it
            staged = staged_of(note)
            if staged is None or not staged.kept:
                why = f"shard {shard} was being erased there"
                raise _refusal(found.node, why, "start it: only the node itself can end that")
            found.journal.settle(shard)

    def _take(self, found: AdoptedStore) -> None:
        """Serve what is in an open store, whose writer lives."""
        process = self._process

        def failed(error: StoreError) -> None:
            found.failed = str(error)
            process.post(_Failed(found, error))

        self._watched[monitor(found.writer)] = found
        membership = membership_of(self._table)
        membership.hold(found.id, AdoptedFences(found.journal, failed), found.writer)
        membership.look()

    # -- giving back ---------------------------------------------------------------------------------

    async def _give_back(self, node: str) -> Adoption:
        found = self._stores.held.get(node)
        if found is None:
            what, why = f"node {node} was not given back", f"{self._table.node} has not adopted it"
            raise Refusal(what, why, "banyan shards tells who serves its shards: ask that one", Code.REFUSED)
        shards = len(self._homed(found))
        await self._release(found)
        logger.info("%s has given back the store of node %s, %s", self._table.node, node, found.data)
        return Adoption(node, self._table.node, found.data, shards)

    async def _release(self, found: AdoptedStore) -> None:
        """Serve what is in a store no more, and let go of it."""
        shards = self._homed(found)
        membership_of(self._table).give_up(found.id)
        # Who is ended in order has its last entries committed.
        await self._until(lambda: not any(self._busy(shard) for shard in shards))
        process = self._table.names.get(found.writer)
        if process is not None:
            await terminate_child(ADOPTED, process.pid)
        self._stores.close(found.node)

    # -- looking -------------------------------------------------------------------------------------

    def _homed(self, found: AdoptedStore) -> list[int]:
        rows = membership_of(self._table).placement.rows()
        return [shard for shard, row in rows.items() if row.home == found.id]

    def _served(self, shard: int) -> bool:
        membership = membership_of(self._table)
        return membership.serves(shard) is not None or not membership.writer(shard)

    def _busy(self, shard: int) -> bool:
        """Whether there are processes of a shard here."""
        routers = (router_of(self._table.names.get(RegionSpec.router_of(one))) for one in regions_here(self._table))
        return any(router.inward.holds(shard) for router in routers if router is not None)

    async def _until(self, condition: Callable[[], object]) -> None:
        with trio.move_on_after(PATIENCE):
            while not condition():  # noqa: ASYNC110  # regions and rows ring no bell
                await trio.sleep(LOOK)


def _refusal(node: str, why: str, next: str, code: Code = Code.REFUSED) -> Refusal:
    return Refusal(f"node {node} was not adopted", why, next, code)


def _unusable(node: str, data: str, error: StoreError) -> Refusal:
    """Why a node's store cannot be opened."""
    match error:
        case StoreInUse(adopter=str(adopter)) if adopter:
            return _refusal(node, f"{adopter} has adopted it already", f"banyan adopt {node} --undo -n {adopter}")
        case StoreInUse(pid=pid):
            who = f"process {pid}" if pid else "another process"
            why = f"{who} has {data} open: it lives, or stands still"
            return _refusal(node, why, "end that program (kill -9) if it will not come back; then try again")
        case StoreMissing():
            return _refusal(
                node, f"there is no store in {data} on this machine", "ask a node of the machine where it ran"
            )
    said, _, advice = str(error).rpartition("; ")
    return _refusal(node, said, advice)


__all__ = ["ADOPTED", "ADOPTER", "Adopt", "AdoptedStores", "Adopter", "Adoption", "GiveBack", "Writers"]
