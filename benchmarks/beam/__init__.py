"""The same rows on the BEAM of this machine, if there is one: `erl` on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..programs import Ask, asked, free_port, running

TIMEOUT = 600.0


def missing() -> bool:
    """Whether there is no BEAM here; says so."""
    if shutil.which("erl") is None:
        print("the BEAM: missing, there is no `erl` on the PATH (Debian: erlang-base)", file=sys.stderr)
        return True
    return False


def figures(module: str) -> dict[str, float]:
    """Compile and run a module of this folder; its figures by row. Empty, with a word why, if that cannot be."""
    if missing():
        return {}
    with tempfile.TemporaryDirectory() as made:
        ran = subprocess.run(
            ["erl", "-noshell", "-pa", made, "-eval", f"{compiles(module, made)}, {module}:main()."],
            capture_output=True,
            check=False,
            text=True,
            timeout=TIMEOUT,
        )
    found = {}
    for line in ran.stdout.splitlines():
        row, tab, value = line.partition("\t")
        if tab:
            found[row] = float(value)
    if ran.returncode != 0:
        print(f"the BEAM: ended with {ran.returncode}: {ran.stdout[-500:]}{ran.stderr[-500:]}", file=sys.stderr)
    return found


def compiles(module: str, folder: str) -> str:
    """Erlang that compiles a module of this folder into another one."""
    source = Path(__file__).with_name(module)
    return f'{{ok, _}} = compile:file("{source}", [{{outdir, "{folder}"}}, report])'


@contextmanager
def pair(module: str, folder: Path, keys: Path | None) -> Iterator[Ask]:
    """Two nodes that run `b` and `a` of a module, with TLS if there are keys; a is asked.

    They find each other by an epmd of their own, which ends with them.
    """
    subprocess.run(["erl", "-noshell", "-eval", f"{compiles(module, str(folder))}, halt()."], check=True)
    env = os.environ | {
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP_SECONDS": "0",
    }
    erl = ["erl", "-noshell", "-setcookie", "bench", "-pa", str(folder)]
    if keys is not None:
        options = folder / "tls.conf"
        options.write_text(_tls(keys))
        erl += ["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(options)]
    with (
        running(["epmd"], env),
        asked([*erl, "-name", "b@127.0.0.1", "-eval", f"{module}:b()."], env),
        asked([*erl, "-name", "a@127.0.0.1", "-eval", f"{module}:a('b@127.0.0.1')."], env) as ask,
    ):
        yield ask


def _tls(keys: Path) -> str:
    """Options for both sides: TLS 1.3, and b asks for a's certificate as ours does.

    a does not look at b's, because OTP takes no name but a host's; that is done once, and costs no call anything.
    """

    def files(name: str) -> str:
        named = {"certfile": f"node-{name}.pem", "keyfile": f"node-{name}.key", "cacertfile": "ca.pem"}
        return ", ".join(f'{{{key}, "{keys / file}"}}' for key, file in named.items()) + ", {versions, ['tlsv1.3']}"

    server = f"{files('b')}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}"
    return f"[{{server, [{server}]}}, {{client, [{files('a')}, {{verify, verify_none}}]}}].\n"
