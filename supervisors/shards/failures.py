"""What goes wrong with a region, and how a failure travels from the node where it happened.

Each says what was wanted, what came, and what to do. An error that a process of another node raised at its
caller arrives as what it was if it is one of Banyan's own that say something to a caller, else as `EntityRaised`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from runtime.durable.commands import CommandSetAside, Refused, SessionExpired
from runtime.durable.journal import StoreFull
from runtime.errors import CalleeExited, CallFailed, CallTimeout, Misuse, NoProcess
from runtime.kernel.exits import shown

from .frames import Outcome


class UnknownRegion(NoProcess):
    """No region of that name runs on this node, or it is restarting; `region`, and `known`, those that run."""

    def __init__(self, region: str, known: Iterable[str]) -> None:
        self.region = region
        self.known = tuple(sorted(known))
        there = ", ".join(self.known) or "none"
        super().__init__(
            f"wanted a region of this node, got {region!r}; regions here: {there}: "
            f"declare region({region!r}, Class) under a supervisor of this node, or wait if it is restarting",
            region,
        )


class BadKey(Misuse):
    """A key that no entity can have; `region`, `key`."""

    def __init__(self, region: str, key: object) -> None:
        super().__init__(
            f"an entity's key is text of 1 to 200 bytes, got {key!r} for the region {region!r}: "
            "make it text, such as str(number)"
        )
        self.region = region
        self.key = key


# What has become of a node that serves no more: see `MemberFact.state`.
GONE: Final = {"down": "is down", "left": "has left"}


class NoOwner(CallTimeout):
    """Nobody who lives has owned the entity's shard until the deadline; `region`, `key`, `shard`.

    `owner` is the node that it belongs to, which is down or has left; "" if there is none.

    Whether the request was carried out before its owner was lost is not known, unless it was never sent; a
    numbered command (`Session`) may be sent again.
    """

    def __init__(
        self, region: str, key: str, shard: int, request: object, timeout: float, owner: str = "", state: str = "down"
    ) -> None:
        why, what = f"and no node has owned that shard for {timeout:g} s", "wait until its node is back"
        if owner:
            why, what = f"and that belongs to {owner}, which {GONE[state]}", "start it on its data directory again"
        super().__init__(
            f"wanted {region}/{key}, which lies in shard {shard}, {why}: "
            f"{what}, or have its data directory adopted; banyan shards says who owns what",
            f"{region}/{key}",
            request,
            timeout,
        )
        self.owner = owner
        self.region = region
        self.key = key
        self.shard = shard


class EntityNotStarted(CallFailed):
    """The entity did not start; `reason` is what its `init` ended with, as text if that was on another node."""

    def __init__(self, entity: str, reason: object) -> None:
        super().__init__(
            f"wanted {entity!r}, which is not running, and its start ended with {shown(reason)}: "
            "mend the class or what it is started with, then ask again",
            entity,
        )
        self.reason = reason


class CannotHandOver(Misuse):
    """An entity cannot say what is to go with it to another node, or that cannot travel: its shard stays."""

    def __init__(self, entity: str, why: str) -> None:
        super().__init__(f"{entity} cannot hand over: {why}")
        self.entity = entity


class EntityRaised(CallFailed):
    """The entity, on another node, refused the request with an error of its own: `error` its name, `words` its text."""

    def __init__(self, entity: str, error: str, words: str) -> None:
        super().__init__(f"{entity!r} refused the request with {error}: {words}", entity)
        self.error = error
        self.words = words


OK: Final = "ok"


@final
class Failure:
    """An outcome that did not cross a wire: the error itself."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def failed(error: Exception) -> Outcome:
    """The outcome of a command that ended with an error."""
    return ("failure", Failure(error))


def packed(outcome: Outcome, entity: str) -> Outcome:
    """An outcome as plain values, to be sent to another node."""
    if outcome[0] == OK:
        return outcome
    failure = outcome[1]
    assert isinstance(failure, Failure)
    match failure.error:
        case Refused(reason=reason) as error if type(error) is Refused:
            return ("refused", reason)
        case CommandSetAside() as error:
            return ("set_aside", entity, error.sender, error.number, error.position)
        case SessionExpired() as error:
            return ("expired", entity, error.sender, error.number)
        case StoreFull() as error:
            return ("full", error.path, error.reason)
        case EntityNotStarted() as error:
            return ("not_started", entity, shown(error.reason))
        case CalleeExited() as error:
            return ("exited", entity, shown(error.reason))
        case error:
            return ("raised", entity, type(error).__qualname__, str(error))


def _exited(entity: str, reason: str) -> CalleeExited:
    return CalleeExited(
        f"{entity} ended ({reason}) before it replied: try again if the request may be repeated", entity, None, reason
    )


_MADE: Final[dict[str, Callable[..., Exception]]] = {
    "refused": Refused,
    "set_aside": CommandSetAside,
    "expired": SessionExpired,
    "full": StoreFull,
    "not_started": EntityNotStarted,
    "exited": _exited,
    "raised": EntityRaised,
}


def error_of(outcome: Outcome) -> Exception | None:
    """The error to raise at the caller, None for a reply."""
    kind, *rest = outcome
    if kind == OK:
        return None
    args: list[Any] = rest
    if kind == "failure":
        return args[0].error  # type: ignore[no-any-return]  # a Failure, see above
    make = _MADE.get(str(kind))
    return make(*args) if make is not None else EntityRaised("an entity", str(kind), repr(args))


def unpacked(outcome: Outcome) -> Outcome:
    """An outcome that came from another node, as if it had happened here."""
    error = error_of(outcome)
    return outcome if error is None else failed(error)
