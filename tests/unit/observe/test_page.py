"""docs/admin.md says what the code does: each request stands there, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from runtime.observe import protocol
from supervisors.cli.main import COMMANDS

PAGE = (Path(__file__).parents[3] / "docs" / "admin.md").read_text()


def rows(after: str, before: str) -> dict[str, tuple[str, set[str]]]:
    """The operations between two headings, with their level and the names of their fields."""
    found = {}
    for line in PAGE[PAGE.index(after) : PAGE.index(before)].splitlines():
        if line.startswith("| `"):
            op, level, fields = (cell.strip() for cell in line.strip("|").split("|")[:3])
            found[op.strip("`")] = (level, set(re.findall(r"`([a-z]+)`", fields)))
    return found


@pytest.mark.parametrize(
    ("after", "before", "operations"),
    [
        ("## Requests and replies", "## Typed lines", protocol.OPERATIONS),
        ("## The back door", "## Limits", protocol.BACK_OPERATIONS),
    ],
)
def test_the_page_and_the_code_have_the_same_requests(after, before, operations):
    """Each operation of the page exists with its level and fields, and each that exists is on the page."""
    coded = {
        op: (kind.level.name.lower(), {field.name for field in msgspec.structs.fields(kind)} - {"id"})
        for op, kind in operations.items()
    }
    assert rows(after, before) == coded


def test_every_command_of_the_page_exists():
    """No page names a command that there is not."""
    docs = Path(__file__).parents[3] / "docs"
    for page in (docs / "admin.md", docs / "operations.md", docs / "contracts.md"):
        named = set(re.findall(r"`banyan ([a-z]+)", page.read_text()))
        named |= set(re.findall(r"^\$ banyan ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= set(COMMANDS) | {"certs"}, page
