"""SQLite of the standard library: a write-ahead log that is synced at each commit, one commit for a group."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable

RECORD = b"x" * 120


def commit(group: int, groups: int) -> Callable[[], float]:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            db = sqlite3.connect(folder + "/journal.db", isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("CREATE TABLE entries (key TEXT, sequence INT, record BLOB, PRIMARY KEY (key, sequence))")
            begun = time.perf_counter()
            for sequence in range(groups):
                db.execute("BEGIN")
                rows = [(f"counter/{index}", sequence, RECORD) for index in range(group)]
                db.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
                db.execute("COMMIT")
            took = time.perf_counter() - begun
            db.close()
            return group * groups / took

    return run


ROWS = {
    "durable commands, 1 writer": commit(1, 300),
    "durable commands, 64 writers": commit(64, 60),
    "durable commands, 1024 writers": commit(1024, 10),
}
