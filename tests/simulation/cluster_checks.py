"""What must hold after a run of a cluster: held against the disks, against what was heard, and against the nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.cluster.placement import shard_of
from runtime.kernel.table import ProcessTable
from runtime.testing import Answered, Placed, not_linearizable
from supervisors import shard_facts

from .cluster_bank import BANK, Account, Deposit, Give, Look, State, Transfer, says_no
from .cluster_clients import Operation
from .inside import outcome_of

if TYPE_CHECKING:
    from .cluster import Run
    from .cluster_host import Host


class Past:
    """An account as its entries make it: its state in the end, and its balance after each line of its log."""

    def __init__(self, key: str, host: str, entries: list[Any]) -> None:
        self.key = key
        self.host = host
        account = Account()
        self.state = State()
        self.balances = [0]
        self.epochs: list[int] = []
        for entry in entries:
            self.epochs.append(entry.epoch)
            for event in outcome_of(entry)[0]:
                before = len(self.state.log)
                self.state = account.apply(self.state, event)
                self.balances += [self.state.balance] * (len(self.state.log) - before)
        self.places = {id: place for place, id in enumerate(self.state.log, 1)}


def pasts(run: Run) -> tuple[dict[str, Past], list[str]]:
    """All accounts, by key, from the disks of their owners; and what is wrong with where they lie.

    What a former owner has kept of one, or a coming one has got, is a beginning of what the owner has.
    """
    found: dict[str, Past] = {}
    whole: dict[str, list[Any]] = {}
    copies: list[tuple[str, str, list[Any]]] = []
    wrong: list[str] = []
    for host in run.hosts:
        if host.disk.index is None:
            continue
        journal = host.disk.open(read_only=True)
        try:
            for name in journal.keys(f"{BANK}/"):  # a Journal is no mapping
                key = name.partition("/")[2]
                entries = journal.read(name)
                if not entries:
                    continue
                if not _is_owner(run, host, key):
                    copies.append((key, host.name, [(one.sequence, one.epoch, one.payload) for one in entries]))
                    continue
                whole[key] = [(one.sequence, one.epoch, one.payload) for one in entries]
                past = found[key] = Past(key, host.name, entries)
                if past.epochs != sorted(past.epochs):
                    wrong.append(f"fence: the epochs of {key} are {past.epochs}")
        finally:
            journal.close()
    for key, name, copy in copies:
        there = whole.get(key, [])
        after = copy[0][0] - there[0][0] if there else 0
        if there[max(after, 0) :][: len(copy)] != copy[max(-after, 0) :]:
            wrong.append(f"digest: {name} has {len(copy)} entries of {key}, which are no beginning of the owner's")
    return found, wrong


def _is_owner(run: Run, host: Host, key: str) -> bool:
    row = run.observed.rows.get(shard_of(BANK, key, run.config.shards))
    return row is not None and row.owner == host.name


def check(run: Run) -> list[str]:
    """Everything that is to be read when all is over."""
    found, wrong = pasts(run)
    for past in found.values():
        wrong += [f"doubled: {id} is in {past.key} {n} times" for id, n in Counter(past.state.log).items() if n > 1]
    asked: dict[str, list[Operation]] = {}
    for one in run.operations:
        asked.setdefault(one.key, []).append(one)
    for key, operations in asked.items():
        if key.startswith("basket "):
            continue
        past = found.get(key) or Past(key, "", [])
        wrong += _heard(past, operations)
        wrong += _order(past.key, past.state.log, operations)
        wrong += _linear(past, operations)
    for key, got in run.baskets:
        wrong += [f"doubled: {id} is in basket {key} {n} times" for id, n in Counter(got).items() if n > 1]
        wrong += _order(f"basket {key}", got, asked.get(f"basket {key}", []))
    return wrong + _total(found)


def _heard(past: Past, operations: list[Operation]) -> Iterator[str]:
    """What was answered is there, in the place that was told; what was refused is not."""
    for one in operations:
        place = past.places.get(one.id)
        if one.refused:
            if place is not None:
                yield f"doubled: {one.id} was refused ({one.refused}), and is in {past.key} at {place}"
        elif isinstance(one.request, Deposit | Transfer) and one.reply is not None and place != one.reply:
            yield f"lost: {one.id} was answered {one.reply}, and is in {past.key} at {place}"
        elif one.taken and place is None and one.life is not None and one.life in one.life.run.survivors:
            yield f"lost: {one.id} was taken for {past.key} by {one.life.name}, which lives, and is not there"


def _order(key: str, log: Any, operations: list[Operation]) -> Iterator[str]:
    """Each sender's requests are there in its order."""
    numbers = {one.id: (one.sender, one.number) for one in operations}
    last: dict[str, int] = {}
    for id in dict.fromkeys(log):
        sender, number = numbers.get(id, ("", 0))
        if sender and number < last.get(sender, 0):
            yield f"order: {id} is in {key} behind number {last[sender]}"
        last[sender] = number


def _linear(past: Past, operations: list[Operation]) -> list[str]:
    """The order of the log agrees with time, and what left no line was true at some moment."""
    placed, answers = [], []
    for one in operations:
        place = past.places.get(one.id)
        if place is not None:
            placed.append(Placed(one.id, place, one.called, one.answered))
        elif one.reply is not None or one.refused:
            answers.append(Answered(f"{one.id} {one.refused}", one.called, one.answered, _fits(past, one)))
    return not_linearizable(past.key, placed, answers, len(past.state.log))


def _fits(past: Past, one: Operation) -> Any:
    balances = past.balances
    match one.request:
        case Look():
            length, balance = one.reply
            return lambda position: position == length and balances[position] == balance
        case Deposit(_, amount):
            return lambda position: says_no(position, amount)
        case Transfer(_, _, amount):
            return lambda position: amount > balances[position]
        case Give():
            return lambda _position: True
    raise AssertionError(one)


def _total(found: dict[str, Past]) -> list[str]:
    """No money is made and none is lost: what is not in an account is on its way, or has come and is not closed."""
    held = sum(past.state.balance for past in found.values())
    put_in = sum(past.state.put_in for past in found.values())
    on_the_way = 0
    for past in found.values():
        for one in past.state.open:
            there = found.get(one.to)
            if there is None or f"from {one.id}" not in there.places:
                on_the_way += one.amount
    return [f"conservation: {held} are there and {on_the_way} on the way, {put_in} were put in"] * (
        held + on_the_way != put_in
    )


# -- what must hold when all has come to rest --------------------------------------------------------------


def unsettled(run: Run) -> list[str]:
    """What is not well yet."""
    wrong = [f"{name} waits for an answer" for name in run.busy if name.partition(".")[0] in run.alive()]
    for host in run.hosts:
        table = host.table
        if table is None:
            wrong.append(f"node {host.name} is down")
            continue
        others = sorted(one.name for one in run.hosts if one is not host)
        linked = _dist(table).nodes()
        if linked != others:
            wrong.append(f"{host.name} is linked with {linked}")
        for fact in shard_facts(table):
            if fact.waiting or fact.held:
                wrong.append(f"{host.name} has commands without an outcome: {fact}")
            if fact.owner is None:
                wrong.append(f"{host.name} knows of no owner of shard {fact.shard}")
    if not wrong:
        found = pasts_of_living(run)
        wrong += [f"transfer {one.id} of {past.key} is open" for past in found for one in past.state.open]
    return wrong


def pasts_of_living(run: Run) -> list[Past]:
    """The accounts as the open stores have them now."""
    found = []
    for host in run.hosts:
        journal = host.disk.owner
        for name in journal.keys(f"{BANK}/") if journal is not None else ():
            assert journal is not None
            if _is_owner(run, host, name.partition("/")[2]):
                found.append(Past(name.partition("/")[2], host.name, journal.read(name)))
    return found


def owners(run: Run, seen: dict[tuple[int, int], str]) -> list[str]:
    """What nodes believe to serve now: one node a shard, and one life for each epoch of it."""
    wrong = []
    serving: dict[int, str] = {}
    for host in run.hosts:
        membership: Any = host.table.services.get("membership") if host.table is not None else None
        if membership is None or host.life is None:
            continue
        for shard in range(run.config.shards):
            epoch = membership.serves(shard)
            fence = host.disk.owner.fence(shard) if epoch is not None and host.disk.owner is not None else None
            if epoch is not None and fence is not None and fence.sealed and fence.epoch == epoch:
                continue  # for a move, of which it does not know yet how it ends
            if epoch is None:
                if host.life.served.pop(shard, None) is not None:
                    run.sometimes("a shard was lost by a node that lives")
                continue
            host.life.served[shard] = epoch
            if shard in serving:
                wrong.append(f"owner: shard {shard} is served by {serving[shard]} and by {host.name}")
            serving[shard] = host.name
            before = seen.setdefault((shard, epoch), host.life.name)
            if before != host.life.name:
                wrong.append(f"owner: epoch {epoch} of shard {shard} was {before}'s and is {host.life.name}'s")
    return wrong


def leaks(run: Run) -> list[str]:
    """What should be gone when nobody asks anything: calls, frames, credit, monitors without their other half."""
    wrong: list[str] = []
    for host in run.hosts:
        table = host.table
        if table is None:
            continue
        for name, peer in sorted(_dist(table).peers.items()):
            where = f"left: {host.name} has, for {name},"
            waiting = [caller.destination for caller in peer.pending.values() if caller.waiting]
            wrong += [f"{where} a call to {to!r}" for to in waiting]
            wrong += [f"{where} {len(peer.queue)} frames"] * bool(peer.queue)
            wrong += [f"{where} {len(peer.blocked)} who wait for room"] * bool(peer.blocked)
            wrong += [f"{where} {len(peer.tied)} links of processes"] * bool(peer.tied)
            other = _host(run, name)
            there = _dist(other.table).peers.get(host.name) if other.table is not None else None
            if there is not None and sorted(peer.watching) != sorted(there.watched):
                wrong.append(f"{where} monitors {sorted(peer.watching)}, known there are {sorted(there.watched)}")
            link: Any = peer.link
            if link is not None and link._taken != link._released:
                wrong.append(f"{where} {link._taken - link._released} bytes of credit")
            if link is not None and link._waiting:
                wrong.append(f"{where} {link._waiting} bytes in the outbox")
        shards = [_region_shards(table, name) for name in ("region/bank", "region/basket")]
        for shard in [one for found in shards for one in found]:
            if shard.intake.under_way or shard.intake.hold:
                wrong.append(f"left: {host.name} has {shard.intake.under_way} commands under way in {shard.number}")
    return wrong


def _region_shards(table: ProcessTable, name: str) -> list[Any]:
    router: Any = table.names[name].behaviour if name in table.names else None
    return list(router.inward.shards.values()) if router is not None else []


def _dist(table: ProcessTable) -> Any:
    return table.services["peers"]


def _host(run: Run, name: str) -> Host:
    return next(host for host in run.hosts if host.name == name)
