"""Deltas: the difference between two absolutes, as few words as it takes, and its application.

An absolute is a value as JSON has it: None, booleans, numbers, text, lists, and dicts with text as keys. A
delta is a list of changes, to be made in order. Each is `[path, value]`, which sets what is at the path, or
`[path]`, which removes it. A path is a list of keys and indices from the outside in; `[]` is the whole. An
index one beyond the end of a list appends.

    >>> before = {"pot": 150, "board": [], "actor": "ann"}
    >>> after = {"pot": 450, "board": ["Kc"]}
    >>> delta = diff(before, after)
    >>> delta
    [[['actor']], [['pot'], 450], [['board', 0], 'Kc']]
    >>> apply(delta, before) == after
    True

Always `apply(diff(a, b), a) == b`, and `diff(a, a)` is empty. Lists are compared place by place: a list that
lost its head is sent as its changed places, which is right but not short. Pure.
Source: JSON Patch (RFC 6902) without its operations that need more than a set and a remove.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ..errors import BanyanError

# Any value of JSON; a recursive alias would be no use to whoever reads the values.
Absolute: TypeAlias = Any
Path: TypeAlias = list[str | int]
Delta: TypeAlias = list[list[Any]]


class BadDelta(BanyanError):
    """A delta that does not fit the value it is applied to: one was lost, so ask for an absolute."""


def diff(before: Absolute, after: Absolute) -> Delta:
    """What changes `before` into `after`; neither is changed, and the delta shares parts with `after`."""
    changes: Delta = []
    _compare(before, after, [], changes)
    return changes


def _compare(before: Absolute, after: Absolute, path: Path, changes: Delta) -> None:
    if before is after:
        return
    kind = type(after)
    if kind is not type(before):  # True is no 1 and 1 is no 1.0, whatever == says
        changes.append([path, after])
    elif kind is dict:
        _compare_dicts(before, after, path, changes)
    elif kind is list:
        _compare_lists(before, after, path, changes)
    elif before != after:
        changes.append([path, after])


def _compare_dicts(before: dict[str, Absolute], after: dict[str, Absolute], path: Path, changes: Delta) -> None:
    changes.extend([[*path, key]] for key in before if key not in after)
    for key, value in after.items():
        if key in before:
            if before[key] is not value:
                _compare(before[key], value, [*path, key], changes)
        else:
            changes.append([[*path, key], value])


def _compare_lists(before: list[Absolute], after: list[Absolute], path: Path, changes: Delta) -> None:
    # From the end, so that each index is right at the moment at which it is used.
    changes.extend([[*path, index]] for index in range(len(before) - 1, len(after) - 1, -1))
    for index, value in enumerate(after):
        if index < len(before):
            _compare(before[index], value, [*path, index], changes)
        else:
            changes.append([[*path, index], value])


def apply(delta: Delta, value: Absolute) -> Absolute:
    """`value` with the changes made. It is not changed itself; the result shares what the delta left alone.

    Raises:
        BadDelta: a change names a place that is not there.
    """
    for change in delta:
        if not isinstance(change, list) or not 1 <= len(change) <= 2 or not isinstance(change[0], list):
            raise BadDelta(f"wanted a change [path, value] or [path], got {change!r}")
        path, *new = change
        if path:
            value = _changed(value, path, 0, new)
        elif new:
            value = new[0]
        else:
            raise BadDelta("the whole cannot be removed")
    return value


def _changed(value: Absolute, path: Path, depth: int, new: list[Absolute]) -> Absolute:
    """A copy of `value` in which the place at `path[depth:]` is set to `new[0]`, or removed."""
    step = path[depth]
    last = depth == len(path) - 1
    if type(value) is dict and type(step) is str:
        copy: Absolute = dict(value)
        there = step in copy
    elif type(value) is list and type(step) is int:
        copy = list(value)
        there = 0 <= step < len(copy)
        if step == len(copy) and last and new:
            copy.append(new[0])
            return copy
        if not there:
            raise BadDelta(f"wanted an index below {len(copy)}, got {step} in {path!r}")
    else:
        raise BadDelta(f"{step!r} of the path {path!r} leads nowhere")
    if not last:
        if not there:
            raise BadDelta(f"{step!r} of the path {path!r} is not there")
        copy[step] = _changed(copy[step], path, depth + 1, new)
    elif new:
        copy[step] = new[0]
    elif there:
        del copy[step]
    else:
        raise BadDelta(f"{step!r} of the path {path!r} is not there and cannot be removed")
    return copy
