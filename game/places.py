"""Where wallets, tables and the lobby are found: on this node, or on any node of its cluster.

On a node of its own each of them is a process whose key is its registered name. In a cluster they are entities of
regions, which have the same names on the node where they run, and keep their records under the same keys. Everybody
asks `place` for the destination and need not know which it is.
"""

from __future__ import annotations

from typing import Final

import trio

from runtime import Name, NoProcess
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import membership_of
from runtime.kernel.table import ProcessTable, current_table
from supervisors import Region
from supervisors.shards.ports import PLACEMENT

# Among a node's services: that its room's processes are entities.
SPREAD: Final = "game.spread"
# The regions, by the first part of a key.
WALLET, TABLE, ROOM = "wallet", "table", "room"
# Between two looks at who is there, in seconds.
LOOK: Final = 0.05

_REGIONS: Final = {WALLET: Region(WALLET), TABLE: Region(TABLE)}
_ROOM: Final = Region(ROOM)


def place(key: str) -> Name:
    """The destination of a wallet, a table or the lobby, given its key."""
    if SPREAD not in current_table().services:
        return key
    kind, slash, name = key.partition("/")
    return _REGIONS[kind].entity(name) if slash else _ROOM.entity(key)


def is_spread() -> bool:
    """Whether the room of this node is spread over a cluster."""
    return SPREAD in current_table().services


async def assembled(nodes: int) -> int:
    """Wait until so many nodes live and all own shards; which of them this one is by its name, from 0.

    What is made after that is spread over them; a shard in which something was written stays where it is.
    """
    table = current_table()
    if nodes == 1 or SPREAD not in table.services:
        return 0
    while True:
        try:
            members = membership_of(table)
        except NoProcess:
            pass  # it is being restarted
        else:
            up = sorted(name for name, (_, _, state) in members.nodes().items() if state == "up")
            owners = {owner and owner[0] for owner in map(members.owner, range(members.cluster.shards))}
            if len(up) >= nodes and owners == set(up):
                return up.index(table.node)
        await trio.sleep(LOOK)


def settle(table: ProcessTable) -> bool:
    """Decide, once for the life of a node, whether its room is to be spread: if it shares shards with others."""
    if MEMBERSHIP in table.services or PLACEMENT in table.services:
        table.services[SPREAD] = True
    return SPREAD in table.services
