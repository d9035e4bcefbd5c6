"""What one run is like: drawn from its seed, so that a thousand seeds are a thousand different rooms."""

from __future__ import annotations

import random
from dataclasses import dataclass

from game.messages import TableConfig
from runtime.testing import Menu, swarm

# Every fault that the nemesis knows, as often as it is chosen. Their deeds are in `strikes.py`.
MENU: dict[str, Menu] = {
    "kill_table": Menu(6.0),
    "kill_wallet": Menu(6.0),
    "kill_tally": Menu(2.0),
    "kill_lobby": Menu(2.0),
    "kill_bot": Menu(2.0),
    "kill_writer": Menu(1.0),
    "kill_supervisor": Menu(2.0),
    "exit_signal": Menu(2.0),
    "storm": Menu(0.5),
    "node_crash": Menu(2.0),
    "power_loss": Menu(1.0),
    "crash_staged": Menu(1.0),
    "crash_torn": Menu(1.0),
    "crash_written": Menu(1.0),
    "crash_synced": Menu(1.5),
    "disk_full": Menu(1.5, (0.01, 2.0)),
    "write_fails": Menu(0.5),
    "sync_fails": Menu(0.5),
    "bit_flip": Menu(1.0),
    "stale_owner": Menu(1.0),
    "stall_writer": Menu(4.0, (0.01, 4.0)),
    "stall_process": Menu(2.0, (0.5, 9.0)),
    "wall_jump": Menu(1.0),
}

DISK = frozenset(("disk_full", "write_fails", "sync_fails", "bit_flip"))


@dataclass(frozen=True)
class Config:
    """One run.

    Attributes:
        tables: what is opened; a bot sits on all seats but one, if there are bots.
        players: how many scripted clients.
        bots: whether there are bots too, and how long they think at most, in seconds.
        pauses: how long a client waits between two commands at most, in seconds.
        snapshot_every: entries between two snapshots, of wallets, tables, the lobby and tallies.
        largest_group: entries after which a process has them committed there and then.
        kept_replies: how many replies a receiver keeps for each sender.
        intensity: restarts allowed in 5 seconds.
        menu: the faults of this run; empty in some.
        faults: how many.
        steps: mean number of task steps between two.
        rest: how many steps go on without faults before everything has to settle.
        activation: chance of each buggify site to be on.
    """

    tables: tuple[TableConfig, ...]
    players: int
    bots: bool
    think: float
    pauses: float
    snapshot_every: tuple[int, int, int, int]
    largest_group: int
    kept_replies: int
    intensity: int
    menu: dict[str, Menu]
    faults: int
    steps: int
    rest: int
    activation: float


def draw(seed: int) -> Config:
    """The run of a seed."""
    rng = random.Random(f"{seed}/config")
    tables = tuple(
        TableConfig(
            f"t{number}",
            (50, 100),
            rng.randint(2, 4),
            turn_seconds=rng.choice((0.5, 3.0, 20.0)),
            pause_seconds=rng.choice((-1.0, 0.0, 0.2, 2.0)),
        )
        for number in range(1, rng.randint(1, 4) + 1)
    )
    quiet = rng.random() < 0.1
    menu = {} if quiet else swarm(rng, MENU)
    # Where the disk cannot be used, processes die and are restarted again and again without time passing.
    intensity = rng.choice((3, 10, 30) if DISK.intersection(menu) else (10, 1000))
    return Config(
        tables=tables,
        players=rng.randint(2, 6),
        bots=rng.random() < 0.6,
        think=rng.choice((0.01, 0.1, 1.0)),
        pauses=rng.choice((0.002, 0.05, 0.5)),
        snapshot_every=(
            rng.choice((1, 3, 10, 256)),
            rng.choice((1, 5, 64)),
            rng.choice((1, 2, 256)),
            rng.choice((1, 4, 256)),
        ),
        largest_group=rng.choice((1, 3, 4096, 4096)),
        kept_replies=rng.choice((2, 8, 64)),
        intensity=intensity,
        menu=menu,
        faults=rng.randint(3, 60),
        steps=rng.choice((30, 100, 300)),
        rest=rng.choice((300, 1_500, 5_000)),
        activation=0.0 if quiet else 0.4,
    )
