"""Mistakes in the class of a durable process, told before they do harm: hooks that wait, a lost `return`."""

from __future__ import annotations

import dis
import inspect
import typing
from collections.abc import Iterable
from itertools import pairwise
from types import FunctionType, UnionType
from typing import Any

from ..errors import Misuse


def check_plain(kind: type, hooks: Iterable[str]) -> None:
    """Raises Misuse if one of these hooks of a class is a coroutine function."""
    for name in hooks:
        if inspect.iscoroutinefunction(getattr(kind, name, None)):
            said = f"{kind.__qualname__}.{name} must not wait, and is async"
            raise Misuse(f"{said}: make it a plain def, and wait in reconcile, or in another process")


def check_applied(kind: type, before: object, events: Iterable[object]) -> None:
    """Raises Misuse if `apply` has made a state to None that it never means to be None."""
    if before is None or _may_be_none(getattr(kind, "apply", None)):
        return
    made = " and ".join(dict.fromkeys(type(event).__qualname__ for event in events))
    raise Misuse(f"{kind.__qualname__}.apply returned None for {made}: return the state after it")


def _may_be_none(apply: Any) -> bool:
    """Whether None may be what is meant: unless it is said to return something else, or returns nothing at all."""
    if not isinstance(apply, FunctionType):
        return True
    try:
        hints = typing.get_type_hints(apply)
    except Exception:  # allowed: names that are known to type checkers only
        return True
    if "return" in hints:
        said = typing.get_origin(hints["return"]) or hints["return"]
        return not isinstance(said, type) or said in (object, Any, type(None), UnionType)
    code = pairwise(dis.get_instructions(apply))
    # A return to which another branch jumps may return what that has.
    returned = [(before, one.is_jump_target) for before, one in code if one.opname == "RETURN_VALUE"]
    return any(joins or one.opname != "LOAD_CONST" or one.argval is not None for one, joins in returned)
