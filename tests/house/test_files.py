"""Every file of the project: its length, its docstring, its suppressions, and what it must not name."""

from __future__ import annotations

import ast
import re
import subprocess

import pytest

from tests.support.source import ROOT, Source, has_reason, project_files, sources, text_files

CODE = ("runtime", "supervisors", "game", "tests", "benchmarks", "examples")
MOST_LINES = 800

# What silences a checker, with the rule that it silences.
SUPPRESSION = re.compile(
    r"#\s*(?:noqa(?P<noqa>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?"
    r"|(?:type|pyright|mypy):\s*ignore(?P<type>\[[\w\s,-]+\])?"
    r"|pragma:\s*no\s*(?P<cover>cover|branch)"
    r"|fmt:\s*(?P<fmt>off|skip)"
    r"|ruff:\s*noqa(?P<file>:\s*[A-Z]+[0-9]+)?)(?P<rest>.*)"
)


def unexplained_suppressions(source: Source) -> list[str]:
    """`path:line` of each suppression that names no rule or gives no reason on its line."""
    bare: list[str] = []
    if not SUPPRESSION.search(source.text):
        return bare  # taking a file to pieces is slow
    for line, comment in source.comments.items():
        found = SUPPRESSION.search(comment)
        if found and not (any(v for k, v in found.groupdict().items() if k != "rest" and v)):
            bare.append(f"{source.path}:{line}: names no rule")
        elif found and not has_reason(found["rest"]) and not has_reason(comment[: found.start()]):
            bare.append(f"{source.path}:{line}: gives no reason")
    return bare


def test_no_file_is_over_800_lines() -> None:
    """A file over 800 lines holds more than one notion."""
    long = {s.path: n for s in sources(*CODE) if (n := s.text.count("\n")) > MOST_LINES}
    assert long == {}


def test_every_module_opens_with_a_docstring() -> None:
    """Every module says in its first sentence what it is; only an empty __init__ has nothing to say."""
    silent = [s.path for s in sources(*CODE) if not s.opens_with_a_string and s.tree.body]
    assert silent == []


def test_every_folder_of_tests_is_a_package() -> None:
    """Two test files may bear one name because every folder is a package."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert sorted(f.as_posix() for f in folders if not (f / "__init__.py").exists()) == []


def test_every_suppression_names_its_rule_and_its_reason() -> None:
    """Whoever silences a checker says which rule, and why, on the same line."""
    assert [line for source in sources(*CODE) for line in unexplained_suppressions(source)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x = 1  # noqa", 1),
        ("x = 1  # noqa: E501", 1),
        ("x = 1  # noqa: E501  # the table reads better in one line", 0),
        ("x = 1  # type: ignore", 1),
        ("x = 1  # type: ignore  # a stub is missing here", 1),
        ("x = 1  # type: ignore[attr-defined]", 1),
        ("x = 1  # type: ignore[attr-defined]  # no stub has it", 0),
        ("x = 1  # pragma: no cover", 1),
        ("x = 1  # no type: its reason is told elsewhere", 0),
    ],
)
def test_a_bare_suppression_is_found(line: str, found: int) -> None:
    """A suppression without a rule or without a reason is found; one with both is left alone."""
    assert len(unexplained_suppressions(Source("a.py", line))) == found


def test_every_skipped_test_says_why() -> None:
    """skip, skipif and xfail carry a reason."""
    mute = []
    for source in sources("tests"):
        if not re.search(r"skip|xfail", source.text):
            continue
        callees = {id(node.func) for node in source.nodes if isinstance(node, ast.Call)}
        for node in source.nodes:
            mark = node.func if isinstance(node, ast.Call) else node
            name = source.name_of(mark) or ""
            if not re.fullmatch(r"pytest\.mark\.(skip|skipif|xfail)", name):
                continue
            keywords = [k.arg for k in node.keywords] if isinstance(node, ast.Call) else []
            if id(node) not in callees and "reason" not in keywords:
                mute.append(f"{source.path}:{getattr(node, 'lineno', 0)}")
    assert mute == []


def test_every_ignored_lint_rule_has_its_reason_beside_it() -> None:
    """In pyproject.toml a rule that is switched off says why on its line."""
    text = (ROOT / "pyproject.toml").read_text()
    ignored = re.search(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    files = re.search(r"^\[tool\.ruff\.lint\.per-file-ignores\]\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert ignored is not None
    assert files is not None
    lines = [*ignored[1].splitlines(), *files[1].splitlines()]
    assert [line for line in lines if not has_reason(line.partition("#")[2])] == []


# Spelled so that these lines do not match themselves.
HOSTS = re.compile(
    r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian|index[-]url"
    r"|registry = [\"]http|[\"]resolved[\"]: [\"]http"
)
HERE = re.compile(r"(?<![\w.-])/(?:work|root|home/\w+)/")


def test_no_file_names_a_package_host() -> None:
    """Where packages come from is the business of whoever installs them."""
    assert [path for path, text in text_files() if HOSTS.search(text)] == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    """Paths are relative to the project, or come in from outside."""
    assert [path for path, text in text_files() if HERE.search(text)] == []


def test_no_lock_file_belongs_to_the_project() -> None:
    """Versions are pinned as constraints in pyproject.toml; a lock file would carry addresses."""
    locks = {"uv.lock", "pylock.toml", "poetry.lock", "package-lock.json", "Pipfile.lock"}
    assert [path.name for path in project_files() if path.name in locks] == []


def test_what_tools_leave_behind_is_ignored() -> None:
    """After a run of everything, git sees no new file."""
    if not (ROOT / ".git").exists():
        return  # an unpacked archive has nothing to keep clean
    left = [".venv/x", "uv.lock", "build/x", "dist/x", "runtime/__pycache__/x", ".hypothesis/x"]
    command = ["git", "check-ignore", *left]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == left
