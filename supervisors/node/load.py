"""Loading an application by the name that the operator gave: `module:attribute`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from runtime.errors import BanyanError

from ..application import Application, Settings, as_application


class UnknownApplication(BanyanError):
    """No application can be had under a name: `what`, `why`, what to do `next`; exit code 2."""

    code = 2

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why}; {next}")
        self.what = what
        self.why = why
        self.next = next


def put_folder_first(folder: Path) -> None:
    """Look for modules in `folder` before anywhere else, so that a user's own packages win."""
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry not in ("", str(folder)))]


def load_application(name: str, settings: Settings) -> Application:
    """Import `module:attribute` and make it an Application.

    Raises UnknownApplication, also for what the module or its function raises: a node that cannot be told
    what to run does not start.
    """
    module_name, colon, attribute = name.partition(":")
    what = f"unknown application {name!r}"
    if not colon or not module_name or not attribute:
        why = "an application is named module:attribute"
        raise UnknownApplication(what, why, "name it like game.app:application")
    try:
        thing: object = importlib.import_module(module_name)  # allowed: the operator names what to load
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise _broken(what, f"module {module_name} cannot be imported", error) from error
        why = f"there is no module {error.name!r} in {sys.path[0]} or among what is installed"
        raise UnknownApplication(what, why, "check the name, and in which folder you are") from None
    except (Exception, SystemExit) as error:  # whatever the application's own module raises meanwhile
        raise _broken(what, f"module {module_name} cannot be imported", error) from error
    for part in attribute.split("."):
        if not hasattr(thing, part):
            why = f"module {module_name} has no {attribute!r}"
            offers = ", ".join(_offers(thing)) or "none"
            raise UnknownApplication(what, why, f"applications that it does have: {offers}")
        thing = getattr(thing, part)
    try:
        return as_application(thing, settings)  # type: ignore[arg-type]  # what it is, the function finds out
    except BanyanError as error:
        raise UnknownApplication(
            f"application {name!r} cannot be started", str(error), "mend it, or its settings"
        ) from error
    except Exception as error:  # whatever the application's own function raises
        raise _broken(f"application {name!r} cannot be started", "its function failed", error) from error


def _broken(what: str, why: str, error: BaseException) -> UnknownApplication:
    """The application's own mistake, with the place where it was made."""
    place = ""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}:{error.lineno})"
    elif frames:
        place = f" ({frames[-1].filename}:{frames[-1].lineno})"
    return UnknownApplication(what, f"{why}: {type(error).__name__}: {error}{place}", "mend it, then start again")


def _offers(module: object) -> list[str]:
    found = []
    for name, thing in sorted(vars(module).items()):
        if isinstance(thing, Application):
            found.append(name)
        elif isinstance(thing, type) and thing.__module__ == getattr(module, "__name__", None):
            if getattr(thing, "child_type", None) == "supervisor":
                found.append(name)
    return found
