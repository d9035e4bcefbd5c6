"""What `banyan start` refuses before there is a node: in this process, because nothing is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from supervisors.cli.main import main
from tests.unit.cli.running import SHOP


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application; the process is as it was afterwards."""
    (tmp_path / "shop.py").write_text(SHOP)
    for name in [name for name in os.environ if name.startswith("BANYAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return tmp_path


def start(*arguments: str) -> int:
    try:
        return main(["start", *arguments])
    except SystemExit as ended:
        return int(str(ended.code))
    finally:
        sys.modules.pop("shop", None)


def assert_refused(capsys: pytest.CaptureFixture[str], code: int, says: str) -> None:
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["what", "why", "next"]
    assert says in said.err
    assert code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no application was named"),
        (["shop"], "an application is named module:attribute"),
        (["nowhere:Shop"], "there is no module 'nowhere'"),
        (["shop.inner:Shop"], "there is no module 'shop.inner'"),
        (["shop:Shup"], "applications that it does have: Breaks, Hogs, Mortal, Named, Shop, Stuck"),
        (["shop:plain"], "wanted a Supervisor's class"),
        (["shop:fails"], "ZeroDivisionError: division by zero ("),
        (["shop:configured"], "the setting till is missing"),
        (["shop:Shop", "--set", "a=1"], "Shop takes no settings, got a"),
        (["shop:Shop", "--listen", "a:1"], "Shop takes no settings, got listen"),
        (["shop:Shop", "--set", "a"], "wanted key=value, got 'a'"),
        (["shop:Shop", "--name", "a/b"], "a node's name is letters"),
        (["shop:Shop", "--name", "n" * 120], "a socket's path has at most 107"),
        (["shop:Shop", "--drain-timeout", "soon"], "drain_timeout cannot be 'soon'"),
        (["shop:Shop", "--config", "none.toml"], "there is no such file"),
        (["shop:Shop", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_started_is_refused(capsys, arguments, says):
    """An application or option that cannot work is exit 2 with what, why and what next."""
    assert_refused(capsys, start(*arguments), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(:", "SyntaxError: invalid syntax ("),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("raise SystemExit(0)", "module shop cannot be imported: SystemExit: 0 ("),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
    ],
)
def test_an_application_that_cannot_be_imported_says_where_it_fails(capsys, folder, text, says):
    """The mistake in an application's own module is told with its file and line, and is exit 2."""
    (folder / "shop.py").write_text(f"'''A module.'''\n{text}\n")
    code = start("shop:Shop")
    said = capsys.readouterr().err
    assert (code, "Traceback" in said) == (2, False)
    assert says in said
    assert "No module" in says or f"{folder}/shop.py:2)" in said


def test_the_working_directory_comes_first(capsys, folder):
    """A module in the working directory wins over one of the same name elsewhere."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "shop.py").write_text("Shop = 'the wrong one'\n")
    sys.path.insert(0, str(elsewhere))
    assert_refused(capsys, start("shop:plain"), "got 3")


def test_a_misspelt_variable_or_key_is_refused(capsys, folder, monkeypatch):
    """An unknown BANYAN_ variable or key of banyan.toml is exit 2, with what was probably meant."""
    monkeypatch.setenv("BANYAN_DRAIN_TIMOUT", "3")
    assert_refused(capsys, start("shop:Shop"), "did you mean 'BANYAN_DRAIN_TIMEOUT'?")
    monkeypatch.delenv("BANYAN_DRAIN_TIMOUT")
    (folder / "banyan.toml").write_text("[node]\nnmae = 'x'\n")
    assert_refused(capsys, start("shop:Shop"), "did you mean 'name'?")
