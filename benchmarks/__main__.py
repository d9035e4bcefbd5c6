"""`python -m benchmarks NAME --json`: NAME is kernel or durable."""

from __future__ import annotations

import argparse
import importlib

from .harness import tell

NAMES = ("kernel", "durable")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    tell(importlib.import_module(f"benchmarks.{args.name}").rows(), args.json)


if __name__ == "__main__":
    main()
