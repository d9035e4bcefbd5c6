"""A look at a store whose node is down: opened as the node would open it, and held against what was told."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_check import RELAXED
from runtime.durable.durability import Durability
from runtime.durable.journal import StoreError

from . import lives
from .bank import NODE
from .ledger import Ledger, Verdict

# The data directory, below the one whose writes are followed: its own name has to be safe too.
STORE = "store"


def opened(path: str | Path, node: str = NODE) -> LmdbJournal:
    """A node's store, or its relaxed one, at a time that is always the same."""
    return LmdbJournal.open(path, wall=lambda: 1e9, node=node, relaxed=os.path.basename(path) == RELAXED)


def look(
    path: Path, ledger: Ledger, *, fold: bool = False, at_rest: bool = False, durability: Durability = "durable"
) -> Verdict:
    """Open a store and hold it against what was told; for a child, as it may end the program."""
    try:
        with closing(opened(path)) as journal:
            if durability != "relaxed":
                if fold:
                    journal.fold()
                return ledger.verdict(journal, at_rest=at_rest)
            with closing(opened(path / RELAXED)) as relaxed:
                if fold:
                    relaxed.fold()
                return ledger.verdict(journal, relaxed, at_rest=at_rest)
    except StoreError as error:
        return Verdict(damaged=[f"the store is not opened: {error}"])


def look_at(*paths: Path, ledger: Ledger, at_rest: bool = False) -> Verdict:
    """Look at stores in a child of one's own; that it dies is a finding too."""

    def work(pipe: int) -> None:
        found = Verdict()
        for path in paths:
            found.add(look(path, ledger, at_rest=at_rest))
        with os.fdopen(pipe, "w") as file:
            json.dump([found.lost, found.doubled, found.damaged], file)

    text, code = lives.fork(work).text()
    return Verdict(*json.loads(text)) if not code else Verdict(damaged=[f"a look at the store ended with {code}"])
