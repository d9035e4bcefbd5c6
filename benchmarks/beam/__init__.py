"""The same rows on the BEAM of this machine, if there is one: `erl` on the PATH."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TIMEOUT = 600.0


def figures(module: str) -> dict[str, float]:
    """Compile and run a module of this folder; its figures by row. Empty, with a word why, if that cannot be."""
    erl = shutil.which("erl")
    if erl is None:
        print("the BEAM: missing, there is no `erl` on the PATH (Debian: erlang-base)", file=sys.stderr)
        return {}
    with tempfile.TemporaryDirectory() as made:
        source = Path(__file__).with_name(module)
        compiles = f'{{ok, _}} = compile:file("{source}", [{{outdir, "{made}"}}, report]), {module}:main().'
        ran = subprocess.run(
            [erl, "-noshell", "-pa", made, "-eval", compiles],
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
