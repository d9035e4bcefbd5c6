"""A node's applications: started after those they need, stopped in reverse, told when they end.

Each application's top process is a child of the node's root, whose `restart` says what its end means (X4):
the root allows no restart, so a permanent one that ends, or a transient one that fails, ends the node.

Source: OTP `application_controller`, `application_master`; rules X1-X12.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, final

import trio

from runtime.behaviours.gen import StartFailed
from runtime.errors import BanyanError, CallFailed
from runtime.kernel.exits import KILL, NORMAL, Crash, is_orderly, shown
from runtime.kernel.ids import Pid
from runtime.kernel.parking import park
from runtime.kernel.process import Process
from runtime.kernel.requests import ExitWatch
from runtime.kernel.table import ProcessTable

from ..application import Application, begin_environment, running_application
from ..children import ChildRefused, delete_child, start_child, terminate_child
from ..specs import Restart, child

T = TypeVar("T")

logger = logging.getLogger("banyan")


class NotStarted(BanyanError):
    """An application does not run (OTP: `not_started`). `application` is its label."""

    def __init__(self, application: str, needed_by: str | None = None) -> None:
        text = f"application {application!r} does not run"
        if needed_by is not None:
            text = f"{needed_by!r} needs {application!r}, which does not run: start it first, or use ensure_all_started"
        super().__init__(text)
        self.application = application


@final
class _Running:
    """One application that was started, until all its callbacks have run."""

    __slots__ = ("application", "gone", "leaving", "top")

    def __init__(self, application: Application, top: Pid) -> None:
        self.application = application
        self.top = top
        # Whether somebody sees to its end already, so that its callbacks run once.
        self.leaving = False
        self.gone = trio.Event()


@final
class Applications:
    """Those that run on one node, in order of their start."""

    def __init__(self, table: ProcessTable, root: Pid, nursery: trio.Nursery) -> None:
        self._table = table
        self._root = root
        self._nursery = nursery
        self._running: dict[str, _Running] = {}

    def labels(self) -> list[str]:
        """Which run, in order of their start."""
        return [label for label, one in self._running.items() if not one.leaving]

    async def start(self, application: Application, restart: Restart) -> Pid:
        """Start one application and wait until its tree is up and its start phases are through (X3, X10).

        Raises:
            NotStarted: one that it needs does not run (X2).
            ChildRefused: it did not start, or runs already.
            StartFailed: it asked to be ignored, or a start phase failed.
        """
        label = application.label
        for needed in application.applications:
            if needed.label not in self.labels():
                raise NotStarted(needed.label, label)
        for one in application.all_included():
            begin_environment(self._table, one)
        top = await start_child(self._root, child(label, application.start, *application.args, restart=restart))
        if top is None:
            await self._forget_child(label)
            raise StartFailed(label, NORMAL)
        running = self._running[label] = _Running(application, top)
        if top._process is not None:
            self._nursery.start_soon(self._watch, running, top._process, name=f"application {label}")
        try:
            await self._run_phases(application)
        except Exception as error:  # the application's own
            await self._end(running)
            raise StartFailed(label, Crash(error)) from error
        return top

    async def ensure_all_started(self, application: Application, restart: Restart) -> list[str]:
        """Start an application after all that it needs; the labels of those that did not run yet (X2).

        If one fails, those that were started here are stopped again. Raises as `start`.
        """
        started: list[str] = []
        try:
            await self._start_all(application, restart, started)
        except Exception:
            for label in reversed(started):
                await self._end(self._running[label])
            raise
        return started

    async def _start_all(self, application: Application, restart: Restart, started: list[str]) -> None:
        for needed in application.applications:
            await self._start_all(needed, restart, started)
        if application.label not in self.labels():
            await self.start(application, restart)
            started.append(application.label)

    async def stop(self, label: str) -> None:
        """Stop one application (X5); it never stops the node (X6). Raises NotStarted."""
        running = self._running.get(label)
        if running is None or running.leaving:
            raise NotStarted(label)
        await self._end(running)

    async def stop_all(self) -> None:
        """Stop all applications, last started first (X11)."""
        for running in reversed(list(self._running.values())):
            await self._end(running)

    # -- the end of one --------------------------------------------------------------------------------

    async def _end(self, running: _Running) -> None:
        if running.leaving:
            await running.gone.wait()
            return
        running.leaving = True
        label = running.application.label
        state = await self._call(label, "prep_stop", running.application.prep_stop)
        try:
            await terminate_child(self._root, label)
        except (CallFailed, ChildRefused):
            pass  # it has ended, or the root has
        await self._leave(running, state)

    async def _watch(self, running: _Running, top: Process) -> None:
        reason = await wait_for_end(top)
        if running.leaving:
            return
        running.leaving = True
        label = running.application.label
        level = logging.INFO if is_orderly(reason) else logging.WARNING
        logger.log(level, "application %s ended: %s", label, shown(reason))
        await self._leave(running, await self._call(label, "prep_stop", running.application.prep_stop))

    async def _leave(self, running: _Running, state: object) -> None:
        """Its tree is gone: end what else it has left behind (X8), and tell it."""
        label = running.application.label
        try:
            for process in list(self._table.processes.values()):
                if process.pid != self._root and self._belongs(process, label):
                    process.exit_signal(process.pid, KILL)
            await self._forget_child(label)
            await self._call(label, "stop", partial(running.application.stop, state))
        finally:
            if self._running.get(label) is running:
                del self._running[label]
            running.gone.set()

    @staticmethod
    def _belongs(process: Process, label: str) -> bool:
        task = process.task
        return task is not None and task.context.get(running_application) == label

    async def _forget_child(self, label: str) -> None:
        """So that an application of this name can be started again."""
        try:
            await delete_child(self._root, label)
        except (CallFailed, ChildRefused):
            pass  # a temporary one is forgotten already

    # -- callbacks -------------------------------------------------------------------------------------

    async def _run_phases(self, application: Application) -> None:
        """Each phase of the application, in it and in all that it includes (X10)."""
        for phase, _ in application.start_phases:
            for one in application.all_included():
                for name, argument in one.start_phases:
                    if name == phase:
                        await self._as(one.label, partial(one.start_phase, phase, argument))

    async def _call(self, label: str, callback: str, function: Callable[[], Awaitable[object]]) -> object:
        try:
            return await self._as(label, function)
        except Exception:  # the application's own: its end goes on
            logger.exception("%s of application %s failed", callback, label)
            return None

    @staticmethod
    async def _as(label: str, function: Callable[[], Awaitable[T]]) -> T:
        """Run a callback as code of the application, so that it finds its environment."""
        token = running_application.set(label)
        try:
            return await function()
        finally:
            running_application.reset(token)


async def wait_for_end(process: Process) -> object:
    """Wait until a process has ended; returns its exit reason."""
    if process.pid._process is None:
        return process.exiting
    task = trio.lowlevel.current_task()
    watch = ExitWatch(None, task, process, process.pid)
    if process.deferred is None:
        process.deferred = {}
    process.deferred[watch] = None
    task.custom_sleep_data = watch
    return await park()
