"""Any error as a command's three parts and exit code. Imported when something has failed, not before."""

from __future__ import annotations

import errno
import traceback

from runtime.behaviours.gen import StartFailed
from runtime.cluster.members import JoinRefused, LeaseLost
from runtime.cluster.tls import BadKeys, NoKeys
from runtime.durable import journal
from runtime.errors import BanyanError, CallTimeout, Misuse
from runtime.kernel.exits import Crash, Shutdown, is_orderly

from ..children import ChildRefused
from ..node.node import NodeStopped
from ..strategy import FailedToStart
from .failure import Exit, Failure

# What a store says when it is not to be used as it is; all else that it raises is a failure on the way.
_REFUSED = (
    journal.StoreInUse,
    journal.StoreNotReadable,
    journal.StoreNotWritable,
    journal.StoreForeign,
    journal.StoreNewer,
    journal.StoreDamaged,
    journal.StoreNotEmpty,
    journal.NotABackup,
    journal.PositionGone,
)


def explain(error: BaseException) -> Failure:
    """What a person should be told of an error, and the exit code that scripts rely on."""
    match error:
        case Failure():
            return error
        case journal.StoreError():
            return _of_store(error)
        case JoinRefused():
            why, _, advice = str(error).partition(": ")
            return Failure("the node cannot join this cluster", why, advice, Exit.REFUSED)
        case NoKeys() | BadKeys():
            why, _, advice = str(error).partition(": ")
            return Failure("the node cannot speak with other nodes", why, advice, Exit.USAGE)
        case NodeStopped(reason=LeaseLost(why=why)):
            advice = "look at the other one: `banyan nodes`; this one must not be started beside it"
            return Failure("the node has lost its place in the cluster", why, advice, Exit.REFUSED)
        case NodeStopped():
            if is_orderly(error.reason):
                return Failure("the node stopped", "an application ended, or used up its restarts", _LOOK)
            return _of_reason("the node stopped", error.reason)
        case ChildRefused(why="start_failed"):
            return _of_reason("the application did not start", error.detail)
        case StartFailed():
            return _of_reason("the node did not start", error.reason)
        case CallTimeout():
            return Failure("no answer in time", str(error), "try again", Exit.TIMEOUT)
    parts = [getattr(error, part, None) for part in ("what", "why", "next")]
    code = getattr(error, "code", None)
    if all(isinstance(part, str) for part in parts) and isinstance(code, int):
        return Failure(str(parts[0]), str(parts[1]), str(parts[2]), code)
    if isinstance(error, Misuse):
        what, _, why = str(error).partition(": ")
        return Failure(what, why or "it can never work", "see --help", Exit.USAGE)
    if isinstance(error, BanyanError):
        return Failure("it failed", str(error), "the log above may say more")
    trace = "".join(traceback.format_exception(error)).rstrip()
    return Failure("it failed, and should not have failed like this", trace, "please report it, with these lines")


def _of_store(error: journal.StoreError) -> Failure:
    # Its text is "what: why; advice"; a path may hold ": ", the two others hold no "; " of their own.
    said, _, advice = str(error).rpartition("; ")
    what, _, why = said.partition(": ")
    code = Exit.REFUSED if isinstance(error, _REFUSED) else Exit.FAILED
    if isinstance(error, journal.StoreMissing):
        code = Exit.NOT_FOUND
    return Failure(what or said, why or said, advice, code)


def _of_reason(what: str, reason: object) -> Failure:
    """The end of a process: if it says by itself what is the matter, that is what a person is told."""
    while isinstance(reason, Shutdown) and isinstance(reason.detail, FailedToStart):
        reason = reason.detail.reason  # a supervisor whose child did not start
    if isinstance(reason, Crash):
        if not isinstance(reason.error, BanyanError) and not isinstance(reason.error, OSError):
            return Failure(what, f"{type(reason.error).__name__}: {reason.error}", _LOOK)
        if isinstance(reason.error, OSError) and reason.error.errno == errno.EADDRINUSE:
            why = f"{reason.error.filename or 'its address'} is in use: another program, or another node, listens there"
            return Failure(what, why, "end that one, or give this node another address", Exit.FAILED)
        if isinstance(reason.error, journal.NoStore):
            return Failure(what, str(reason.error).partition(": ")[0], "banyan start ... --data DIR", Exit.USAGE)
        inner = explain(reason.error) if isinstance(reason.error, BanyanError) else None
        if inner is not None and inner.code == Exit.REFUSED:
            return inner
        return Failure(what, str(reason.error), _LOOK)
    return Failure(what, f"its reason was {reason!r}", _LOOK)


_LOOK = "the crash reports in the log above say where"
