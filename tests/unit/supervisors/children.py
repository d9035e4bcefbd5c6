"""Children that tell a story: who started, failed to start, and ended, in order."""

from __future__ import annotations

import trio
import trio.testing

from runtime import IGNORE, GenServer, Pid, Stop, cast_nowait, start
from supervisors import Supervisor, child, which_children
from supervisors.specs import Flags


class Story:
    """What happens below a supervisor: `+a` a has started, `!a` has failed to, `?a` was ignored, `-a` has ended."""

    def __init__(self):
        self.events = []
        # How many of the next starts fail, by name; and who asks to be ignored.
        self.failing = {}
        self.ignoring = set()
        # Set by the next start that succeeds; put a new one here before.
        self.started = trio.Event()

    def take(self):
        """The events since the last take, in one line."""
        events, self.events = self.events, []
        return " ".join(events)


class Worker(GenServer):
    """Ends as a cast says, and tells of it; traps exits, so that it can tell of a shutdown too."""

    trap_exit = True

    def init(self, story, name):
        self.story, self.name = story, name
        if story.failing.get(name, 0):
            story.failing[name] -= 1
            story.events.append(f"!{name}")
            return Stop("no")
        if name in story.ignoring:
            story.events.append(f"?{name}")
            return IGNORE
        story.events.append(f"+{name}")
        story.started.set()
        return None

    def handle_call(self, request, caller):
        return request

    def handle_cast(self, request):
        return Stop(request)

    def terminate(self, reason):
        self.story.events.append(f"-{self.name}")


class Tree(Supervisor):
    """A supervisor whose children and flags come with its start."""

    def init(self, children, flags=None):
        self._flags = flags if flags is not None else Flags(intensity=10)
        return children

    def flags(self):
        return self._flags


def worker(story, child_id, **options):
    """The spec of a Worker that tells of itself by its id."""
    return child(child_id, Worker, story, child_id, **options)


async def grow(children, **flags):
    """Start a Tree; its pid. Ten restarts are allowed unless said otherwise."""
    return await start(Tree, children, Flags(**{"intensity": 10, **flags}))


async def settle():
    """Let everybody run until all wait."""
    await trio.testing.wait_all_tasks_blocked()


async def pid_of(supervisor, child_id) -> Pid:
    """Who a child is now."""
    (pid,) = [one.pid for one in await which_children(supervisor) if one.id == child_id]
    return pid


async def end(supervisor, child_id, reason="boom"):
    """Let a child end, and all that follows happen."""
    cast_nowait(await pid_of(supervisor, child_id), reason)
    await settle()


async def rows(supervisor):
    """The children in start order, as `a:up b:down`."""
    return " ".join(f"{one.id}:{one.state}" for one in reversed(await which_children(supervisor)))
