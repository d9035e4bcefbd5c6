"""`banyan certs`: what it makes, for whom, and what it does not write over."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509

from runtime.cluster.tls import Keys
from supervisors.cli.main import main
from tests.unit.cli.test_check import parts


def made(directory: Path, *arguments: str) -> None:
    """Run `banyan certs` with a directory; it must succeed."""
    assert main(["certs", *arguments, "--dir", str(directory)]) == 0


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The three parts on stderr, in one text."""
    found = parts(capsys.readouterr().err)
    assert list(found) == ["what", "why", "next"]
    return "; ".join(found.values())


def names(path: Path) -> list[str]:
    """The URIs that a certificate names."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier)


def test_an_authority_makes_nodes_and_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each certificate names one node or client; a node's can be used at once; keys are for their owner alone."""
    directory = tmp_path / "certs"
    made(directory, "init")
    assert capsys.readouterr().out.startswith(f"made {directory}/ca.pem and {directory}/ca.key, good until ")
    made(directory, "node", "room-1")
    made(directory, "client", "ops")
    assert names(directory / "node-room-1.pem") == ["banyan:node:room-1"]
    assert names(directory / "client-ops.pem") == ["banyan:client:ops"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {
        **dict.fromkeys(("ca.key", "node-room-1.key", "client-ops.key"), 0o600),
        **dict.fromkeys(("ca.pem", "node-room-1.pem", "client-ops.pem"), 0o644 & ~mask),
    }
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert Keys(directory, "room-1").name == "room-1"


def test_it_says_it_to_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the last line is an object with both paths and the end."""
    made(tmp_path, "init", "--days", "2", "--json")
    said = json.loads(capsys.readouterr().out)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert said == {
        "certificate": str(tmp_path / "ca.pem"),
        "key": str(tmp_path / "ca.key"),
        "until": authority.not_valid_after_utc.isoformat(),
    }


@pytest.mark.parametrize("arguments", [["init"], ["node", "a"]])
def test_nothing_is_written_over(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is there stays: a second authority would make strangers of all whom the first has vouched for."""
    made(tmp_path, "init")
    made(tmp_path, "node", "a")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["certs", *arguments, "--dir", str(tmp_path)]) == 5
    assert "is there" in refused(capsys)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "ä", "a:b", "x" * 65])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name is a node's name: it becomes part of a file's, and of a URI."""
    made(tmp_path, "init")
    assert main(["certs", "node", name, "--dir", str(tmp_path)]) == 2
    assert "another name" in refused(capsys)


@pytest.mark.parametrize("days", ["0", "-1", "36501"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, days: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate is good for a day at least and a hundred years at most."""
    assert main(["certs", "init", "--days", days, "--dir", str(tmp_path)]) == 2
    assert "from 1 to 36500" in refused(capsys)


def test_without_an_authority_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node's keys need an authority, and the refusal says how it is made."""
    assert main(["certs", "node", "a", "--dir", str(tmp_path)]) == 4
    assert f"banyan certs init --dir {tmp_path}" in refused(capsys)


def test_an_authority_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that cannot be read, and another authority's key, make nothing."""
    made(tmp_path, "init")
    made(tmp_path / "other", "init")
    (tmp_path / "ca.key").write_bytes((tmp_path / "other/ca.key").read_bytes())
    assert main(["certs", "node", "a", "--dir", str(tmp_path)]) == 2
    assert "is not the key of" in refused(capsys)
    (tmp_path / "ca.pem").write_text("nonsense")
    assert main(["certs", "node", "a", "--dir", str(tmp_path)]) == 2
    assert "cannot be read" in refused(capsys)
    assert not (tmp_path / "node-a.pem").exists()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where keys cannot be written, the command says so."""
    (tmp_path / "file").touch()
    assert main(["certs", "init", "--dir", str(tmp_path / "file")]) == 5
    assert "cannot be written" in refused(capsys)


def test_the_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra that brings cryptography, the refusal names the extra."""
    monkeypatch.delitem(sys.modules, "supervisors.cli.certs", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert main(["certs", "init", "--dir", "x"]) == 2
    assert "banyan-runtime[tls]" in refused(capsys)
