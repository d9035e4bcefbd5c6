"""A registry: a process that keeps which processes go by which key, and a value beside each.

A complete example:

    >>> from runtime import Call, GenServer, Registry, call, message
    >>> @message("docs.registry.seats")
    ... class Seats(Call[int]):
    ...     pass
    >>> class Table(GenServer):
    ...     def handle_call(self, request, caller):
    ...         match request:
    ...             case Seats():
    ...                 return 6
    >>> import trio
    >>> from supervisors import Node, Supervisor, child
    >>> class Room(Supervisor):
    ...     def init(self):
    ...         oak = Registry.via("tables", "oak")
    ...         return [child("tables", Registry, name="tables"), child("oak", Table, name=oak)]
    >>> async def main():
    ...     async with Node("docs") as node:
    ...         await node.start(Room)
    ...         return await call(Registry.via("tables", "oak"), Seats())
    >>> trio.run(main)
    6

A registry with unique keys gives each key to one process, and is a place for names: `Registry.via(registry, key)`
is a destination, and a `name=` to start under. One with duplicate keys lets many processes stand under a key, and
`dispatch` hands all of them to a function: a publisher with its subscribers.

A process may stand under any number of keys. It gives all of them up in the instant of its death, before anybody
can see that death. Entries are read and written in the registry's memory, without a message to it and without
waiting, so a plain callback may do it too; between two awaits nobody else changes them.

The registry is the entries' owner: if it ends, processes that stand in it get its exit signal, as if they were
linked with it (Elixir links them). So it stands in the tree before those who use it, under rest_for_one or
one_for_all. The signal of an ordered end (SHUTDOWN) ends them too; NORMAL harms nobody.

Its child spec is `child("tables", Registry, name="tables")`; `child("topics", Registry, "duplicate",
name="topics")` for duplicate keys. Do not use it for names that other nodes must know (that is `global_names`),
nor for a handful of fixed servers (give them local names), nor as a store: a value is gone with its process.

Source: Elixir's `Registry`; OTP's `via`, rules R3, R5, R6.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal, TypeVar, final

from ..errors import Misuse, NoProcess
from ..kernel.ids import Pid, Via
from ..kernel.names import pass_on
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.table import current_process, current_table
from .gen_server import GenServer, Raise

Keys = Literal["unique", "duplicate"]
T = TypeVar("T")


class AlreadyRegistered(Misuse):
    """A unique key belongs to another living process, or to the caller itself; `pid` says who has it."""

    def __init__(self, registry: object, key: object, pid: Pid) -> None:
        super().__init__(
            f"the key {key!r} of registry {registry!r} belongs to {pid}: take another one, or use that one"
        )
        self.key = key
        self.pid = pid


@final
class Registry(GenServer):
    """The process, and the functions on it; a registry is told by its local name, or its pid.

    All of them raise NoProcess if there is no such registry, unless they say otherwise, and none waits.
    """

    def init(self, keys: Keys = "unique") -> None:
        if keys not in ("unique", "duplicate"):
            raise Misuse(f"the keys of a registry are 'unique' or 'duplicate', got {keys!r}")
        self.keys_are = keys
        # Invariant: every entry twice, by its key and by its process, in the order of registering.
        self.__entries: dict[Hashable, list[tuple[Process, Any]]] = {}
        self.__held: dict[Process, dict[Hashable, None]] = {}
        self.__me = current_process()
        self.__me.table.keep(self.__me, self)

    def handle_call(self, request: Any, caller: Caller) -> Raise:
        """Nobody has anything to ask: its functions read its memory."""
        return Raise(Misuse(f"a registry answers no calls, got {request!r}: use the functions of Registry"))

    def handle_cast(self, request: Any) -> None:
        """Nothing is for it; what comes is dropped."""

    def handle_info(self, message: Any) -> None:
        """Nothing is for it; what comes is dropped."""

    def state(self) -> object:
        """The pids and values by key, as `sys.get_state` shows them."""
        return {key: _shown(entries) for key, entries in self.__entries.items()}

    def summary(self) -> str:
        return f"{self.keys_are} keys, {sum(map(len, self.__entries.values()))} entries"

    # -- the books; called in the instant of the change ---------------------------------------------

    def release(self, process: Process) -> None:
        """A process has ended: so have its entries. If it was this registry, all others hear of it."""
        if process is self.__me:
            for one in [*self.__held]:
                self._forget(one)
                one.exit_signal(process.pid, process.exiting, linked=True)
        else:
            self._forget(process)

    def _forget(self, process: Process) -> None:
        for key in [*self.__held.get(process, ())]:
            self._remove(key, process)

    def _add(self, key: Hashable, process: Process, value: object) -> Pid | None:
        """Enter a process; the pid that is in the way, if keys are unique."""
        entries = self.__entries.get(key)
        if entries is None:
            entries = self.__entries[key] = []
        elif self.keys_are == "unique":
            return entries[0][0].pid
        entries.append((process, value))
        self.__held.setdefault(process, {})[key] = None
        self.__me.table.keep(process, self)
        return None

    def _remove(self, key: Hashable, process: Process) -> None:
        """Remove all entries of a process under a key."""
        held = self.__held.get(process)
        if held is None or key not in held:
            return
        left = [entry for entry in self.__entries[key] if entry[0] is not process]
        if left:
            self.__entries[key] = left
        else:
            del self.__entries[key]
        del held[key]
        if not held:
            del self.__held[process]
            self.__me.table.keep_no_more(process, self)

    def _under(self, key: Hashable) -> list[tuple[Process, Any]]:
        return self.__entries.get(key, [])

    def _held_by(self, process: Process | None) -> Iterable[Hashable]:
        return self.__held.get(process, ()) if process is not None else ()

    # -- what one does with it ----------------------------------------------------------------------

    @staticmethod
    def via(registry: str, key: Hashable, value: object = None) -> Via:
        """A unique key as a destination and as the `name=` of a start, which enters `value` beside it (R6)."""
        return Via(_registered, _Key(registry, key, value))

    @staticmethod
    def register(registry: str | Pid, key: Hashable, value: object = None) -> None:
        """Enter the calling process under a key, with a value; under duplicate keys as often as it likes.

        Raises:
            AlreadyRegistered: the key is unique and somebody has it.
        """
        process = current_process()
        taken = _books(registry)._add(key, process, value)
        if taken is not None:
            raise AlreadyRegistered(registry, key, taken)

    @staticmethod
    def unregister(registry: str | Pid, key: Hashable) -> None:
        """Remove all entries of the calling process under a key; it need not have any."""
        process = current_process()
        _books(registry)._remove(key, process)

    @staticmethod
    def lookup(registry: str | Pid, key: Hashable) -> list[tuple[Pid, Any]]:
        """Who stands under a key, and with which values, in the order of registering."""
        return _shown(_books(registry)._under(key))

    @staticmethod
    def keys(registry: str | Pid, pid: Pid) -> list[Hashable]:
        """The keys under which a process stands, each once, in the order of registering."""
        return list(_books(registry)._held_by(pid._process))

    @staticmethod
    def values(registry: str | Pid, key: Hashable, pid: Pid) -> list[Any]:
        """The values of a process's entries under a key."""
        return [value for process, value in _books(registry)._under(key) if process.pid == pid]

    @staticmethod
    def update_value(registry: str | Pid, key: Hashable, update: Callable[[Any], T]) -> T:
        """Put `update(value)` in the place of the value that the calling process has under a unique key.

        Returns the new value. What `update` raises leaves the old one.

        Raises:
            Misuse: the keys are duplicate, or the caller does not stand under this one.
        """
        process, books = current_process(), _books(registry)
        if books.keys_are != "unique":
            raise Misuse(f"the keys of registry {registry!r} are duplicate: which value is meant? Register anew")
        entries = books._under(key)
        if not entries or entries[0][0] is not process:
            raise Misuse(f"{process.pid} does not stand under {key!r} in registry {registry!r}: register it first")
        new = update(entries[0][1])
        entries[0] = (process, new)
        return new

    @staticmethod
    def dispatch(registry: str | Pid, key: Hashable, function: Callable[[list[tuple[Pid, Any]]], object]) -> None:
        """Call `function` with all (pid, value) under a key, in the calling process; not if there are none."""
        entries = Registry.lookup(registry, key)
        if entries:
            function(entries)

    @staticmethod
    def count(registry: str | Pid) -> int:
        """How many entries there are."""
        return sum(map(len, _books(registry).__entries.values()))


def _shown(entries: list[tuple[Process, Any]]) -> list[tuple[Pid, Any]]:
    return [(process.pid, value) for process, value in entries]


def _books(registry: object) -> Registry:
    """The registry that is meant; raises NoProcess if it is none."""
    process = current_table().find(registry)
    if process is None or type(process.behaviour) is not Registry:
        what = "it is not alive" if process is None else f"that is a {process.label}"
        raise NoProcess(f"there is no registry {registry!r}: {what}; declare it with child(..., Registry)", registry)
    return process.behaviour


@final
class _Key:
    """What stands in the place of a name in a Via: which registry, which key; the value is for a start."""

    __slots__ = ("key", "registry", "value")

    def __init__(self, registry: str, key: Hashable, value: object) -> None:
        self.registry = registry
        self.key = key
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is _Key and (self.registry, self.key) == (other.registry, other.key)

    def __hash__(self) -> int:
        return hash((self.registry, self.key))

    def __repr__(self) -> str:
        return f"{self.registry}:{self.key!r}"


@final
class _Registered:
    """OTP's four functions over all registries with unique keys."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Registry"

    def register_name(self, name: Hashable, pid: Pid) -> bool:
        key, process = _key(name), current_table().own(pid)
        books = _books(key.registry)
        if books.keys_are != "unique":
            raise Misuse(f"the keys of registry {key.registry!r} are duplicate, so none of them is a name")
        return process is not None and books._add(key.key, process, key.value) is None

    def unregister_name(self, name: Hashable) -> None:
        key = _key(name)
        books = _books(key.registry)
        for process, _ in books._under(key.key)[:1]:
            books._remove(key.key, process)

    def whereis_name(self, name: Hashable) -> Pid | None:
        key = _key(name)
        process = current_table().names.get(key.registry)
        books = process.behaviour if process is not None else None
        if type(books) is not Registry:
            return None  # a name of a registry that is not there is one that nobody has
        if books.keys_are != "unique":
            raise Misuse(f"the keys of registry {key.registry!r} are duplicate, so none of them is a name")
        entries = books._under(key.key)
        return entries[0][0].pid if entries else None

    def send(self, name: Hashable, message: object) -> Pid:
        return pass_on(self.whereis_name(name), name, message)


_registered = _Registered()


def _key(name: Hashable) -> _Key:
    assert isinstance(name, _Key)
    return name
