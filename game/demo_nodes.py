"""The demo on several nodes: they share one room, one of them is drained and another dies while hands are played.

The same kinds of kill as on one node: a table in mid-hand, the supervisor of a node's tables, a node, and that one
while a table moves away from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from runtime import Journal
from runtime.cluster.shards import shard_of
from runtime.observe.client import AdminClient
from runtime.observe.protocol import Drain, Kill, Move, Moves, Refusal, Request, Tree

from .app import TREES
from .demo_screen import Screen
from .demo_story import PATIENCE, Demo, Stuck, came_back, flat, in_mid_hand, named, up
from .nodes import Nodes
from .replay_moves import GONE

# How long several nodes may take until they play: a busy machine is no defect.
START = 60.0
# Of the cluster that is made: few, for a tree that can be looked at.
SHARDS = 12
# What is running below the supervisor of the tables of a node.
ROOM = "root/card room/room"
TABLES = "region/table/shards"
SUPERVISOR = f"{ROOM}/table/{TABLES}"


@final
class DemoOnNodes(Demo):
    """The story on several nodes."""

    shards = SHARDS

    def __init__(self, folder: Path, screen: Screen, seconds: float, nodes: int) -> None:
        super().__init__(folder, screen, seconds)
        self._tables = [f"table/{name}" for name in TREES[: min(nodes, len(TREES))]]
        self._fleet = Nodes(folder / "nodes", "demo", nodes, self._log, shards=SHARDS, restarts=10)
        self._clients: dict[str, AdminClient] = {}
        # How each node stands that drains, as it is shown; and the moves that have gone through.
        self._standing: dict[str, str] = {}
        self._moved: set[str] = set()
        self.drained = 0
        self.calm = seconds / 6

    @property
    def healed(self) -> bool:
        return super().healed and self.drained == 1 and bool(self._moved)

    def told(self) -> dict[str, Any]:
        return {"moves": len(self._moved), "drained": self.drained}

    def play(self) -> None:
        with self.screen:
            count = len(self._fleet.names)
            self.screen.say(f"starting {count} nodes that share a room, with {len(self._tables)} tables of bots")
            settings = {"tables": str(len(self._tables)), "think": "0.12", "pause": "0.4", "nodes": str(count)}
            self._fleet.start("game.app:application", settings)
            self._until("all tables play", lambda found: self._fleet.joined and self._played(found, {}), START)
            self._watch(self.calm, "the tables play, each where its shard is")
            oak = self._where("table/oak")
            self._strike(oak, "table/oak", "table/oak", "killing a table in mid-hand")
            self._watch(self.calm, "healed: it goes on with the same hand, from its journal")
            self._strike(oak, SUPERVISOR, f"{oak}/{SUPERVISOR}", f"killing the supervisor of all tables of {oak}")
            self._watch(self.calm, "healed: its tables were started again, as their shards remember them")
            self._drain(oak)
            self._watch(self.calm, "drained: nobody at its tables has noticed")
            other = self._where("table/oak")
            self._kill_in_mid_move(other, oak)
            now = self._where("table/oak")
            where = "where it went" if now == oak else "there, and the move is void"
            self._watch(self.calm, f"healed: {other} is back; table/oak is {where}")
            self._count_moves()
            self.screen.say("stopping all nodes in order")
            self._stop()

    def stores(self) -> list[Journal]:
        return self._fleet.stores()

    def end(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._fleet.end()

    def _stop(self) -> None:
        code = self._fleet.stop(PATIENCE)
        if code != 0:
            raise Stuck("the nodes did not stop in time" if code is None else f"the nodes ended with {code}")

    # -- looking -------------------------------------------------------------------------------------

    def _look(self) -> dict[str, tuple[str | None, str, str]]:
        ended = self._fleet.look()
        if ended is not None:
            raise Stuck(f"the nodes ended by themselves with {ended}")
        trees = {name: self._tree_of(name) for name in self._fleet.names}
        found = {path: seen for name, tree in trees.items() if tree for path, seen in flat(tree, name)}
        for path, (pid, _, _) in found.items():
            before = self._seen.get(path)
            if before is not None and pid is not None and before[0] not in (None, pid):
                self.restarts += 1
        self._seen.update(found)
        self.screen.show(_shown(trees, self._standing))
        return found

    def _tree_of(self, name: str) -> dict[str, Any] | None:
        """A node's tree; None while it is down."""
        there = self._fleet.ready.get(name)
        if there is None:
            return None
        try:
            if name not in self._clients:
                self._clients[name] = AdminClient(Path(there[1]))
            tree: dict[str, Any] = self._clients[name].request(Tree())
            return tree
        except Refusal:
            client = self._clients.pop(name, None)
            if client is not None:
                client.close()
            return None

    def _where(self, table: str) -> str:
        """The node where a table is."""
        found = self._until(f"{table} is up", lambda found: up(found, table))
        return next(path.partition("/")[0] for path in found if path.endswith("/" + table))

    def _played(self, found: dict[str, tuple[str | None, str, str]], before: dict[str, int]) -> bool:
        """Whether all tables have gone on since they were at these entries of their journals."""
        return all(_sequence(found, table) > before.get(table, 3) for table in self._tables)

    # -- killing -------------------------------------------------------------------------------------

    def _strike(self, node: str, target: str, name: str, caption: str) -> None:
        """Kill a process of a node and wait until it is there again."""
        self.screen.say(caption)
        is_table = target.startswith("table/")
        true: Callable[..., bool] = in_mid_hand if is_table else up
        before = self._until(f"{target} plays", lambda found: true(found, name))
        try:
            self._clients[node].request(Kill(target=target if is_table else target.removeprefix(f"{ROOM}/table/")))
        except Refusal as refused:
            raise Stuck(str(refused)) from None
        self._until(f"{target} lives again", lambda found: came_back(before, found, name))
        self.process_kills += 1

    # -- moving --------------------------------------------------------------------------------------

    def _drain(self, node: str) -> None:
        """Have a node give all away while its tables play; then it takes part again."""
        self.screen.say(f"draining {node}: its shards move to the others, in mid-hand")
        before = self._look()
        self._ask(Drain(node=node))
        self._until(f"{node} owns nothing", lambda _found: self._owned(node) == 0)
        self._count_moves()
        were = {table: _sequence(before, table) for table in self._tables}
        self._until("all tables have gone on", lambda found: self._played(found, were))
        self._forget(node, "/region/")
        self.drained += 1
        self._ask(Drain(node=node, undo=True))
        self._standing.pop(node, None)

    def _kill_in_mid_move(self, node: str, target: str) -> None:
        """Have the table's shard begin to move, and kill its node."""
        before = self._look()
        shard = shard_of("table", "oak", SHARDS)
        self._until(f"{target} takes part again", lambda _found: target not in self._draining())
        self._ask(Move(shard=shard, node=target))
        self.screen.say(f"killing {node} with SIGKILL while table/oak moves to {target}")
        self._clients.pop(node).close()
        self._fleet.kill(node)
        self._forget(node, "")  # what its next life starts is no restart of a supervisor's
        were = {table: _sequence(before, table) for table in self._tables}
        self._until(
            "all is up again, and all tables have gone on",
            lambda found: self._fleet.joined and up(found, f"{node}/{ROOM}") and self._played(found, were),
        )
        self.node_kills += 1

    def _ask(self, request: Request) -> Any:
        """Ask any node of what concerns all; tried again for a while, since it may be refused just then."""
        until = time.perf_counter() + PATIENCE
        while True:
            name = next(iter(self._clients), None)
            try:
                if name is not None:
                    return self._clients[name].request(request)
            except Refusal as refused:
                if time.perf_counter() > until:
                    raise Stuck(str(refused)) from None
            self._look()

    def _owned(self, node: str) -> int:
        """How many shards a node owns that is drained."""
        for one in self._ask(Moves(of=node))["nodes"]:
            if one["node"] == node:
                self._standing[node] = f"draining, {one['owned']} shards left"
                return int(one["owned"])
        return -1

    def _draining(self) -> list[str]:
        return [one["node"] for one in self._ask(Moves())["nodes"] if one["draining"]]

    def _count_moves(self) -> None:
        """Note which moves have gone through; a node that dies forgets its own."""
        self._moved.update(one["id"] for one in self._ask(Moves())["moves"] if one["phase"] in GONE)

    def _forget(self, node: str, part: str) -> None:
        """What is seen at a node from now on is none that was started again."""
        for path in [path for path in self._seen if path.startswith(f"{node}/") and part in path]:
            del self._seen[path]


def _sequence(found: dict[str, tuple[str | None, str, str]], table: str) -> int:
    """How many entries a table's journal has, as its line of the tree says; 0 if it does not live."""
    word, _, rest = named(found, table)[2].partition(" ")
    number = rest.partition(",")[0]
    return int(number) if word == "seq" and number.isdecimal() else 0


def _shown(trees: dict[str, dict[str, Any] | None], standing: dict[str, str]) -> dict[str, Any]:
    """What is shown of all nodes: their tables below what supervises them, the lobby, how many wallets, who drains."""
    down = {"pid": None, "state": "down"}
    nodes = [
        {**(_told(tree) if tree else down), "name": name, "detail": standing.get(name, _wallets(tree))}
        for name, tree in trees.items()
    ]
    return {"name": "the nodes", "pid": None, "state": "running", "children": nodes}


def _told(tree: dict[str, Any]) -> dict[str, Any]:
    """A node with what there is to see of it, however far below: a line for each, for a small terminal."""
    supervisors = _below(tree, TABLES)
    tables = [{**one, "children": _below(one, "table/")} for one in supervisors]
    return {**tree, "children": [*tables, *_below(tree, "room/")]}


def _wallets(tree: dict[str, Any] | None) -> str:
    count = len(_below(tree, "wallet/")) if tree else 0
    return f"{count} wallet{'s' * (count != 1)}" if count else ""


def _below(tree: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """All below a process that have this name; one that ends with a slash is how theirs begin."""
    found = []
    for one in tree.get("children", ()):
        if one["name"] == name or (name[-1] == "/" and one["name"].startswith(name)):
            found.append(one)
        found += _below(one, name)
    return found
