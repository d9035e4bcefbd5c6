"""The demo on several nodes: they share one room, and one of them dies while the others play on.

The same kinds of kill as on one node: a table in mid-hand, the supervisor of a node's tables, a node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from runtime import Journal
from runtime.observe.client import AdminClient
from runtime.observe.protocol import Kill, Refusal, Tree

from .app import TREES
from .demo import PATIENCE, _Demo, _flat, _healed, _in_mid_hand, _named, _Screen, _Stuck, _up
from .nodes import Nodes

# Of the cluster that is made: few, for a tree that can be looked at.
SHARDS = 12
# What is running below the supervisor of the tables of a node.
ROOM = "root/card room/room"
SUPERVISOR = f"{ROOM}/table/region/table/shards"
# Parts of a node that are the same for every application, or say nothing here.
HIDDEN = ("system", "house", "gateway", "bots")


@final
class DemoOnNodes(_Demo):
    """The story on several nodes."""

    def __init__(self, folder: Path, screen: _Screen, seconds: float, nodes: int) -> None:
        super().__init__(folder, screen, seconds)
        self._tables = [f"table/{name}" for name in TREES[: min(nodes, len(TREES))]]
        self._fleet = Nodes(folder / "nodes", "demo", nodes, self._log, shards=SHARDS, restarts=10)
        self._clients: dict[str, AdminClient] = {}

    def play(self) -> None:
        with self.screen:
            count = len(self._fleet.names)
            self.screen.say(f"starting {count} nodes that share a room, with {len(self._tables)} tables of bots")
            settings = {"tables": str(len(self._tables)), "think": "0.12", "pause": "0.4", "nodes": str(count)}
            self._fleet.start("game.app:application", settings)
            self._until("all tables play", lambda found: self._fleet.joined and self._played(found, {}))
            self._watch(self.calm, "the tables play, each where its shard is")
            oak = self._where("table/oak")
            self._strike(oak, "table/oak", "table/oak", "killing a table in mid-hand")
            self._watch(self.calm, "healed: it goes on with the same hand, from its journal")
            self._strike(oak, SUPERVISOR, f"{oak}/{SUPERVISOR}", f"killing the supervisor of all tables of {oak}")
            self._watch(self.calm, "healed: its tables were started again, as their shards remember them")
            self._kill_one(oak)
            self._watch(self.calm, "healed: its tables and wallets came back from its data directory")
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
            raise _Stuck("the nodes did not stop in time" if code is None else f"the nodes ended with {code}")

    # -- looking -------------------------------------------------------------------------------------

    def _look(self) -> dict[str, tuple[str | None, str, str]]:
        ended = self._fleet.look()
        if ended is not None:
            raise _Stuck(f"the nodes ended by themselves with {ended}")
        trees = {name: self._tree_of(name) for name in self._fleet.names}
        found = {path: seen for name, tree in trees.items() if tree for path, seen in _flat(tree, name)}
        for path, (pid, _, _) in found.items():
            before = self._seen.get(path)
            if before is not None and pid is not None and before[0] not in (None, pid):
                self.restarts += 1
        self._seen.update(found)
        self.screen.show(_shown(trees))
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
        found = self._until(f"{table} is up", lambda found: _up(found, table))
        return next(path.partition("/")[0] for path in found if path.endswith("/" + table))

    def _played(self, found: dict[str, tuple[str | None, str, str]], before: dict[str, int]) -> bool:
        """Whether all tables have gone on since they were at these entries of their journals."""
        return all(_sequence(found, table) > before.get(table, 3) for table in self._tables)

    # -- killing -------------------------------------------------------------------------------------

    def _strike(self, node: str, target: str, name: str, caption: str) -> None:
        """Kill a process of a node and wait until it is there again."""
        self.screen.say(caption)
        is_table = target.startswith("table/")
        true: Callable[..., bool] = _in_mid_hand if is_table else _up
        before = self._until(f"{target} plays", lambda found: true(found, name))
        try:
            self._clients[node].request(Kill(target=target if is_table else target.removeprefix(f"{ROOM}/table/")))
        except Refusal as refused:
            raise _Stuck(str(refused)) from None
        self._until(f"{target} lives again", lambda found: _healed(before, found, name))
        self.process_kills += 1

    def _kill_one(self, node: str) -> None:
        self.screen.say(f"killing {node} with SIGKILL, the others play on")
        before = self._look()
        client = self._clients.pop(node)
        client.close()
        self._fleet.kill(node)
        for path in [path for path in self._seen if path.startswith(f"{node}/")]:
            del self._seen[path]  # what its next life starts is no restart of a supervisor's
        self._look()
        were = {table: _sequence(before, table) for table in self._tables}
        self._until(
            "all is up again, and all tables have gone on",
            lambda found: self._fleet.joined and _healed(before, found, "table/oak") and self._played(found, were),
        )
        self.node_kills += 1


def _sequence(found: dict[str, tuple[str | None, str, str]], table: str) -> int:
    """How many entries a table's journal has, as its line of the tree says; 0 if it does not live."""
    word, _, rest = _named(found, table)[2].partition(" ")
    number = rest.partition(",")[0]
    return int(number) if word == "seq" and number.isdecimal() else 0


def _shown(trees: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """What is shown of all nodes: where the tables are, and how many wallets."""
    down = {"pid": None, "state": "down"}
    nodes = [{**_pruned(tree), "name": name} if tree else {**down, "name": name} for name, tree in trees.items()]
    return {"name": "the nodes", "pid": None, "state": "running", "children": nodes}


def _pruned(one: dict[str, Any]) -> dict[str, Any]:
    children = []
    for child in one.get("children", ()):
        name = child["name"]
        if name in HIDDEN or (name.startswith("region/") and not _entities(child)):
            continue
        children.append(_pruned(child))
    if one["name"] == "region/wallet/shards":
        return {**one, "children": [], "detail": f"{_entities(one)} wallets"}
    return {**one, "children": children}


def _entities(one: dict[str, Any]) -> int:
    """How many wallets, tables and lobbies run below a process."""
    here = int(one["name"].startswith(("wallet/", "table/", "room/")))
    return here + sum(_entities(child) for child in one.get("children", ()))
