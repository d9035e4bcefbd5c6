"""`banyan demo`: watch a card room play, die and come back.

A node runs as a process of its own, with two tables of bots on a temporary data directory. This process
shows its supervision tree while it kills a table in mid-hand, then the supervisor of all tables, then the
whole node with SIGKILL, and waits each time until the tree is whole again and hands go on. At the end the
chips are counted in the journal. With `--nodes` it does so to several nodes that share the room: `demo_nodes`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from supervisors.cli.signals import endings_raised

from .action import chips
from .audit import audit
from .demo_screen import Screen
from .demo_story import Demo, Stuck

MOST_NODES = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="on N nodes, 1 to 8 (default 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to play, about (default 10)")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns its exit code."""
    begun = time.perf_counter()
    if not 1 <= args.nodes <= MOST_NODES:
        print(f"what: no demo\nwhy:  --nodes is {args.nodes}\nnext: give 1 to {MOST_NODES}", file=sys.stderr)
        return 2
    with endings_raised(), tempfile.TemporaryDirectory(prefix="banyan-demo-") as scratch:
        demo = _demo(args.nodes, Path(scratch), _screen(), max(4.0, args.seconds))
        try:
            demo.play()
        except Stuck as stuck:
            demo.end()
            print(f"what: the demo stopped\nwhy:  {stuck}\nnext: the node's log says more:", file=sys.stderr)
            print(demo.log_tail(), file=sys.stderr)
            return 1
        finally:
            demo.end()
        journals = demo.stores()
        try:
            found = audit(journals, shards=demo.shards)
        finally:
            for journal in journals:
                journal.close()
    result = {
        "hands": found.hands,
        "restarts": demo.restarts,
        "process_kills": demo.process_kills,
        "node_kills": demo.node_kills,
        "chips_in": found.granted,
        "chips_out": found.held,
        "seconds": round(time.perf_counter() - begun, 1),
        **demo.told(),
    }
    good = found.granted == found.held and demo.healed and found.hands > 0
    if args.json:
        print(json.dumps(result))
    else:
        print()
        print(f"{found.hands} hands were played, {found.entries} commands journalled.")
        print(f"2 processes and 1 node were killed, {demo.restarts} processes restarted, all by themselves.")
        if "moves" in result:
            print(f"1 node was drained: {result['moves']} shards moved while hands were played.")
        agree = "not one was lost or made" if good else "THIS IS WRONG"
        print(f"Chips in {chips(found.granted)}, chips out {chips(found.held)}: {agree}.")
    return 0 if good else 1


def _demo(nodes: int, folder: Path, screen: Screen, seconds: float) -> Demo:
    if nodes == 1:
        return Demo(folder, screen, seconds)
    from .demo_nodes import DemoOnNodes

    return DemoOnNodes(folder, screen, seconds, nodes)


def _screen() -> Screen:
    if sys.stderr.isatty():
        try:
            from .demo_live import LiveScreen
        except ImportError:
            return Screen()
        return LiveScreen()
    return Screen()
