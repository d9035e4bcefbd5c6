"""`python -m benchmarks NAME --json`: NAME is kernel, durable, observe, remote, top or stepper."""

from __future__ import annotations

import argparse
import importlib

from .harness import by_processor, tell

NAMES = ("kernel", "durable", "observe", "remote", "top", "stepper")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="processor time for wall time (not of the BEAM or peers)")
    args = parser.parse_args()
    if args.cpu:
        by_processor()
    tell(importlib.import_module(f"benchmarks.{args.name}").rows(), args.json)


if __name__ == "__main__":
    main()
