"""Makes `docs/top.svg`: `banyan top` in front of a room in which a table waits on a wallet, whose mailbox grows.

    python docs/make_top_picture.py [FILE]

The room is the one of docs/operations.md, with the fault that `tests/unit/cli/planted.py` plants in it.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.unit.cli.front import Screen, served, watch
from tests.unit.cli.planted import Room

# Columns and lines of the terminal.
SIZE = (126, 18)
# What names other places: the fonts would be fetched from there whenever somebody looks at the picture.
FETCHED = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", re.DOTALL)


def picture() -> str:
    """The capture, as SVG."""
    found: list[str] = []

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "waiting on table/t-042" in screen.picture())
        # Players are many, and all alike.
        await screen.until(lambda: len(screen.table()) > 10)
        found.append(screen.app.export_screenshot(title="banyan top"))

    with tempfile.TemporaryDirectory() as folder, served(Path(folder), Room) as node:
        watch(node.socket, work, size=SIZE)
    return FETCHED.sub("", found[0])


if __name__ == "__main__":
    logging.disable()
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("top.svg")
    file.write_text(picture(), encoding="utf-8")
