"""What every journal promises is tried over every backend; a file about one of them has a `store` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.durable.journal import Journal

from .stores import LmdbStore, MemoryStore, SimulatedStore, Store


@pytest.fixture(params=["memory", "simulated", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "simulated":
        return SimulatedStore()
    return MemoryStore() if request.param == "memory" else LmdbStore(tmp_path / "store")


@pytest.fixture
def journal(store: Store) -> Iterator[Journal]:
    journal = store.open()
    yield journal
    journal.close()
