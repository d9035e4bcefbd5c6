"""`python -m benchmarks NAME --json`: NAME is kernel, durable, observe, remote, up, move, top or stepper.

remote --refusals   who is refused at a node's door: how soon, and how much memory is kept for it meanwhile
move --only ROW     only these rows: pause, copy, drain, join, peers; may be given again
move --size MB      of a shard that is moved: 1, 64, 512; may be given again
"""

from __future__ import annotations

import argparse
import importlib

from .harness import by_processor, tell

NAMES = ("kernel", "durable", "observe", "remote", "up", "move", "top", "stepper")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="processor time for wall time (not of the BEAM or peers)")
    parser.add_argument("--refusals", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="ROW")
    parser.add_argument("--size", action="append", default=[], type=int, metavar="MB")
    args = parser.parse_args()
    if args.cpu:
        by_processor()
    module = importlib.import_module(f"benchmarks.{'refusals' if args.refusals else args.name}")
    tell(module.rows(args.only, args.size) if args.name == "move" else module.rows(), args.json)


if __name__ == "__main__":
    main()
