"""A node: the root of a supervision tree, with its table of processes, its timers and its store.

    async with Node("room-1", data="./room") as node:
        await node.start(CardRoom)
        print(node.tree())

An embedded node touches no signal (unless it is told to: `preempt`), no logging set-up and no socket. When
the block ends, all processes are stopped in order, last started first. Source: OTP `init`, `application`;
rules X5, X11, X12.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import trio

from runtime.behaviours import sys
from runtime.behaviours.gen import Behaviour, StartError, StartFailed, launch
from runtime.cluster.members import LeaseLost
from runtime.durable.fence import NodeFences
from runtime.durable.journal import Journal
from runtime.durable.writer import RELAXED, SERVICE, WRITER, JournalWriter, OnDemand
from runtime.errors import BanyanError, CallFailed, Misuse
from runtime.kernel.exits import SHUTDOWN
from runtime.kernel.ids import Pid
from runtime.kernel.process import Process, here
from runtime.kernel.stalls import watched
from runtime.kernel.table import ProcessTable
from runtime.kernel.world import World
from runtime.observe.queries import TreeNode, tree

from ..application import Application, running_application
from ..specs import ChildSpec, Restart, child
from ..supervisor import Supervisor
from .applications import Applications, wait_for_end
from .cluster import OWN, Cluster, Clustered, Place, joining
from .collector import Collector, GcPolicy
from .stepper import check_thread, checked_limit, stepping

# What the body of `async with Node(...)` may raise that is no business of the node's.
HOSTS_OWN = (Exception, KeyboardInterrupt, SystemExit)


class NodeStopped(BanyanError):
    """The node's root supervisor ended by itself, because an application could not be kept alive.

    `reason` is its exit reason. The crash reports in the log say what came before. Of a node whose place in its
    cluster was taken by another life it is a LeaseLost.
    """

    def __init__(self, name: str, reason: object) -> None:
        why = "an application ended or used up its restarts; its crash reports say why"
        super().__init__(
            f"node {name!r} stopped: {reason}"
            if isinstance(reason, LeaseLost)
            else f"node {name!r} stopped ({reason!r}): {why}"
        )
        self.reason = reason


@final
class Root(Supervisor):
    """The node's own supervisor: first what the node needs, then the applications, in order of start."""

    strategy, intensity, period = "rest_for_one", 0, 5.0

    def init(self, journal: Journal | None, relaxed: OnDemand | None, place: Place | None) -> Any:
        return [child("system", System, journal, relaxed, place)]

    def _before_launch(self, spec: ChildSpec) -> None:
        # The new process inherits it from here, and so does all that it starts.
        running_application.set(spec.id)


@final
class System(Supervisor):
    """What the node itself is made of."""

    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self, journal: Journal | None, relaxed: OnDemand | None, place: Place | None) -> Any:
        children = []
        if journal is not None:
            children += [
                child("journal", JournalWriter, journal, name=WRITER, shutdown=math.inf),
                child("relaxed", JournalWriter, relaxed, RELAXED, name=RELAXED, shutdown=math.inf),
            ]
        if place is not None:
            children.append(child("cluster", Clustered, place))
        return children


@final
class Node:
    """One node in this program.

    Args:
        name: what it is called; also a part of its processes' identity.
        data: the directory of its store, made if it is missing; ":memory:" for a store that dies with the
            node; None: durable processes cannot be started.
        world: where time, randomness, disk and network come from; the real ones by default.
        stop_timeout: seconds that the applications may take to stop; then they are cancelled.
        check_messages: for development: a process that takes a message which was changed after it was sent
            ends with `MutatedMessage`, which says who sent it, where, and what has changed. Slow.
        preempt: seconds, above 0, that one message may hold the loop; then its process ends with
            `Crash(Runaway(...))`, if it is in the application's own code. Takes SIGURG while the node lives, so
            the node must run in the program's main thread. None: no signal is touched, and nobody is broken.
        cluster: which other nodes it is to be with; None: it opens no socket, and knows of no others.
        gc_policy: "freeze": after each start of an application, collect Python's garbage and put all that is left out
            of the collector's sight until the node ends, so that full collections are short; it is the whole
            program's collector. "python": leave it alone. See `supervisors.node.collector`.

    Raises, on entry: a StoreError if the store cannot be opened; see `runtime.durable.journal`. Misuse if
        `preempt` is given outside the main thread. With a cluster what `supervisors.node.cluster.joining` raises:
        JoinRefused if the node does not belong there, NoKeys if others could read what it says.
    """

    def __init__(
        self,
        name: str = "node",
        *,
        data: str | Path | None = None,
        world: World | None = None,
        stop_timeout: float = 30.0,
        check_messages: bool = False,
        preempt: float | None = None,
        cluster: Cluster | None = None,
        gc_policy: GcPolicy = "python",
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise Misuse(f"a node's name is letters, digits, '-', '_' and '.', got {name!r}")
        self.name = name
        self.data = data
        self.stop_timeout = stop_timeout
        self.check_messages = check_messages
        self.preempt = checked_limit(preempt)
        self.cluster = cluster
        self._collector = Collector(gc_policy)
        self._world = world
        self._manager: AbstractAsyncContextManager[None] | None = None
        self._ended: object = None
        self._leaving = False
        self.table: ProcessTable
        self.journal: Journal | None = None
        self._relaxed: OnDemand | None = None
        self._place: Place | None = None
        self.root: Pid
        self._applications: Applications

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    @property
    def world(self) -> World:
        """Where this node's time, randomness, disk and network come from."""
        if self._world is None:
            from .boot import RealWorld

            self._world = RealWorld()
        return self._world

    async def __aenter__(self) -> Self:
        if self._manager is not None:
            raise Misuse(f"node {self.name!r} was entered already: make a new Node for a new life")
        if self.preempt is not None:
            check_thread()
        if self.cluster is not None:
            self.cluster.check(self.name)
        self._manager = self._live()
        await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._manager is not None
        return await self._manager.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        if self.data is not None:
            self.journal = self.world.open_store(str(self.data), self.name)  # type: ignore[assignment]  # the seam knows no ports
        try:
            async with self._joined() as creation:
                self._make_table(creation)
                async with self._running():
                    with self._collector.kept():
                        yield
        finally:
            if self._relaxed is not None:
                self._relaxed.close()
            if self.journal is not None:
                self.journal.close()

    @asynccontextmanager
    async def _joined(self) -> AsyncIterator[int]:
        """Be in the cluster while the block runs, if there is one; the creation of this life."""
        if self.cluster is None:
            yield self.journal.epoch if self.journal is not None else 1
            return
        async with joining(self.cluster, self.world, self.name, self.journal, self._whereabouts()) as self._place:
            yield self._place.creation

    def _whereabouts(self) -> str:
        """Where its data lies, by which it is the same node in its next life; "" if that has no place."""
        return os.path.abspath(self.data) if self.data is not None and str(self.data) != OWN else ""

    def _make_table(self, creation: int) -> None:
        journal = self.journal
        self.table = table = ProcessTable(self.name, self.world, creation=creation, check_messages=self.check_messages)
        if journal is not None:
            table.services[SERVICE] = journal
            table.services[RELAXED] = self._relaxed = OnDemand(self._open_relaxed, journal)
        if self._place is not None:
            self._place.attach(table, NodeFences(journal, self._relaxed) if journal is not None else None)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        table = self.table
        outer = here.get(None)
        here.set(table)
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                table.nursery = nursery
                nursery.start_soon(table.timers.run, name=f"{self.name} timers")
                try:
                    async with self._rooted(nursery):
                        yield
                except HOSTS_OWN as error:  # all of it: it is raised again below, not in a group
                    failure = error
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            table.end_resting(table.processes.values())
            table.nursery = None
            if outer is not None:
                here.set(outer)
        if failure is not None:
            raise failure

    def _open_relaxed(self) -> Journal:
        return self.world.open_store(str(self.data), self.name, relaxed=True)  # type: ignore[return-value]  # the seam knows no ports

    @asynccontextmanager
    async def _rooted(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        outcome = await launch(Root, (self.journal, self._relaxed, self._place), table=self.table)
        if isinstance(outcome, StartError):
            raise StartFailed("the node's root supervisor", outcome.reason)
        assert isinstance(outcome, Process)
        self.root = outcome.pid
        self._applications = Applications(self.table, self.root, nursery)
        with watched(self.table), stepping(self.table, self.preempt), trio.CancelScope() as body:
            nursery.start_soon(self._watch_root, outcome, body, name=f"{self.name} watch")
            if self._place is not None:
                self._place.lost = body.cancel
            try:
                yield
            finally:
                self._leaving = True
                with trio.move_on_after(self.stop_timeout, shield=True):
                    await self._applications.stop_all()
                    if self._place is not None:
                        await self._place.leave()
                    if self.root._process is not None:
                        await self._stop_root()
        lost = self._place.why_lost if self._place is not None else None
        if (lost is not None or self._ended is not None) and body.cancelled_caught:
            raise NodeStopped(self.name, lost or self._ended)

    async def _watch_root(self, root: Process, body: trio.CancelScope) -> None:
        self._ended = await wait_for_end(root)
        if not self._leaving:  # a scope that is cancelled makes a new group of one that passes through it
            body.cancel()

    async def _stop_root(self) -> None:
        try:
            await sys.stop(self.root, SHUTDOWN)
        except CallFailed:
            pass  # it ended by itself meanwhile

    # -- what one does with a node -------------------------------------------------------------------

    async def start(
        self,
        application: Application | type[Behaviour],
        *args: Any,
        name: str | None = None,
        restart: Restart = "permanent",
    ) -> Pid:
        """Start an application and wait until its tree is up and its start phases are through.

        Args:
            application: an Application; or a Supervisor's class (or any behaviour's), started with `args`.
            name: its id in the tree; by default its own name.
            restart: what its end means (X4). permanent: any end stops the node; transient: one in disorder
                does; temporary: none does, it is reported only.

        Raises:
            ChildRefused: it did not start; `detail` is the reason.
            NotStarted: an application that it needs does not run (X2).
            StartFailed: it asked to be ignored (NORMAL), or a start phase failed.
        """
        pid = await self._applications.start(self._as_application(application, args, name), restart)
        self._collector.put_aside()
        return pid

    async def ensure_all_started(
        self, application: Application | type[Behaviour], *, restart: Restart = "permanent"
    ) -> list[str]:
        """Start an application after all that it needs, each unless it runs (X2); the names of those started.

        If one does not start, those that were started here are stopped again. Raises as `start`.
        """
        labels = await self._applications.ensure_all_started(self._as_application(application, (), None), restart)
        if labels:
            self._collector.put_aside()
        return labels

    async def stop(self, name: str) -> None:
        """Stop an application: `prep_stop`, its tree, then `stop` (X5). Never stops the node (X6).

        Raises:
            NotStarted: no application of that name runs.
        """
        await self._applications.stop(name)

    def which_applications(self) -> list[str]:
        """The names of the applications that run, in order of their start."""
        return self._applications.labels()

    @staticmethod
    def _as_application(thing: object, args: tuple[Any, ...], name: str | None) -> Application:
        if not isinstance(thing, Application):
            return Application(thing, args, name)  # type: ignore[arg-type]  # what it is, the child spec finds out
        if args:
            raise Misuse(f"{thing.label} says itself what it is started with, got {args!r} beside it: leave it out")
        return replace(thing, name=name) if name is not None else thing

    async def wait(self) -> object:
        """Wait until the node's root ends by itself; returns its reason."""
        process = self.root._process
        return await wait_for_end(process) if process is not None else self._ended

    def tree(self) -> TreeNode:
        """The supervision tree as it is now; print it."""
        return tree(self.table, self.root)
