"""Tasks: one piece of work in a process of its own. `task` is the chapter on them."""

from __future__ import annotations

from .stream import async_stream
from .supervisor import TaskSupervisor
from .task import Task, TaskExit, TaskReply

__all__ = ["Task", "TaskExit", "TaskReply", "TaskSupervisor", "async_stream"]
