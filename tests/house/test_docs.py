"""What the pages and docstrings say is true: their code runs, their links lead on, their tests exist."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.pages import Page, pages
from tests.support.source import PACKAGES, ROOT, sources

PAGES = pages()
DOCTESTED = [source.path for source in sources(*PACKAGES) if ">>> " in source.text]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_of(path: str) -> ModuleType:
    name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return importlib.import_module(name)


def test_readme_is_under_150_lines() -> None:
    """The README is read in one go; the rest is docs."""
    assert (ROOT / "README.md").read_text().count("\n") < 150


def test_the_python_of_every_page_runs(tmp_path: Path) -> None:
    """All Python blocks of a page run in order, as if pasted into one file, without a warning."""
    failed = []
    for number, page in enumerate(page for page in PAGES if page.code("python").strip()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "page.py").write_text(page.code("python"))
        command = [sys.executable, "-W", "error", "page.py"]
        ended = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
        if ended.returncode != 0:
            failed.append(f"{page.path}: exit {ended.returncode}\n{ended.stderr.decode()}")
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)


def test_the_sessions_of_every_page_print_what_they_show() -> None:
    """A `pycon` block of a page prints exactly what stands below each prompt."""
    told: list[str] = []
    for page in PAGES:
        test = doctest.DocTestParser().get_doctest(page.code("pycon"), {}, page.path, page.path, 0)
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.append)
    if told:
        pytest.fail("".join(told), pytrace=False)


@pytest.mark.parametrize("path", DOCTESTED)
def test_the_examples_in_docstrings_print_what_they_show(path: str) -> None:
    """Each example in a docstring of the product runs and prints what it shows."""
    module = module_of(path)
    finder, told = doctest.DocTestFinder(), list[str]()
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in finder.find(module):
        runner.run(test, out=told.append)
    if told:
        pytest.fail("".join(told), pytrace=False)


def definitions(path: Path) -> set[str]:
    """The functions, classes and methods of a file, as `a` and `A::b`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}::{i.name}" for i in inner if isinstance(i, ast.FunctionDef)}
            found |= {f"{node.name}::{i.name}" for i in inner if isinstance(i, ast.AsyncFunctionDef)}
    return found


def test_every_test_that_a_page_names_exists() -> None:
    """A page may point to a test only if the test is there."""
    missing = []
    for page in PAGES:
        for name in page.named_tests():
            file, _, part = name.partition("::")
            if not (ROOT / file).exists() or (part and part not in definitions(ROOT / file)):
                missing.append(f"{page.path}: {name}")
    assert missing == []


def test_every_relative_link_of_a_page_leads_somewhere() -> None:
    """A link inside the project ends at a file or folder that is there."""
    dead = [
        f"{page.path}: {link}"
        for page in PAGES
        for link in page.links()
        if not ((ROOT / page.path).parent / link).exists()
    ]
    assert dead == []


@pytest.mark.parametrize("face", ["runtime", "supervisors", "runtime.testing"])
def test_everything_public_has_a_docstring(face: str) -> None:
    """Each class and function that a public package exports exists and says what it does."""
    module = importlib.import_module(face)
    silent = []
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not thing.__doc__:
            silent.append(name)
    assert silent == []


def anchors_of(page: Page) -> set[str]:
    """What a link may lead to inside a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ +(.+)$", page.text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_anchor_inside_a_page_is_a_heading_of_it() -> None:
    """A link to a part of the same page ends at that part."""
    dead = [
        f"{page.path}: #{anchor}"
        for page in PAGES
        for anchor in re.findall(r"\]\(#([^)\s]+)\)", page.text)
        if anchor not in anchors_of(page)
    ]
    assert dead == []
