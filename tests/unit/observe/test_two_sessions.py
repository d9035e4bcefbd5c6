"""Two people at one node: what one prints, names and interrupts is nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.unit.observe.talk import open_node, talk

LINE = """
for number in range(200):
    print({mark!r}, number)
    await trio.lowlevel.checkpoint()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n.sock"


async def test_the_output_of_two_sessions_never_mixes(path, capsys):
    """Lines that run at the same time over two connections, also in tasks that they start, print to their own."""
    found: dict[str, str] = {}

    async def type_lines(mark: str) -> None:
        async with talk(path) as client:
            said = await client.ask("eval", source=LINE.format(mark=mark))
            deep = f"async with trio.open_nursery() as n:\n    n.start_soon(session_{mark}, n)\n"
            define = f"async def session_{mark}(n):" + LINE.format(mark=mark).replace("\n", "\n    ") + "\n"
            await client.ask("eval", source=define)
            more = await client.ask("eval", source=deep)
            found[mark] = said["output"] + more["output"]

    async with open_node(path, allow_eval=True), trio.open_nursery() as nursery:
        for mark in ("ann", "bob"):
            nursery.start_soon(type_lines, mark)
    for mark in ("ann", "bob"):
        assert found[mark] == "".join(f"{mark} {number}\n" for number in range(200)) * 2
    assert capsys.readouterr().out == ""


async def test_names_and_interrupts_stay_with_their_session(path):
    """One does not see what the other has defined, and does not break what the other runs."""
    async with open_node(path, allow_eval=True), talk(path) as ann, talk(path) as bob:
        await ann.ask("eval", source="mine = 1")
        assert "NameError" in (await bob.ask("eval", source="mine"))["error"]
        await ann.say({"id": "long", "op": "eval", "source": "await trio.sleep_forever()"})
        assert (await ann.ask("info"))["name"] == "test"  # its line runs by now
        assert await bob.ask("interrupt") == {"interrupted": False}
        assert await ann.ask("interrupt") == {"interrupted": True}
        assert (await ann.hear())["ok"]["interrupted"] is True
