"""The project's own files as the house tests see them: text, comments, syntax tree, and full names.

A checker asks for `sources("runtime")`, walks `source.tree`, and asks `source.name_of(node)` what a name
or attribute stands for once the file's imports are taken into account.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("runtime", "supervisors", "game")

# A reason is words, not a mark: three letters in a row at least twice.
_REASON = re.compile(r"[^\W\d_]{2,}.*[^\W\d_]{3,}")
# Tokens before and between statements.
_NOTHING = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL}
_ALLOWED = re.compile(r"#\s*allowed:(.*)")


def has_reason(text: str) -> bool:
    """Whether some text says something, rather than only being there."""
    return bool(_REASON.search(text))


@dataclass(frozen=True)
class Source:
    """One Python file: `path` is relative to the project, with forward slashes."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree; walked once for all who look for something."""
        return list(ast.walk(self.tree))

    @functools.cached_property
    def opens_with_a_string(self) -> bool:
        """Whether its first statement is a string that says something; the rest is not looked at."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        told = [t for t, _ in zip((t for t in tokens if t.type not in _NOTHING), range(2), strict=False)]
        if [token.type for token in told] == [tokenize.STRING, tokenize.NEWLINE]:
            return bool(ast.literal_eval(told[0].string).strip())
        return bool(ast.get_docstring(self.tree))

    @functools.cached_property
    def names(self) -> list[tuple[int, str]]:
        """Every (line, full dotted name) that is mentioned."""
        named = ((node, self.name_of(node)) for node in self.nodes if isinstance(node, ast.Name | ast.Attribute))
        return [(node.lineno, name) for node, name in named if name is not None]

    @functools.cached_property
    def comments(self) -> dict[int, str]:
        """Each line's comment, from its `#` to its end."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @functools.cached_property
    def _imported(self) -> dict[str, str]:
        # What a bare name stands for, from every import of the file, wherever it is written. A relative
        # import is spelled out with the file's own package.
        package = self.path.removesuffix(".py").split("/")[:-1]
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        names[alias.asname] = alias.name
                    else:
                        top = alias.name.partition(".")[0]
                        names[top] = top
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{module}.{alias.name}"
        return names

    def name_of(self, node: ast.AST) -> str | None:
        """The full dotted name that a name or attribute stands for: `time.time` after `import time as t`.

        A name the file does not import stands for itself. None for anything that is not a dotted name.
        """
        match node:
            case ast.Name(id=name):
                return self._imported.get(name, name)
            case ast.Attribute(value=value, attr=attr):
                head = self.name_of(value)
                return f"{head}.{attr}" if head else None
        return None

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every (line, full name) that the file imports; `from a import b` gives `a.b`."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node.lineno, self._imported[alias.asname or alias.name]

    def is_allowed(self, line: int) -> bool:
        """Whether the line says `# allowed: why`, with a why."""
        found = _ALLOWED.search(self.comments.get(line, ""))
        return found is not None and has_reason(found.group(1))


@functools.cache
def read(path: Path) -> Source:
    """One file of the project, read and parsed once in a run."""
    return Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def sources(*rooms: str) -> list[Source]:
    """Every Python file under the named top folders, in order of path. A missing folder has none."""
    paths = (path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    return [read(path) for path in paths]


def project_files() -> list[Path]:
    """Every file that belongs to the project: what git tracks or would, or all that is not hidden."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no git
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts)
            and "__pycache__" not in path.parts
        ]
    return sorted(path for path in paths if path.is_file())


def text_files() -> list[tuple[str, str]]:
    """The (path, text) of every project file that is text."""
    found = []
    for path in project_files():
        raw = path.read_bytes()
        if b"\0" not in raw:
            found.append((path.relative_to(ROOT).as_posix(), raw.decode("utf-8", errors="replace")))
    return found
