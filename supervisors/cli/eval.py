"""`banyan eval`: run one line inside a running node that allows it, and print its value."""

from __future__ import annotations

import argparse
import json
import math
import sys

from runtime.observe.protocol import Eval

from .failure import Exit
from .target import add_target, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "source", metavar="LINE", help="Python; await may stand at the top, and h() lists what is there"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Run the line, however long it takes; returns 1 if it failed. Ctrl-C ends it with the connection."""
    with connect(args) as client:
        # A block that is not closed by an empty line would only be asked to go on.
        said = client.request(Eval(source=args.source + "\n"), timeout=math.inf)
    if args.json:
        print(json.dumps(said))
    else:
        print(said["output"], end="")
        if said["value"] is not None:
            print(said["value"])
        sys.stdout.flush()
        if said["error"] is not None or said["more"]:
            print(said["error"] or "the line is not complete", file=sys.stderr)
    return Exit.FAILED if said["error"] is not None or said["more"] or said["interrupted"] else Exit.OK
