"""Whose line a line of the log is: the node and process whose code runs, and the message that it handles.

Nothing is attached to a logger. Whoever writes the log asks here when a line is written, so that a line costs this
only if it is written at all, and code that knows nothing of Banyan is bound as well. Source: OTP's logger, which
puts the pid and its process's metadata into every event.
"""

from __future__ import annotations

from ..durable.commands import Numbered
from ..kernel.process import Process, here


def whose() -> dict[str, str]:
    """What is known of whoever runs now.

    Returns: nothing outside every node; `node` for host code; of a process also `pid`, `name` if it has one, and
    while it handles a request `message`, the type of that, and for a numbered command `message_id`, which is
    `SENDER#NUMBER`. Types and names only, nothing of what a message says.
    """
    found = here.get(None)
    if found is None:
        return {}
    if not isinstance(found, Process):
        return {"node": found.node}
    said = {"node": found.table.node, "pid": repr(found.pid)}
    if found.names:
        said["name"] = found.names[0]
    request = getattr(found.current, "request", None)
    if isinstance(request, Numbered):
        said["message_id"] = f"{request.sender}#{request.number}"
        request = request.command
    if request is not None:
        said["message"] = type(request).__qualname__
    return said
