"""`python -m tests.conformance.replay FILE...`: replay recorded traces of Erlang/OTP and compare.

Each line of a file is one scenario and the trace that the BEAM gave. The scenario is played on a real node,
one for each line, under a virtual clock that the replay moves by hand, and the trace that comes out is held
against the recorded one. The family (A to G) is told from `scenario.family`, never from a name. For each
line that fails its id and first difference are printed; the last line says how many passed and failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import trio
import trio.testing

FAMILIES = {
    "A": "tests.conformance.family_a",
    "B": "tests.conformance.family_b",
    "C": "tests.conformance.family_c",
    "D": "tests.conformance.family_d",
    "E": "tests.conformance.family_e",
    "F": "tests.conformance.family_f",
    "G": "tests.conformance.family_g",
}

Json = Any


class Family(Protocol):
    """What a family's module offers."""

    async def replay(self, scenario: dict[str, Json], clock: trio.testing.MockClock) -> dict[str, Json]:
        """Play one scenario on a fresh node and return its trace, in the form of the recorded ones."""

    def normal(self, trace: dict[str, Json], scenario: dict[str, Json]) -> Json:
        """A trace, recorded or replayed, without what the format leaves open.

        A family whose traces bear times also has `align(wanted, came)`, which forgives small differences.
        """


def family_of(scenario: dict[str, Json]) -> Family:
    """The module that plays a scenario."""
    module: Any = importlib.import_module(FAMILIES[scenario["family"]])
    return module  # type: ignore[no-any-return]  # checked by use: a module is its own protocol


def replay_line(line: dict[str, Json]) -> str | None:
    """Replay one recorded line; its first difference, or None."""
    scenario = line["scenario"]
    family = family_of(scenario)
    clock = trio.testing.MockClock()

    async def main() -> dict[str, Json]:
        with trio.fail_after(1e9):
            return await family.replay(scenario, clock)

    try:
        came = trio.run(main, clock=clock)
    except Exception as error:  # a replay that breaks is a difference like any other
        return f"the replay failed: {type(error).__name__}: {error}"
    wanted, came = family.normal(line["trace"], scenario), family.normal(came, scenario)
    align = getattr(family, "align", None)
    if align is not None:
        align(wanted, came)
    return first_difference(wanted, came)


def first_difference(wanted: Json, came: Json, where: str = "trace") -> str | None:
    """Where two JSON values first differ, and how; None if they are equal."""
    if isinstance(wanted, dict) and isinstance(came, dict):
        for key in sorted({*wanted, *came}):
            if key not in wanted:
                return f"{where}.{key}: wanted nothing, came {_short(came[key])}"
            if key not in came:
                return f"{where}.{key}: wanted {_short(wanted[key])}, came nothing"
            found = first_difference(wanted[key], came[key], f"{where}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(wanted, list) and isinstance(came, list):
        for index, (one, other) in enumerate(zip(wanted, came, strict=False)):
            found = first_difference(one, other, f"{where}[{index}]")
            if found is not None:
                return found
        if len(wanted) != len(came):
            index = min(len(wanted), len(came))
            rest = f"wanted {_short(wanted[index:])}, came {_short(came[index:])}"
            return f"{where}[{index}:]: {rest}"
        return None
    return (
        None
        if wanted == came and type(wanted) is type(came)
        else f"{where}: wanted {_short(wanted)}, came {_short(came)}"
    )


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."


async def settle() -> None:
    """Let the system go quiet: nobody runnable, no mail waiting. Time stands still."""
    await trio.testing.wait_all_tasks_blocked()


def lines(paths: list[str]) -> Iterator[dict[str, Json]]:
    """All lines of the files, in order."""
    for path in paths:
        with Path(path).open() as file:
            for text in file:
                if text.strip():
                    yield json.loads(text)


def report(
    judge: Callable[[dict[str, Json]], str | None], program: str, about: str, arguments: list[str] | None
) -> int:
    """Go through the files that a command names, and print what is wrong with each line; the exit code.

    Args:
        judge: what is wrong with a line, None if nothing is.
        program: its name, and `about` it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.conformance.{program}", description=about)
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    passed = failed = 0
    for line in lines(args.files):
        wrong = judge(line)
        if wrong is None:
            passed += 1
        else:
            failed += 1
            print(f"{line['id']}: {wrong}", flush=True)
    print(f"passed {passed} failed {failed}")
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Replay the files; the exit code is 0 only if every line passed."""
    return report(replay_line, "replay", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
