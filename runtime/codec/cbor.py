"""Values to bytes and back, exactly: the one encoding of the journal and of the wire.

What travels: None, bool, int, float, str, bytes, tuple, list, dict with str keys, frozenset, members of
enums registered with `enumeration`, and records (`@message`), nested in one another. What comes back equals
what went in and is of the same types. Equal values of equal types give equal bytes: dicts are written in the
order of their keys and sets in the order of their members' bytes.

    >>> decode(encode(("ann", 5, None)))
    ('ann', 5, None)

The bytes are CBOR (RFC 8949). A tuple is a plain array; every other composite value bears a tag of ours, and
no other tag is ever accepted. A record is tag 47616 around `[name, version, *fields]`, so any CBOR reader can
show a journal. cbor2's defaults are not safe against hostile bytes; the settings that are stand here, and
only here: depth, indefinite lengths, duplicate keys, the 23 built-in tags (a decimal with a bignum of 1 MiB
takes it 12 s), and what is left over behind the value, which it ignores. What its settings let pass
(`undefined`, simple values, bare maps, byte-string keys) is refused by a look at every value that comes out.

How it is fast: a record whose fields are all scalars is a prefix of bytes made once per class and one call
into C. A decoder is kept for the next call, because making one costs as much as decoding a small record.

Not promised: the sign and payload of a NaN, and a dict's insertion order (it comes back sorted by key; where
order means something, keep a tuple of pairs).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from io import BytesIO
from operator import attrgetter
from typing import Any, Final, final

import cbor2
from cbor2 import dumps

from ..errors import BanyanError
from ..kernel.messages import UnknownMessage, name_of, registered
from .enums import enum_name, enumeration, member
from .errors import DecodeError, EncodeError, NewerVersion, OlderVersion, UnknownRecord
from .fields import Predicate, fits, hints

__all__ = [
    "MAX_CRAFTABLE",
    "MAX_DEPTH",
    "MAX_INT_BYTES",
    "DecodeError",
    "EncodeError",
    "NewerVersion",
    "OlderVersion",
    "UnknownRecord",
    "Upcast",
    "decode",
    "encode",
    "enumeration",
]

# (registered name, version found, fields as they were written) -> the record as it is today
Upcast = Callable[[str, int, tuple[object, ...]], object]

MAX_DEPTH: Final = 32  # nested arrays, maps and tags; a record, list, dict or set counts twice
MAX_INT_BYTES: Final = 128  # of an int's two's complement, so that arithmetic on hostile ints stays cheap
# Equal hashes are easy to make for tuples, records and large ints, and cost a set quadratic time.
MAX_CRAFTABLE: Final = 256

# First come, first served range of RFC 8949, 9.2. 0xBA.. for Banyan.
_RECORD, _LIST, _DICT, _SET, _INT, _ENUM = range(0xBA00, 0xBA06)
_TAGS = tuple(b"\xd9" + tag.to_bytes(2, "big") for tag in range(0xBA00, 0xBA06))
_RECORD_TAG, _LIST_TAG, _DICT_TAG, _SET_TAG, _INT_TAG, _ENUM_TAG = _TAGS
_BUILT_IN = (
    *(0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100),
    *(256, 258, 260, 261, 1004, 43000, 55799),
)
_LOWEST, _HIGHEST = -(1 << 64), (1 << 64) - 1  # what CBOR writes without a bignum tag
_SCALARS = frozenset({str, bytes, float, bool, type(None)})
_PLAIN = _SCALARS | {int}
# Up to so many items are written one by one: to have C write a tuple costs as much as three scalars, and it has to
# be made sure first that C can.
_FEW: Final = 4
# cbor2 decodes in its immutable mode: arrays come out as tuples, and a bare map as this.
_MAP = type(cbor2.loads(b"\xa0", immutable=True))
# What cbor2 can return that is no value of ours.
_FOREIGN = frozenset({_MAP, cbor2.CBORTag, cbor2.CBORSimpleValue, type(cbor2.undefined), bytearray, set})


@final
class _Plan:
    """What encoding and decoding one record class needs, made on its first use."""

    __slots__ = ("checks", "cls", "count", "keywords", "prefix", "skip", "take", "version")

    def __init__(self, cls: type) -> None:
        name, self.version = name_of(cls)
        self.cls = cls
        fields = dataclasses.fields(cls)
        names = [f.name for f in fields]
        if not all(f.init for f in fields):
            raise EncodeError(
                "a record whose fields are all arguments",
                f"{cls.__qualname__} with init=False",
                "make it a property, or pass it in",
            )
        self.count = len(names)
        self.keywords = names if any(f.kw_only for f in fields) else None
        self.take = _taker(names)
        self.prefix = _RECORD_TAG + _head(0x80, 2 + self.count) + dumps(name) + dumps(self.version)
        self.skip = len(_head(0x80, self.count))
        self.checks: list[Predicate] | None = None  # only untrusted bytes need them

    def check(self, fields: tuple[object, ...]) -> None:
        if self.checks is None:
            found = hints(self.cls)
            self.checks = [fits(found[f.name]) for f in dataclasses.fields(self.cls)]
        for index, predicate in enumerate(self.checks):
            if not predicate(fields[index]):
                field = dataclasses.fields(self.cls)[index]
                raise DecodeError(
                    f"{self.cls.__qualname__}.{field.name} as {field.type}", type(fields[index]).__qualname__
                )


_plans: dict[type, _Plan] = {}
# How values are made again that are no records and travel by `carried`: written as records of version 0.
_carried: dict[str, Callable[..., object]] = {}


def _plan(cls: type) -> _Plan:
    plan = _plans[cls] = _Plan(cls)
    return plan


def _taker(names: list[str]) -> Callable[[Any], tuple[object, ...]]:
    """A function from a record to the tuple of its fields, in C where there are two or more."""
    if not names:
        return lambda record: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda record: (one(record),)
    many: Callable[[Any], tuple[object, ...]] = attrgetter(*names)
    return many


def encode(value: object) -> bytes:
    """The bytes of a value.

    Args:
        value: of exactly the types that the module names, at most MAX_DEPTH levels deep; ints of at most
            MAX_INT_BYTES bytes. Subclasses are refused, because they would come back as their base.

    Raises:
        EncodeError: something in it cannot travel; says what, never its content.
    """
    try:
        return dumps(value) if type(value) in _SCALARS else _encode(value, 0)
    except UnicodeEncodeError as error:
        raise EncodeError("text", "a str with lone surrogates", "send it as bytes") from error


def _encode(value: object, depth: int) -> bytes:
    kind = type(value)
    if kind is tuple:
        return _sequence(value, depth, 0)  # type: ignore[arg-type]  # mypy does not narrow by `type(...) is`
    if kind in _PLAIN:
        return dumps(value) if kind is not int else _int(value)  # type: ignore[arg-type]  # mypy does not narrow by `type(...) is`
    plan = _plans.get(kind)
    if plan is not None:
        return plan.prefix + _sequence(plan.take(value), depth + 1, plan.skip)
    if isinstance(value, list) and kind is list:
        return _LIST_TAG + _sequence(tuple(value), depth + 1, 0)
    if isinstance(value, dict) and kind is dict:
        return _DICT_TAG + _map(value, depth + 1)
    if isinstance(value, frozenset) and kind is frozenset:
        _descend(depth + 1)
        members = sorted([_encode(member, depth + 2) for member in value])
        return _SET_TAG + _head(0x80, len(members)) + b"".join(members)
    if isinstance(value, Enum):
        return _enum(value, depth)
    if "__message__" in kind.__dict__:
        _plan(kind)
        return _encode(value, depth)
    raise EncodeError(
        "a value that can travel",
        f"{kind.__module__}.{kind.__qualname__}",
        "send a scalar, tuple, list, dict, frozenset or a class decorated with @message",
    )


def _sequence(items: tuple[object, ...], depth: int, skip: int) -> bytes:
    """The bytes of an array without its first `skip` bytes, which a record's prefix already holds."""
    count = len(items)
    if count > _FEW and _flat(items, depth):
        return dumps(items)[skip:]
    if depth >= MAX_DEPTH:
        _descend(depth)
    below = depth + 1
    parts = [] if skip else [_SMALL[0x80 | count] if count < 24 else _head(0x80, count)]
    for item in items:
        kind = type(item)
        if kind in _SCALARS or (kind is int and _LOWEST <= item <= _HIGHEST):  # type: ignore[operator]  # mypy knows no type here
            parts.append(dumps(item))
        elif kind is tuple:
            parts.append(_sequence(item, below, 0))  # type: ignore[arg-type]  # likewise
        else:
            parts.append(_encode(item, below))
    return b"".join(parts)


def _flat(items: tuple[object, ...], depth: int) -> bool:
    """Whether C can encode a tuple by itself: nothing in it but scalars and such tuples."""
    _descend(depth)
    for item in items:
        kind = type(item)
        if kind is int:
            if not _LOWEST <= item <= _HIGHEST:  # type: ignore[operator]  # mypy knows no type here
                return False
        elif kind not in _PLAIN and not (kind is tuple and _flat(item, depth + 1)):  # type: ignore[arg-type]  # likewise
            return False
    return True


def _map(value: dict[object, object], depth: int) -> bytes:
    _descend(depth)
    for key in value:
        if type(key) is not str:
            raise EncodeError("a dict whose keys are str", type(key).__qualname__, "send a tuple of pairs")
    ordered = sorted(value.items())  # keys are str and differ: values are never compared
    parts = [_head(0xA0, len(ordered))]
    for key, held in ordered:
        parts.append(dumps(key))
        parts.append(_encode(held, depth + 1))
    return b"".join(parts)


def _int(value: int) -> bytes:
    if _LOWEST <= value <= _HIGHEST:
        return dumps(value)
    size = (value + (value < 0)).bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise EncodeError(f"an int of at most {MAX_INT_BYTES} bytes", f"one of {size}", "send it as bytes")
    return _INT_TAG + dumps(value.to_bytes(size, "big", signed=True))


def _enum(value: Enum, depth: int) -> bytes:
    _descend(depth + 1)
    return _ENUM_TAG + dumps((enum_name(type(value)), value.name))


_SMALL = tuple(bytes((n,)) for n in range(256))
# Where the content of bytes or text begins, by the last five bits of the first byte; 0: nowhere that may be.
_CONTENT = (*(1,) * 24, 2, 3, 5, 9, 0, 0, 0, 0)


def _descend(depth: int) -> None:
    """Refuse what `decode` would refuse: a container with `depth` containers and tags around it."""
    if depth >= MAX_DEPTH:
        raise EncodeError(f"at most {MAX_DEPTH} levels", "more", "flatten the value, or send it in parts")


def _head(major: int, count: int) -> bytes:
    """The first bytes of an array (major 0x80) or map (0xA0) of `count` members."""
    if count < 24:
        return _SMALL[major | count]
    for code, size in ((24, 1), (25, 2), (26, 4)):
        if count < 1 << (8 * size):
            return bytes((major | code,)) + count.to_bytes(size, "big")
    raise EncodeError("a container of fewer than 2**32 members", f"{count}", "send it in parts")


def decode(data: bytes, *, upcast: Upcast | None = None, checked: bool = False) -> object:
    """The value of bytes that `encode` made; of any other bytes, a refusal.

    Safe on hostile bytes: time and memory are bounded by their length (callers bound that), and nothing is
    built but values and registered records, whose `__post_init__` runs.

    Args:
        data: one value and nothing behind it.
        upcast: called with `(name, version, fields)` for a record of an older version, or of a name that
            nobody has registered; what it returns takes the record's place. Without it both are refused.
        checked: also hold every field against its annotation. For sockets. The journal's own bytes bear a
            checksum and skip it: an annotation that was too narrow must not make a committed event
            unreadable.

    Raises:
        DecodeError: with its leaves UnknownRecord, OlderVersion and NewerVersion.
        Misuse: `checked`, and a record's annotations cannot be resolved.
    """
    head = data[0] if data else 0
    if 0x40 <= head < 0x80:
        # Bytes or text, of which the first byte tells. If it is as long as it says there is nothing in it to refuse.
        at = _CONTENT[head & 0x1F]
        size = head & 0x1F if at == 1 else int.from_bytes(data[1:at], "big")
        if at and size == len(data) - at:
            try:
                return bytes(data[at:]) if head < 0x60 else str(data[at:], "utf-8")
            except UnicodeDecodeError:
                pass  # it is refused below, as all else is
    try:
        reader = _idle.pop()
    except IndexError:
        reader = _Reader()
    reader.upcast = upcast
    reader.checked = checked
    value = reader.read(data)
    # One that raised is not kept: nothing is known of its state.
    reader.upcast = None
    _idle.append(reader)
    return value


@final
class _Reader:
    """A cbor2 decoder with safe settings, and what one call of `decode` asked for."""

    __slots__ = ("_decoder", "checked", "upcast")

    def __init__(self) -> None:
        self.upcast: Upcast | None = None
        self.checked = False
        self._decoder = cbor2.CBORDecoder(
            BytesIO(),
            tag_hook=self._tag,
            semantic_decoders=dict.fromkeys(_BUILT_IN, _built_in),
            read_size=65536,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )

    def read(self, data: bytes) -> object:
        stream = BytesIO(data)
        self._decoder.fp = stream
        told: BaseException | None = None
        value: object = None
        try:
            value = self._decoder.decode(immutable=True)
        except cbor2.CBORError as error:
            told = _told(error)
        except (ValueError, OverflowError, MemoryError, RecursionError) as error:
            raise DecodeError("one encoded value", _kind(error)) from error
        if told is not None:
            raise told  # out here, so that it keeps its own first cause
        if stream.tell() != len(data):
            raise DecodeError("one encoded value", f"{len(data) - stream.tell()} bytes more")
        _own((value,))
        return value

    def _tag(self, tagged: cbor2.CBORTag, immutable: bool) -> object:
        tag, value = tagged.tag, tagged.value
        if type(value) is tuple:
            _own(value)
            if tag == _RECORD:
                return self._record(value)
            if tag == _LIST:
                return list(value)
            if tag == _SET:
                return self._set(value)
            if tag == _ENUM:
                return member(value)
        elif tag == _DICT:
            return _dict(value)
        elif tag == _INT:
            return _big(value)
        raise DecodeError("a tag of ours around what it announces", f"tag {tag}")

    def _record(self, parts: tuple[Any, ...]) -> object:
        if len(parts) < 2 or type(parts[0]) is not str or type(parts[1]) is not int or parts[1] < 1:
            if parts[1:2] == (0,) and type(parts[1]) is int and parts[0] in _carried:
                return _carried[parts[0]](*parts[2:])
            raise DecodeError("[name, version, *fields]", "another array")
        name: str = parts[0]
        version: int = parts[1]
        fields = parts[2:]
        try:
            cls = registered(name)
        except UnknownMessage:
            if self.upcast is None:
                raise UnknownRecord(name[:200], version) from None
            return self._older(name, version, fields)
        plan = _plans.get(cls) or _plan(cls)
        if version != plan.version:
            if version > plan.version:
                raise NewerVersion(name, version, plan.version)
            if self.upcast is None:
                raise OlderVersion(name, version, plan.version)
            return self._older(name, version, fields)
        if len(fields) != plan.count:
            raise DecodeError(f"{plan.count} fields of {name!r} version {version}", f"{len(fields)}")
        if self.checked:
            plan.check(fields)
        try:
            if plan.keywords is not None:
                return cls(**dict(zip(plan.keywords, fields, strict=True)))
            return cls(*fields)
        except Exception as error:  # allowed: a record's own __post_init__ may refuse with anything
            raise DecodeError(f"fields that {name!r} accepts", _kind(error)) from error

    def _older(self, name: str, version: int, fields: tuple[object, ...]) -> object:
        assert self.upcast is not None
        try:
            return self.upcast(name, version, fields)
        except BanyanError:
            raise
        except Exception as error:  # allowed: an upcaster is the application's code
            raise DecodeError(
                f"{name!r} version {version} brought up to date", _kind(error), "mend its upcaster"
            ) from error

    def _set(self, members: tuple[object, ...]) -> frozenset[object]:
        if self.checked and sum(map(_craftable, members)) > MAX_CRAFTABLE:
            raise DecodeError(f"at most {MAX_CRAFTABLE} composite members of a set", "more")
        try:
            made = frozenset(members)
        except TypeError as error:
            raise DecodeError("members of a set", "one that cannot be hashed") from error
        if len(made) != len(members):
            raise DecodeError("members of a set once each", "one twice")
        return made


# Readers that wait for the next call. Popping and appending are atomic, so that threads and a decode inside
# an upcaster each have their own; there are never more than calls were running at one time.
_idle: list[_Reader] = []


def _own(values: tuple[object, ...]) -> None:
    """Refuse what cbor2's settings let through: values that `encode` never makes."""
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is tuple:
            _own(value)  # type: ignore[arg-type]  # mypy does not narrow by `type(...) is`
        elif kind in _FOREIGN:
            raise DecodeError("a value of ours", f"a bare {kind.__qualname__}")


def _dict(value: object) -> dict[str, object]:
    if type(value) is not _MAP:
        raise DecodeError("a map behind its tag", type(value).__qualname__)
    held: dict[str, object] = dict(value)  # type: ignore[call-overload]  # the stub's frozendict is a Mapping of unknown types
    for key in held:
        if type(key) is not str:
            raise DecodeError("a map whose keys are text", type(key).__qualname__)
    _own(tuple(held.values()))
    return held


def _big(value: object) -> int:
    if type(value) is not bytes or len(value) > MAX_INT_BYTES:
        raise DecodeError(f"an int of at most {MAX_INT_BYTES} bytes", "another")
    number = int.from_bytes(value, "big", signed=True)
    if _LOWEST <= number <= _HIGHEST:
        raise DecodeError("a small int without a tag", "one with it")
    return number


def _craftable(member: object) -> bool:
    """Whether many values with its hash are easy to make: all but text, bytes and what is small."""
    kind = type(member)
    if kind is int:
        return abs(member) >> 60 > 0  # type: ignore[arg-type]  # mypy does not narrow here
    return kind not in _PLAIN


def _built_in(value: object, immutable: bool) -> object:
    raise DecodeError("values of ours", "one of CBOR's own tags")


def _kind(error: Exception) -> str:
    return f"a {type(error).__name__}"


def _told(error: cbor2.CBORError) -> BaseException:
    """The error to raise: cbor2 wraps whatever one of our callbacks raised, interrupts too."""
    cause = error.__cause__
    if cause is not None and (isinstance(cause, BanyanError) or not isinstance(cause, Exception)):
        return cause
    if isinstance(error, cbor2.CBORDecodeEOF):
        return DecodeError("one encoded value", "fewer bytes than it announces")
    return DecodeError("one encoded value", str(error)[:200])
