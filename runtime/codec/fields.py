"""Whether decoded field values are of the types that a record declares.

`fits` turns one annotation into one predicate, once per class; a decoder then asks each field's predicate.
Nothing is converted: a value fits as it is or is refused, so that what was sent is what is handled. A record
inside a record is asked for its class only, because its own fields were asked when it was decoded.

Source: PEP 484 and PEP 604 for what an annotation means, among them that an int may stand for a float.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Callable
from enum import Enum

from ..errors import Misuse

Predicate = Callable[[object], bool]

_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping)
_SETS = (frozenset, collections.abc.Set)


def hints(record: type) -> dict[str, object]:
    """The resolved annotations of a record by field name.

    Raises:
        Misuse: an annotation names something that cannot be found at run time, such as a name that is
            imported under TYPE_CHECKING only. Untrusted bytes cannot be checked against it.
    """
    try:
        return typing.get_type_hints(record)
    except (NameError, TypeError, AttributeError) as error:
        raise Misuse(
            f"wanted field types of {record.__qualname__} that can be read at run time, got one that cannot "
            f"({error}): import the type in the module that declares the record, not under TYPE_CHECKING only"
        ) from error


def fits(annotation: object) -> Predicate:
    """A predicate that says whether a value is of an annotation's type.

    Args:
        annotation: a resolved annotation: a class, a union, a literal, a tuple, list, dict or frozenset with
            or without the types of its members, an enum, a record, a type variable, `object` or `Any`.

    Raises:
        Misuse: the annotation means nothing for values that travel, such as a callable.
    """
    if annotation is object or annotation is typing.Any:
        return lambda value: True
    if annotation is None or annotation is type(None):
        return lambda value: value is None
    if isinstance(annotation, typing.TypeVar):
        bound = annotation.__constraints__ or (annotation.__bound__ or object,)
        return _any_of(bound)
    if isinstance(annotation, typing.NewType):
        return fits(annotation.__supertype__)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return fits(arguments[0])
    if origin is typing.Union or origin is types.UnionType:
        return _any_of(arguments)
    if origin is typing.Literal:
        allowed = [(type(a), a) for a in arguments]
        return lambda value: (type(value), value) in allowed
    if isinstance(origin, type):
        return _members(origin, arguments)
    if isinstance(annotation, type):
        return _members(annotation, ())
    raise Misuse(
        f"wanted a field type whose values can travel, got {annotation!r}: "
        "declare a scalar, a tuple, list, dict, frozenset, enum or record, or a union of these"
    )


def _any_of(annotations: tuple[object, ...]) -> Predicate:
    predicates = [fits(a) for a in annotations]
    return lambda value: any(p(value) for p in predicates)


def _members(kind: type, arguments: tuple[object, ...]) -> Predicate:
    """A class, with the types of its members if it is a container that names them."""
    if kind is float:
        return lambda value: type(value) is float or type(value) is int
    if kind is tuple:
        return _tuple(arguments)
    if kind in _SEQUENCES:
        item = fits(arguments[0]) if arguments else None
        wanted: tuple[type, ...] = (list,) if kind is list else (list, tuple)
        return lambda value: type(value) in wanted and _all(item, value)
    if kind in _SETS:
        item = fits(arguments[0]) if arguments else None
        return lambda value: type(value) is frozenset and _all(item, value)
    if kind in _MAPPINGS:
        held = fits(arguments[1]) if len(arguments) == 2 else None
        return lambda value: type(value) is dict and _all(held, value.values())
    if kind in (int, str, bytes, bool, list, dict):
        return lambda value: type(value) is kind
    if issubclass(kind, Enum):
        return lambda value: type(value) is kind
    return lambda value: isinstance(value, kind)


def _tuple(arguments: tuple[object, ...]) -> Predicate:
    if not arguments:
        return lambda value: type(value) is tuple
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = fits(arguments[0])
        return lambda value: type(value) is tuple and _all(item, value)
    items = [fits(a) for a in arguments]

    def fits_each(value: object) -> bool:
        return (
            type(value) is tuple and len(value) == len(items) and all(p(v) for p, v in zip(items, value, strict=True))
        )

    return fits_each


def _all(item: Predicate | None, values: object) -> bool:
    assert isinstance(values, collections.abc.Iterable)
    return item is None or all(item(v) for v in values)
