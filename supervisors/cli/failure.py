"""How a command says that it did not do what it should: what, why, what to do next, and an exit code.

Stands on the standard library alone, because the first command that fails may be one that was misspelt.
"""

from __future__ import annotations

import enum
import sys
from typing import final


@final
class Exit(enum.IntEnum):
    """The exit codes of all commands, besides 130 and 143 for an end by signal."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMEOUT = 6


class Failure(Exception):
    """A command's end other than 0; `main` prints its three parts and exits with `code`."""

    def __init__(self, what: str, why: str, next: str, code: int = Exit.FAILED) -> None:
        super().__init__(f"{what}: {why}; {next}")
        self.what = what
        self.why = why
        self.next = next
        self.code = code


def report(what: str, why: str, next: str) -> None:
    """Print the three parts to stderr, with control characters spelled out: not all of it is ours."""
    for label, text in (("what", what), ("why", why), ("next", next)):
        lines = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in text.splitlines()]
        first, *rest = lines or [""]
        print(f"{label}: {first}", *(" " * (len(label) + 2) + line for line in rest), sep="\n", file=sys.stderr)
