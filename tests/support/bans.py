"""What a ban is, and how a file is judged by one.

A ban is on names (any mention of them, called or not), on imports, or on a shape of the syntax tree. It
knows the few files that may break it, each with its reason; a single line is let off by `# allowed: why`.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from .source import Source, has_reason

Shape = Callable[[Source], Iterator[int]]


@dataclass(frozen=True)
class Ban:
    """`what` must not stand in `rooms`, but in the files that `allowed` names with a reason.

    Args:
        what: what is banned, in a few words; the test's id.
        instead: what to write in its place.
        names: full dotted names, with `*` for any run of characters.
        imports: full dotted names that must not be imported, likewise.
        shapes: functions that yield the lines on which a file does it.
        rooms: the folders in which the ban holds.
        allowed: path pattern to reason.
    """

    what: str
    instead: str
    names: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ()
    rooms: tuple[str, ...] = ("runtime", "supervisors", "game")
    allowed: Mapping[str, str] = field(default_factory=dict)

    def lines(self, source: Source) -> Iterator[int]:
        """Every line of a file that breaks the ban, also those that bear a reason."""
        for line, name in source.names:
            if _matches(name, self.names):
                yield line
        for line, name in source.imports():
            if _matches(name, self.imports):
                yield line
        for shape in self.shapes:
            yield from shape(source)

    def violations(self, source: Source) -> list[str]:
        """`path:line: what; instead` for each line that breaks the ban without leave."""
        if any(fnmatch.fnmatchcase(source.path, pattern) for pattern in self.allowed):
            return []
        lines = {line for line in self.lines(source) if not source.is_allowed(line)}
        return [f"{source.path}:{line}: {self.what}; {self.instead}" for line in sorted(lines)]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def definitions(name: str) -> Shape:
    """Functions and methods of that name."""

    def find(source: Source) -> Iterator[int]:
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                yield node.lineno

    return find


def keywords(**banned: object) -> Shape:
    """Calls with one of these keyword arguments at this constant value."""

    def find(source: Source) -> Iterator[int]:
        for node in source.nodes:
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                if node.arg in banned and node.value.value is banned[node.arg]:
                    yield node.value.lineno

    return find


def seedless_random(source: Source) -> Iterator[int]:
    """`random.Random()` without a seed, which asks the operating system for one."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and source.name_of(node.func) == "random.Random" and not node.args:
            yield node.lineno


def ordered_by_id(source: Source) -> Iterator[int]:
    """Sorting, or taking the least, by `id`: an address, other in each run."""
    for node in source.nodes:
        if isinstance(node, ast.keyword) and node.arg == "key":
            if any(isinstance(part, ast.Name) and part.id == "id" for part in ast.walk(node.value)):
                yield node.value.lineno


def catch_all(source: Source) -> Iterator[int]:
    """A handler for every exception that neither raises it again nor says on its line why not."""
    for node in source.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = any(k is None or source.name_of(k) in {"Exception", "BaseException"} for k in kinds)
        last = node.body[-1]
        raises_again = isinstance(last, ast.Raise) and last.exc is None
        if broad and not raises_again and not has_reason(source.comments.get(node.lineno, "")):
            yield node.lineno
