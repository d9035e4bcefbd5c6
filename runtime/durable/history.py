"""What can be wrong with a process's history though every byte of it is as it was written.

Each error names the key and the position; none of it changes anything, and other processes go on. Pure.
Source: promise P7; event versioning as in Akka's event adapters and Axon's upcasters.
"""

from __future__ import annotations

from ..errors import BanyanError


class HistoryError(BanyanError):
    """A process cannot be made out of its journal; `key`, and `sequence`, the position that it stopped at."""

    def __init__(self, key: str, sequence: int, what: str, advice: str) -> None:
        super().__init__(f"cannot recover {key!r}, entry {sequence}: {what}; {advice}")
        self.key = key
        self.sequence = sequence


class EventNotUpcast(HistoryError):
    """An entry holds a record of an older version, or of an unknown name, and nobody brings it up to date.

    `name`, `version` as written; `current` is the version of today, None if the name is unknown.
    """

    def __init__(self, key: str, sequence: int, name: str, version: int, current: int | None) -> None:
        today = f"today it is of version {current}" if current is not None else "nobody has registered that name"
        super().__init__(
            key,
            sequence,
            f"{name!r} is of version {version}, and {today}",
            "add it to the class's upcast(name, version, fields), or import the module that declares it",
        )
        self.name = name
        self.version = version
        self.current = current


class _Newer(HistoryError):
    _whose = ""

    def __init__(self, key: str, sequence: int, name: str, found: int, supported: int) -> None:
        super().__init__(
            key,
            sequence,
            f"{self._whose}{name!r} is of version {found}, and this program knows up to {supported}",
            "use the program that wrote it, or a newer one",
        )
        self.name = name
        self.found = found
        self.supported = supported


class EventNewer(_Newer):
    """An entry was written by a newer program: `name` (of a record, or "schema"), `found`, `supported`."""


class SnapshotNewer(_Newer):
    """The snapshot was written by a newer program: `name` (of a record, or "schema"), `found`, `supported`."""

    _whose = "its snapshot's "


class StateNotUpcast(HistoryError):
    """A kept state is older than its class, nobody brings it up to date, and its entries are not all there.

    `found`, `wanted` are schemas; `first` is the first entry that is still there.
    """

    def __init__(self, key: str, sequence: int, found: int, wanted: int, first: int) -> None:
        super().__init__(
            key,
            sequence,
            f"its kept state is of schema {found}, not {wanted}, and its entries begin at {first}",
            "add upcast_state(state, schema) to the class",
        )
        self.found = found
        self.wanted = wanted
        self.first = first


class ReplayFailed(HistoryError):
    """The class's own code raised over an event that was committed; `error` is what. It was not skipped."""

    def __init__(self, key: str, sequence: int, what: str, error: Exception) -> None:
        super().__init__(
            key, sequence, f"{what} raised {type(error).__name__}: {error}", "mend the class and start it again"
        )
        self.error = error
        self.__cause__ = error
