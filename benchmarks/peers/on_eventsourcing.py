"""The package `eventsourcing` on SQLite: aggregates whose events are saved one command at a time, each synced.

It gathers no groups: with more writers it is as fast as with one, so it has the same figure for 64.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

# By name, so that the types do not depend on whether it is installed.
application: Any = importlib.import_module("eventsourcing.application")
domain: Any = importlib.import_module("eventsourcing.domain")


class Counter(domain.Aggregate):  # type: ignore[misc]  # of a type that is not known here
    def __init__(self) -> None:
        self.count = 0

    @domain.event("Added")  # type: ignore[untyped-decorator]  # likewise
    def add(self, amount: int) -> None:
        self.count += amount


def commands(writers: int, each: int) -> Callable[[], float]:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            where = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": folder + "/events.db"}
            app = application.Application(env=where)
            counters: list[tuple[UUID, Any]] = []
            for _ in range(writers):
                counter = Counter()
                app.save(counter)
                counters.append((counter.id, counter))
            begun = time.perf_counter()
            for _ in range(each):
                for _, counter in counters:
                    counter.add(1)
                    app.save(counter)
            took = time.perf_counter() - begun
            app.close()
            return writers * each / took

    return run


ROWS = {"durable commands, 1 writer": commands(1, 300), "durable commands, 64 writers": commands(64, 5)}
