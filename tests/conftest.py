"""What holds for every test: how many run at once, and that Hypothesis sets no deadline."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A slow machine is no defect. On top of what Hypothesis itself chooses: under CI=true its own profile, which
# repeats the same examples.
settings.register_profile("banyan", settings(), deadline=None)
settings.load_profile("banyan")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process per core for a run of everything; a file or a folder by name runs here, where a debugger reaches it."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    cores = os.cpu_count() or 1
    return cores if everything and cores > 1 else 0
