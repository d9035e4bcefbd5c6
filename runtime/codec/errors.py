"""What can be wrong with a value that should travel, and with bytes that should be one.

The texts name types and names, never a value: a hand of cards or a token must not get into a log because it
could not be encoded.
"""

from __future__ import annotations

from ..errors import BanyanError, Misuse


class EncodeError(Misuse):
    """A value that cannot travel: `found` is its type's name. Nothing was encoded."""

    def __init__(self, wanted: str, found: str, advice: str) -> None:
        super().__init__(f"wanted {wanted}, got {found}: {advice}")
        self.found = found


class DecodeError(BanyanError):
    """Bytes that are no value of ours; `wanted` and `found` say how. No object was built from them."""

    def __init__(self, wanted: str, found: str, advice: str = "drop these bytes and their sender") -> None:
        super().__init__(f"wanted {wanted}, got {found}: {advice}")
        self.wanted = wanted
        self.found = found


class UnknownRecord(DecodeError):
    """A record whose name nobody has registered; `name`, `version`."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            "a registered record",
            f"{name!r} version {version}",
            "import the module that declares it, or give an upcaster if it was renamed",
        )
        self.name = name
        self.version = version


class OlderVersion(DecodeError):
    """A record of a version before the class's own and no upcaster for it; `name`, `version`, `current`."""

    def __init__(self, name: str, version: int, current: int) -> None:
        super().__init__(f"{name!r} version {current}", f"version {version}", "give an upcaster for it")
        self.name = name
        self.version = version
        self.current = current


class NewerVersion(DecodeError):
    """A record of a version that this program does not know yet; `name`, `version`, `current`."""

    def __init__(self, name: str, version: int, current: int) -> None:
        super().__init__(f"{name!r} up to version {current}", f"version {version}", "use the program that wrote it")
        self.name = name
        self.version = version
        self.current = current
