"""Applications: what a node loads by name and keeps alive.

`banyan start room.app:application` imports `room.app` and looks at its `application`. That may be

- a Supervisor's class (or any behaviour's), started without arguments;
- an `Application`, which says with which arguments, after which others, and what else is to be done;
- a function that takes the settings and returns either, so that one application can be started in many ways:

        def application(settings: Mapping[str, str]) -> Application:
            check_settings(settings, ("tables", "listen"))
            return Application(CardRoom, (int(settings.get("tables", "2")),))

Settings are text: `--set tables=4`, BANYAN_SET_TABLES=4, or the `[application]` table of banyan.toml. A
function that cannot work with them raises Misuse, and the node does not start. An `Application` without a
function takes them into its environment, if they are there by name: `env={"tables": 2}` becomes 4.

Source: OTP `application`; ASGI's `module:attribute`; rules X1-X12.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast, overload

from runtime.behaviours.gen import Behaviour
from runtime.errors import Misuse
from runtime.kernel.table import ProcessTable, current_table

T = TypeVar("T")

Settings = Mapping[str, str]

# Whose code is running: the application's label. Inherited by every process that one of its processes starts,
# as OTP's group leader is.
running_application: ContextVar[str] = ContextVar("banyan_application")

# The name of the node's environments among its services: by application, by key.
ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Application:
    """What a node starts as an application: its top process, and what belongs to it.

    Subclass it for the callbacks; they run in the node, not in a process of the application's own, and may wait:

        class Room(Application):
            async def start_phase(self, phase, argument):
                await call("lobby", Open())

        application = Room(CardRoom, applications=(database,), start_phases=(("open", None),))

    Attributes:
        start: a Supervisor's class, or any behaviour's.
        args: what its `init` gets.
        name: its id in the tree, and how others know it; by default its class's name.
        applications: those that must run before it is started (X2).
        included_applications: those whose top processes it starts itself, as children of its own; they lend it
            their environment and their start phases, and are never started by themselves.
        env: its environment as it begins: defaults for what the operator may set (X9).
        start_phases: pairs of a name and an argument, run through in order once its tree is up (X10).
    """

    start: type[Behaviour]
    args: tuple[Any, ...] = ()
    name: str | None = None
    applications: tuple[Application, ...] = ()
    included_applications: tuple[Application, ...] = ()
    env: Mapping[str, object] = field(default_factory=dict, hash=False)
    start_phases: tuple[tuple[str, object], ...] = field(default=(), hash=False)

    @property
    def label(self) -> str:
        """Its id in the tree."""
        return self.name if self.name is not None else str(getattr(self.start, "__qualname__", self.start))

    def all_included(self) -> Iterator[Application]:
        """Itself, then those that it includes, with those that they include."""
        yield self
        for one in self.included_applications:
            yield from one.all_included()

    async def start_phase(self, phase: str, argument: object) -> None:
        """Runs for each start phase, when the whole tree is up (X10). What it raises fails the start."""

    async def prep_stop(self) -> object:
        """Runs before its tree is stopped, or when its top process has ended by itself (X5, X7).

        What it returns is given to `stop`.
        """
        return None

    async def stop(self, state: object) -> None:
        """Runs when its tree is gone, and nothing of it is left (X5, X7)."""


def current_application() -> str | None:
    """The label of the application that the running code belongs to, or None (OTP: `get_application`)."""
    return running_application.get(None)


# -- the environment -----------------------------------------------------------------------------------


@overload
def get_env(key: str, *, application: str | None = None) -> object: ...
@overload
def get_env(key: str, default: T, *, application: str | None = None) -> object | T: ...
def get_env(key: str, default: object = None, *, application: str | None = None) -> object:
    """A value of an application's environment, or `default` (X9).

    Args:
        application: its label; by default the one that the running code belongs to.

    Raises:
        Misuse: the running code belongs to none, and none was named.
    """
    return _environment(application).get(key, default)


def get_all_env(*, application: str | None = None) -> dict[str, object]:
    """All of an application's environment, as a copy. Raises as `get_env`."""
    return dict(_environment(application))


def put_env(key: str, value: object, *, application: str | None = None) -> None:
    """Change an application's environment until the node ends or the application is started anew (X9).

    Raises Misuse as `get_env`, and if `key` is no text or empty.
    """
    if type(key) is not str or not key:
        raise Misuse(f"a key of an environment is a non-empty string, got {key!r}")
    _environment(application)[key] = value


def begin_environment(table: ProcessTable, application: Application) -> None:
    """Give an application that starts its environment as it begins, whatever became of an earlier one."""
    if application.env or ENVIRONMENT in table.services:
        _environments(table)[application.label] = dict(application.env)


def _environments(table: ProcessTable) -> dict[str, dict[str, object]]:
    """The environments of a node's applications, by label."""
    return cast("dict[str, dict[str, object]]", table.services.setdefault(ENVIRONMENT, {}))


def _environment(application: str | None) -> dict[str, object]:
    label = application if application is not None else running_application.get(None)
    if label is None:
        raise Misuse("this code belongs to no application: name the one whose environment is meant")
    return _environments(current_table()).setdefault(label, {})


# -- what an operator names ----------------------------------------------------------------------------


def as_application(
    thing: Application | type[Behaviour] | Callable[[Settings], Application | type[Behaviour]],
    settings: Settings,
) -> Application:
    """The application that a module's attribute stands for.

    Raises Misuse if it is none, or if there are settings and nobody takes them; a function's own errors pass.
    """
    if isinstance(thing, Application):
        return _without_settings(thing, settings)
    if isinstance(thing, type) and issubclass(thing, Behaviour):
        return _without_settings(Application(thing), settings)
    if inspect.isfunction(thing):
        made = thing(settings)
        if isinstance(made, Application):
            return made
        if isinstance(made, type) and issubclass(made, Behaviour):
            return Application(made)
        raise Misuse(f"wanted an Application or a Supervisor's class from {thing.__qualname__}(settings), got {made!r}")
    raise Misuse(f"wanted a Supervisor's class, an Application, or a function that takes the settings, got {thing!r}")


def _without_settings(application: Application, settings: Settings) -> Application:
    if not settings:
        return application
    if not application.env:
        raise Misuse(
            f"{application.label} takes no settings, got {', '.join(sorted(settings))}: leave them out, or "
            "let a function that takes them return the application"
        )
    check_settings(settings, application.env)
    given = {key: _like(application.env[key], key, text) for key, text in settings.items()}
    return replace(application, env={**application.env, **given})


def _like(default: object, key: str, text: str) -> object:
    """A setting's text as a value of the type that its default has; anything but a bool or number stays text."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise Misuse(f"the setting {key!r} is true or false, got {text!r}")
        return text.lower() == "true"
    if isinstance(default, (int, float)):
        kind = type(default)
        try:
            return kind(text)
        except ValueError:
            raise Misuse(f"the setting {key!r} is {'a number' if kind is float else 'an int'}, got {text!r}") from None
    return text


def check_settings(settings: Settings, known: Collection[str]) -> None:
    """Refuse settings that an application does not know: raises Misuse, naming the one that was meant."""
    for key in settings:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise Misuse(f"there is no setting {key!r}: {meant}")
