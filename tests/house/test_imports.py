"""Who may import whom: the contracts of pyproject.toml hold, bind every file they name, and bite."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.contracts import is_planned
from tests.support.source import ROOT, read

CONFIG: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS: dict[str, dict[str, Any]] = {contract["id"]: contract for contract in CONFIG["contracts"]}
FACES = ("runtime", "supervisors")


def named_modules() -> list[str]:
    """Every module of ours that a contract names, in parentheses where it is only planned."""
    names: list[str] = []
    for contract in CONTRACTS.values():
        for option in ("source_modules", "forbidden_modules", "protected_modules", "allowed_importers"):
            names += contract.get(option, [])
        tails = [tail.strip() for layer in contract.get("layers", []) for tail in layer.split("|")]
        for container in contract.get("containers", []):
            names += [
                f"({container}.{tail.strip('()')})" if is_planned(tail) else f"{container}.{tail}" for tail in tails
            ]
    return [name for name in names if name.strip("()").partition(".")[0] in CONFIG["root_packages"]]


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def lint(folder: Path) -> tuple[int, set[str], str]:
    """Exit code, the numbers of the broken contracts, and the whole output of one run of the linter."""
    run_it = "from importlinter.cli import lint_imports_command as run; run(['--no-logo', '--no-cache'])"
    command = [sys.executable, "-c", run_it]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    output = ended.stdout + ended.stderr
    return ended.returncode, set(re.findall(r"^(\d)\. .* BROKEN$", output, re.MULTILINE)), output


def test_every_contract_is_kept() -> None:
    """The project's own imports run one way."""
    code, broken, output = lint(ROOT)
    assert (code, broken) == (0, set()), output


def test_no_name_is_called_planned_when_its_file_is_there() -> None:
    """A module that exists stands without parentheses, so that no rename slips it out of its contract."""
    stale = sorted({name for name in named_modules() if is_planned(name) and exists(name.strip("()"))})
    assert stale == [], "take the parentheses off in [tool.importlinter] of pyproject.toml"


def pure_modules() -> list[str]:
    """Those that exist; of a package, each module in it too."""
    names: list[str] = CONTRACTS["pure"]["source_modules"]
    found = [name for name in (n.strip("()") for n in names) if exists(name)]
    for name in list(found):
        found += [f"{name}.{file.stem}" for file in sorted(ROOT.joinpath(*name.split(".")).glob("*.py"))]
    return found


@pytest.mark.parametrize("module", pure_modules())
def test_a_pure_module_takes_only_pure_names_from_a_face(module: str) -> None:
    """What a pure module imports from `runtime` or `supervisors` is defined in a pure module itself."""
    path = ROOT.joinpath(*module.split("."))
    source = read(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
    impure = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in FACES:
            face = importlib.import_module(node.module)
            homes = {alias.name: getattr(face, alias.name).__module__ for alias in node.names}
            impure += [f"{name} of {home}" for name, home in homes.items() if home not in pure_modules()]
    assert impure == []


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of empty files with every module that the contracts name, and the same contracts."""
    top = tmp_path_factory.mktemp("skeleton")
    shutil.copy(ROOT / "pyproject.toml", top)
    support = top / "tests" / "support"
    support.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "support" / "contracts.py", support)
    for root in CONFIG["root_packages"]:
        (top / root).mkdir()
        (top / root / "__init__.py").touch()
    for name in named_modules():
        parts = name.strip("()").split(".")
        for depth in range(1, len(parts) + 1):
            package = top.joinpath(*parts[:depth])
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
    return top


def test_the_skeleton_keeps_every_contract(skeleton: Path) -> None:
    """Without a planted import nothing is broken, so each break below is the plant's."""
    assert lint(skeleton)[:2] == (0, set())


@pytest.mark.parametrize(
    ("files", "broken"),
    [
        ({"runtime/observe/x.py": "import supervisors"}, "1"),
        ({"supervisors/cli/x.py": "from game import x", "game/x.py": ""}, "1"),
        ({"runtime/kernel/x.py": "from ..behaviours import y", "runtime/behaviours/y.py": ""}, "2"),
        ({"runtime/durable/x.py": "from .. import cluster"}, "2"),
        ({"runtime/kernel/x.py": "import runtime", "runtime/__init__.py": "from . import behaviours"}, "2"),
        ({"runtime/brandnew/__init__.py": ""}, "2"),
        ({"supervisors/shards/x.py": "from .. import node"}, "3"),
        ({"supervisors/brandnew.py": ""}, "3"),
        ({"supervisors/strategy/x.py": "import time"}, "4"),
        ({"game/hand/x.py": "from game import other", "game/other.py": "import random"}, "4"),
        ({"supervisors/cli/x.py": "import runtime.backends"}, "5"),
        ({"runtime/testing/x.py": "from runtime import backends"}, "5"),
        ({"game/x.py": "from supervisors.node import boot"}, "6"),
        ({"runtime/kernel/x.py": "import cbor2"}, "7"),
        ({"runtime/behaviours/x.py": "import ssl"}, "7"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_planted_import_breaks_its_contract(skeleton: Path, files: dict[str, str], broken: str) -> None:
    """Each rule of the house is broken by an import that it forbids, and by nothing else."""
    before = {name: (skeleton / name).read_text() for name in files if (skeleton / name).exists()}
    made = {(skeleton / name).parent for name in files if not (skeleton / name).parent.exists()}
    try:
        for name, text in files.items():
            (skeleton / name).parent.mkdir(exist_ok=True)
            (skeleton / name).write_text(text)
        code, numbers, output = lint(skeleton)
        assert (code, numbers) == (1, {broken}), output
    finally:
        for name in files:
            (skeleton / name).unlink()
        for name, text in before.items():
            (skeleton / name).write_text(text)
        for folder in made:
            folder.rmdir()


def test_a_type_may_be_named_by_a_pure_module(skeleton: Path) -> None:
    """An import for the type checker alone is no use of a clock or of dice."""
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from random import Random\n"
    module = skeleton / "supervisors" / "strategy" / "typed.py"
    module.write_text(guarded)
    try:
        assert lint(skeleton)[:2] == (0, set())
    finally:
        module.unlink()
