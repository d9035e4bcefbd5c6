"""A partition supervisor: the same child several times, and keys that are spread over them.

    class Counters(PartitionSupervisor):
        partitions = 4

        def init(self):
            return child("counter", Counter)

    # As a child: child("counters", Counters, name="counters")
    total = await call(partition_of("counters", "ann"), Add(1))

What must be done one by one for a key, but not for all keys, is done by as many processes as there are
partitions. The children are called `counter-0`, `counter-1` and so on; they start in that order and are
restarted as `strategy` says. A key always belongs to the same partition, in every run and on every node; a
restarted partition is a new process under the same number. Their number is fixed while the supervisor lives.

Do not use it where one process for each key is wanted: that is a `DynamicSupervisor` and names.

Source: Elixir `PartitionSupervisor`.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar, cast

from runtime.errors import Misuse, NoProcess
from runtime.kernel.api import send_nowait
from runtime.kernel.ids import Pid, Via
from runtime.kernel.table import Destination, current_table

from . import strategy as machines
from .specs import BadSpec, check_children, check_flags, check_spec
from .supervisor import Supervisor


class PartitionSupervisor(Supervisor):
    """Say in `init` what a partition is, in `partitions` how many there are (an int from 1 up)."""

    partitions: ClassVar[int] = 0

    def init(self, *args: Any) -> Any:
        """Runs first, with the arguments of the start. Returns the child spec of a partition, or IGNORE."""
        raise NotImplementedError(f"{type(self).__qualname__} has no init that returns what a partition is")

    def arguments(self, args: tuple[Any, ...], number: int) -> tuple[Any, ...]:
        """Runs once for each partition: what it is started with, made of those of the spec and its number."""
        return args

    def _make_machine(self, children: Any) -> machines.Machine:
        whose = type(self).__qualname__
        template = check_spec(children)
        flags = check_flags(self.flags())
        if type(self.partitions) is not int or self.partitions < 1:
            raise BadSpec(f"partitions of {whose} says how many there are, an int from 1 up, got {self.partitions!r}")
        if flags.strategy == "simple_one_for_one":
            raise BadSpec(f"{whose} has a fixed number of children: its strategy cannot be simple_one_for_one")
        if template.name is not None:
            raise BadSpec(f"{whose} starts {template.id!r} several times: leave its name out, and use partition_of")
        specs = [
            replace(template, id=f"{template.id}-{number}", args=self.arguments(template.args, number))
            for number in range(self.partitions)
        ]
        return machines.StaticMachine(flags, check_children(specs, flags), fixed=True)

    def _pid_of(self, key: Hashable) -> Pid | None:
        children = self.overview().children
        return children[number_of(key, len(children))].pid


def partition_of(supervisor: Destination, key: Hashable) -> Via:
    """The destination for a key: for `call`, `cast`, `send`, `monitor`, and whoever else takes a destination.

    It is looked up whenever it is used, so it may be kept.

    Args:
        supervisor: a partition supervisor's name or pid.
        key: an int, text, bytes, None, a pid, or a tuple of such. An int is taken modulo the number of partitions.

    Raises:
        Misuse: the key is of another type.
    """
    number_of(key, 1)
    return Via(_PARTITIONS, (supervisor, key))


def partition_count(supervisor: Destination) -> int:
    """How many partitions there are. Raises NoProcess, and Misuse if it is no partition supervisor."""
    return len(_find(supervisor).overview().children)


def number_of(key: object, count: int) -> int:
    """Which of `count` partitions a key belongs to: the same in every run, unlike Python's own `hash`."""
    if isinstance(key, int):
        return key % count
    return zlib.crc32(_bytes_of(key)) % count


def _bytes_of(key: object) -> bytes:
    # Each kind has a letter and each part a length, so that no two keys look the same.
    match key:
        case str():
            return b"s" + key.encode("utf-8", "surrogatepass")
        case bytes():
            return b"b" + key
        case int():
            return b"i%d" % key
        case None:
            return b"n"
        case Pid():
            return b"p%d.%d" % (key.creation, key.number) + key.node.encode()
        case tuple():
            parts = [_bytes_of(part) for part in key]
            return b"t" + b"".join(b"%d:" % len(part) + part for part in parts)
    raise Misuse(f"a partition's key is an int, text, bytes, None, a pid, or a tuple of such, got {key!r}")


def _find(supervisor: Destination) -> PartitionSupervisor:
    process = current_table().find(supervisor)
    if process is None:
        raise NoProcess(f"{supervisor!r} is not alive", supervisor)
    if not isinstance(process.behaviour, PartitionSupervisor):
        raise Misuse(f"{supervisor!r} is no partition supervisor but a {process.label}")
    return process.behaviour


class _Partitions:
    """The registry behind `partition_of`: it only looks up; names are given by the supervisor."""

    def register_name(self, name: Hashable, pid: Pid, /) -> bool:
        return False

    def unregister_name(self, name: Hashable, /) -> object:
        return None

    def whereis_name(self, name: Hashable, /) -> Pid | None:
        supervisor, key = cast("tuple[Destination, Hashable]", name)  # made by `partition_of`
        try:
            return _find(supervisor)._pid_of(key)
        except NoProcess:
            return None

    def send(self, name: Hashable, message: object, /) -> object:
        pid = self.whereis_name(name)
        if pid is None:
            raise NoProcess(f"the partition of {name!r} is not alive", name)
        send_nowait(pid, message)
        return None


_PARTITIONS = _Partitions()
