"""Applications: what a node loads by name and keeps alive.

`banyan start room.app:application` imports `room.app` and looks at its `application`. That may be

- a Supervisor's class (or any behaviour's), started without arguments;
- an `Application`, which says with which arguments and under which name;
- a function that takes the settings and returns either, so that one application can be started in many ways:

        def application(settings: Mapping[str, str]) -> Application:
            check_settings(settings, ("tables", "listen"))
            return Application(CardRoom, (int(settings.get("tables", "2")),))

Settings are text: `--set tables=4`, BANYAN_SET_TABLES=4, or the `[application]` table of banyan.toml. A
function that cannot work with them raises Misuse, and the node does not start.

Source: OTP `application`, its `start/2` and `env`; ASGI's `module:attribute`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

from runtime.behaviours.gen import Behaviour
from runtime.errors import Misuse

Settings = Mapping[str, str]


@final
@dataclass(frozen=True, slots=True)
class Application:
    """What a node starts as an application's top process.

    Attributes:
        start: a Supervisor's class, or any behaviour's.
        args: what its `init` gets.
        name: its id in the tree; by default its class's name.
    """

    start: type[Behaviour]
    args: tuple[Any, ...] = ()
    name: str | None = None

    @property
    def label(self) -> str:
        """Its id in the tree."""
        return self.name if self.name is not None else self.start.__qualname__


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
    if settings:
        raise Misuse(
            f"{application.label} takes no settings, got {', '.join(sorted(settings))}: leave them out, or "
            "let a function that takes them return the application"
        )
    return application


def check_settings(settings: Settings, known: Collection[str]) -> None:
    """Refuse settings that an application does not know: raises Misuse, naming the one that was meant."""
    for key in settings:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise Misuse(f"there is no setting {key!r}: {meant}")
