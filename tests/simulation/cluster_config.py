"""What one run of a cluster is like: drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from runtime.testing import Menu, Weather, swarm

from . import cluster_moves

# Every fault that the nemesis of a cluster knows. Their deeds are in `cluster_strikes`.
MENU: dict[str, Menu] = {
    "crash": Menu(2.0),
    "power_loss": Menu(1.0),
    "crash_staged": Menu(0.7),
    "crash_torn": Menu(0.7),
    "crash_written": Menu(0.7),
    "crash_synced": Menu(1.0),
    "crash_for_long": Menu(0.7, (9.0, 16.0)),
    "stop": Menu(0.7),
    "pause": Menu(1.5, (0.2, 3.0)),
    "pause_for_long": Menu(1.2, (4.0, 15.0)),
    "cut": Menu(2.0, (0.1, 14.0)),
    "cut_one_way": Menu(2.0, (0.1, 14.0)),
    "isolate": Menu(1.0, (0.5, 14.0)),
    "bridge": Menu(0.7, (0.5, 14.0)),
    "swizzle": Menu(0.7, (0.5, 10.0)),
    "reset": Menu(3.0),
    "slow_network": Menu(1.0, (0.5, 8.0)),
    "no_coordination": Menu(1.5, (0.5, 20.0)),
    "answers_lost": Menu(1.5, (0.5, 8.0)),
    "wall_jump": Menu(1.0),
    "kill_entity": Menu(3.0),
    "kill_region": Menu(0.5),
    "kill_membership": Menu(1.0),
    "stall_writer": Menu(1.5, (0.1, 12.0)),
    "kill_links": Menu(0.7),
    "kill_mover": Menu(1.0),
}

# Where the product or its world can be struck by itself; see `runtime.testing.SeededWorld`.
SITES = (
    "event_sourced.accepted",
    "event_sourced.committed",
    "coordination.asked",
    "coordination.made",
    "store.staged",
    "store.synced",
    *(f"move.{step}" for step in cluster_moves.STEPS),
)

# Every path that a run may take and that some run has to.
PATHS = (
    "a command was refused",
    "a crash of a commit staged",
    "a crash of a commit synced",
    "a crash of a commit torn",
    "a crash of a commit written",
    "a customer went to another node",
    "a customer's command was refused",
    "a node came",
    "a node went",
    "a shard was lost by a node that lives",
    "a teller ran out of patience",
    "an echo answered",
    "unsynced writes were lost",
    *cluster_moves.PATHS,
)


@dataclass(frozen=True)
class Config:
    """One run.

    Attributes:
        nodes: how many, 3 to 7.
        shards: how many the cluster has.
        accounts: how many there are.
        tellers: processes on each node that ask.
        customers: clients beside the nodes, who outlive them.
        pauses: how long whoever asks waits between two requests at most, in seconds.
        idle: seconds until an entity is put to sleep.
        remember: whether the region remembers its accounts.
        snapshot_every: entries between two snapshots of an account.
        weather: of the network, while nothing strikes it.
        lost: the chance of each answer of the coordination store to be lost.
        menu, faults, steps: the faults, how many, and the mean number of task steps between two.
        seconds: how long the faults strike at most.
        settles: whether the faults end and all has to be well again; else the run ends among them, with the power
            of all nodes.
        activation: chance of each buggify site to be on.
        moves: the mean of the seconds between two things that the operator does; 0: there is none.
        rebalance: whether the nodes even out the load by themselves.
        grace: seconds for which a node keeps what was moved away.
    """

    nodes: int
    shards: int
    accounts: int
    tellers: int
    customers: int
    pauses: float
    idle: float
    remember: bool
    snapshot_every: int
    weather: Weather
    lost: float
    menu: dict[str, Menu]
    faults: int
    steps: int
    seconds: float
    settles: bool
    activation: float
    moves: float
    rebalance: bool
    grace: float


def draw(seed: int, *, long: bool = False) -> Config:
    """The run of a seed; a long one has more nodes, goes on for longer and is struck more often."""
    rng = random.Random(f"{seed}/cluster")
    # Where nothing strikes, a move may not be felt at all.
    quiet = rng.random() < 0.16
    nodes = rng.choice((3, 3, 4, 5, 5, 6, 7) if long else (3, 3, 3, 3, 4, 5))
    return Config(
        nodes=nodes,
        shards=rng.choice((1, 3, 8, 16)),
        accounts=rng.randint(2, 6),
        tellers=rng.randint(1, 2),
        customers=rng.randint(1, 3),
        pauses=rng.choice((0.05, 0.3, 1.0)),
        idle=rng.choice((0.5, 5.0, 120.0)),
        remember=rng.random() < 0.3,
        snapshot_every=rng.choice((1, 4, 256)),
        weather=Weather((0.0001, rng.choice((0.002, 0.02, 0.2))), rng.choice((0.0, 0.3, 0.7))),
        lost=rng.choice((0.0, 0.0, 0.02, 0.1)),
        menu={} if quiet else swarm(rng, MENU, 0.5),
        faults=rng.randint(12, 50) if long else rng.randint(2, 14),
        steps=rng.choice((100, 400, 1_200)),
        seconds=rng.uniform(40.0, 120.0) if long else rng.uniform(6.0, 20.0),
        settles=rng.random() < 0.85,
        activation=0.0 if quiet else rng.choice((0.0, 0.2, 0.4)),
        moves=0.3 if quiet else rng.choice((0.0, 0.3, 1.0, 3.0)),
        rebalance=rng.random() < 0.4,
        grace=rng.choice((0.5, 5.0, 300.0)),
    )
