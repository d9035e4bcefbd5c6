"""Values that are no records and travel all the same, as a tuple of what they consist of: pids, exit reasons.

They are written as records of version 0, which no `@message` can have. Who declares one says how it is taken apart
and made again, and may refuse either: a pid means something between nodes and nothing in a journal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cbor2 import dumps

from .cbor import _RECORD_TAG, _carried, _head, _Plan, _plans
from .errors import DecodeError

T = TypeVar("T")


def carry(
    cls: type[T], name: str, count: int, take: Callable[[Any], tuple[object, ...]], make: Callable[..., T]
) -> None:
    """Let values of exactly this class travel.

    Args:
        name: unique, and never reused for another meaning.
        count: of how many parts it consists.
        take: the parts of a value; raises EncodeError for one that must not travel.
        make: the value of so many parts, which may be anything; raises DecodeError for wrong ones.
    """
    plan = _Plan.__new__(_Plan)
    plan.cls, plan.count, plan.version, plan.keywords, plan.checks = cls, count, 0, None, None
    plan.take = take
    plan.prefix = _RECORD_TAG + _head(0x80, 2 + count) + dumps(name) + dumps(0)
    plan.skip = len(_head(0x80, count))
    _plans[cls] = plan

    def made(*parts: object) -> object:
        if len(parts) != count:
            raise DecodeError(f"{count} parts of {name!r}", f"{len(parts)}")
        return make(*parts)

    _carried[name] = made
