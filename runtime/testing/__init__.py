"""Banyan's tools for tests: run a whole node from a seed, strike it with faults, and check what it promised.

A seeded run does the same each time, so a failure that one seed has found is there again whenever you look:

    trace = Trace()
    world = SeededWorld(seed, open_store=open_store, coordination=coordination, trace=trace)
    run_seeded(seed, scenario, Node("alpha", data="disk", world=world), trace=trace)

`plan` draws the faults of a run, `History` and the checkers beside it tell whether the promises were kept.
Everything public is here; the modules inside are free to move.
"""

from .coordination import CoordinationLine, SharedCoordination
from .disk import TracedJournal
from .history import (
    Applied,
    CommandId,
    Conserved,
    History,
    Operation,
    doubled,
    left_over,
    lost,
    out_of_order,
    unbalanced,
    unequal_replies,
)
from .linearizability import NEVER, Answered, Placed, not_linearizable
from .medium import SECTOR, Medium
from .nemesis import Fault, Menu, chosen, plan, swarm
from .network import HostTransport, Network, Weather
from .scheduler import Trace, continue_program, program, run_seeded, stop_program
from .world import ORIGIN, NodeExit, OpenStore, SeededWorld

__all__ = [
    "NEVER",
    "ORIGIN",
    "SECTOR",
    "Answered",
    "Applied",
    "CommandId",
    "Conserved",
    "CoordinationLine",
    "Fault",
    "History",
    "HostTransport",
    "Medium",
    "Menu",
    "Network",
    "NodeExit",
    "OpenStore",
    "Operation",
    "Placed",
    "SeededWorld",
    "SharedCoordination",
    "Trace",
    "TracedJournal",
    "Weather",
    "chosen",
    "continue_program",
    "doubled",
    "left_over",
    "lost",
    "not_linearizable",
    "out_of_order",
    "plan",
    "program",
    "run_seeded",
    "stop_program",
    "swarm",
    "unbalanced",
    "unequal_replies",
]
