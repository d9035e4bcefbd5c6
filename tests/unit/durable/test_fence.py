"""The fence: whoever recovered in another life of the node decides nothing in this one."""

from __future__ import annotations

import pytest

from runtime.durable.journal import SequenceConflict
from runtime.durable.writer import writer_of
from tests.support.processes import as_process
from tests.unit.backends.stores import entry


class Author:
    """Keeps what the writer says."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def _journal_settled(self, sequence: int) -> None:
        self.told.append(sequence)

    def _journal_lost(self, error: Exception) -> None:
        assert isinstance(error, SequenceConflict)
        self.told.append((error.what, error.wanted - error.came))


@pytest.mark.parametrize("off", [-1, 1])
@as_process
async def test_an_entry_of_another_epoch_is_refused_alone(node, off):
    """The next entry of a key, from another epoch, is refused though the key has no entry of this one; others go on."""
    writer, epoch = writer_of(node.table), node.journal.epoch
    stale, living = Author(), Author()
    writer.append(entry("ann", 1, epoch=epoch + off), stale)
    writer.append(entry("bob", 1, epoch=epoch), living)
    writer.flush()
    assert (stale.told, living.told) == ([("epoch", -off)], [1])
    assert (node.journal.head("ann"), node.journal.head("bob")) == (0, 1)
