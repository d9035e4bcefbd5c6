"""What a test gets from outside the project, and what it gets instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import outside


def test_a_shared_file_that_is_there_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`shared` gives the path under ../shared."""
    (tmp_path / "hands").mkdir()
    monkeypatch.setattr(outside, "SHARED", tmp_path)
    assert outside.shared("hands") == tmp_path / "hands"


def test_a_missing_shared_file_skips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody can install ../shared, so a test without it is skipped, also in CI."""
    monkeypatch.setattr(outside, "SHARED", tmp_path)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception, match=r"needs \.\./shared/otp/traces"):
        outside.shared("otp", "traces")


def test_a_program_that_is_there_is_given() -> None:
    """`tool` gives the path of a program."""
    assert Path(outside.tool("sh")).name == "sh"


def test_a_missing_program_skips_by_hand_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CI could have installed is no reason to skip there."""
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        outside.tool("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        outside.tool("no-such-program")
