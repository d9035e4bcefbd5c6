"""What holds for every test: how many run at once, whose time is virtual, where bytecode lies, no deadline of
Hypothesis."""

from __future__ import annotations

import inspect
import os
import sys

import pytest
from hypothesis import settings

# A slow machine is no defect. On top of what Hypothesis itself chooses: under CI=true its own profile, which
# repeats the same examples.
settings.register_profile("banyan", settings(), deadline=None)
settings.load_profile("banyan")


def pytest_configure(config: pytest.Config) -> None:
    """Keep bytecode where tests are told to leave none beside the sources: they start hundreds of Pythons.

    Rewriting the assertions of all tests takes longer than importing all else.
    """
    if sys.dont_write_bytecode and sys.pycache_prefix is None:
        sys.pycache_prefix = str(config.rootpath / ".pytest_cache" / "bytecode")
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process per core for a run of everything; a file or a folder by name runs here, where a debugger reaches it."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    cores = os.cpu_count() or 1
    return cores if everything and cores > 1 else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time is virtual too if a fixture asks for it: pytest-trio heeds only what the test itself asks for."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and "autojump_clock" in item.fixturenames
            and "autojump_clock" not in inspect.signature(item.obj).parameters
            and inspect.iscoroutinefunction(item.obj)
        ):
            from tests.support.processes import run_virtually

            item.add_marker(pytest.mark.trio(run=run_virtually), append=False)
