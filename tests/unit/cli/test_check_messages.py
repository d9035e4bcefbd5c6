"""`banyan start --check-messages`: a development node that finds messages changed after they were sent."""

from __future__ import annotations

import pytest

from supervisors.node.config import configure
from tests.unit.cli.running import Place

LINES = """\
from runtime import send_nowait, whereis
sent = [1]
before = whereis("till")
send_nowait(before, sent); sent.append(2)
await trio.sleep(0)
whereis("till") == before
"""


@pytest.mark.parametrize(
    ("flags", "environ", "text", "on"),
    [
        ({}, {}, "", False),
        ({"check_messages": True}, {}, "", True),
        ({}, {"BANYAN_CHECK_MESSAGES": "true"}, "", True),
        ({}, {}, "[node]\ncheck_messages = true\n", True),
    ],
    ids=["default", "flag", "environment", "file"],
)
def test_the_check_is_opted_in(tmp_path, flags, environ, text, on):
    """Messages are looked at only if a flag, a variable or the file says so."""
    assert configure(flags, environ, (tmp_path / "banyan.toml", text)).check_messages is on


@pytest.mark.processes
@pytest.mark.slow
def test_a_started_node_reports_a_changed_message(tmp_path):
    """With --check-messages the receiver of a changed message ends, and the log says who, where and what."""
    place = Place(tmp_path)
    with place.node("shop:Shop", "--name", "one", "--allow-eval", "--check-messages") as node:
        ended = place.run("remsh", stdin=LINES)
        assert ended.stdout.splitlines()[-1].endswith("False"), ended.stdout + ended.stderr
        assert "MutatedMessage" in node.log
        assert "list[1]: was nothing, is 2" in node.log
