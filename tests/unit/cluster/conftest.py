"""Keys for tests with TLS, made once: making them is what takes time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cluster.tls import Keys
from supervisors.cli import certs
from tests.support.processes import make_time_virtual


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Links in memory need no real time: those tests are in the files test_dist*.py."""
    for file in Path(__file__).parent.glob("test_dist*.py"):
        make_time_virtual(items, file)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, the keys of the nodes a, b and c, and those of a client."""
    path = tmp_path_factory.mktemp("keys")
    certs.init(path)
    for name in "abc":
        certs.issue(path, "node", name)
    certs.issue(path, "client", "ops")
    return path


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority's directory, with the keys of a node a."""
    path = tmp_path_factory.mktemp("foreign")
    certs.init(path)
    certs.issue(path, "node", "a")
    return path


@pytest.fixture(scope="session")
def keys(authority: Path) -> Callable[[str], Keys]:
    """The keys of a node by its name."""
    return lambda name: Keys(authority, name)
