"""The faults: each is done to running nodes, and says what must have been seen of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, final

import trio

from .hosts import DEADLINE, Host, Hosts, faketime, now, pause, wall
from .net import Network
from .verdict import Return

# Seconds that a fault lasts after which a node must be given up; shorter ones, after which it must not.
LONG, SHORT = 13.0, 2.5
# A fault that was meant to be short and took longer, on a machine that is busy, says nothing: what is lost in a cut
# of 3 s and a bit TCP sends again after 6 s only.
_SHORT_CUT, _SHORT_STOP = 3.0, 6.5


@final
@dataclass(slots=True)
class Round:
    """One fault: what it did, and what must have been seen of it.

    Attributes:
        silent: pairs of names between which it was silent: who is given up must have been suspect, and down, first.
        given_up: whether they must be given up, or must not; None: either is right.
        over: when nothing was wrong with the machine any more: a killed node is being started.
        note: what is to be printed beside.
    """

    kind: str
    number: int
    began: float
    silent: list[tuple[str, str]] = field(default_factory=list)
    given_up: bool | None = None
    over: float = 0.0
    note: str = ""
    healed: trio.Event = field(default_factory=trio.Event)

    def heal(self) -> None:
        """All is well again from now on."""
        self.over = now()
        self.healed.set()


@final
class Run:
    """Everything that a fault may touch."""

    def __init__(self, net: Network, hosts: Hosts, dice: Random) -> None:
        self.net = net
        self.hosts = hosts.all
        self.fleet = hosts
        self.dice = dice
        self.early: list[str] = []
        self.hung: list[str] = []
        self.returns: list[Return] = []

    def two(self) -> tuple[Host, Host]:
        """Two nodes, in either order."""
        one, other = self.dice.sample(self.hosts, 2)
        return one, other

    async def seen(self, pair: tuple[str, str], since: float) -> None:
        """Wait until one of two nodes says that the other is down."""
        with trio.move_on_after(DEADLINE):
            while not any(what == "down" for _, what, _, _ in self.between(pair, since)):
                await pause(0.1)
            return
        self.hung.append(f"neither of {pair} has said that the other is down")

    def between(self, pair: tuple[str, str], since: float) -> list[tuple[float, str, str, str]]:
        """What two nodes have said of one another since a moment: when, what, who, of whom."""
        hosts = {host.name: host for host in self.hosts}
        return sorted(
            (at, what, one, node)
            for one, other in (pair, pair[::-1])
            for at, what, node in hosts[one].witnessed(since)
            if node == other
        )


Fault = Callable[[Run, Round], Awaitable[None]]


# -- the faults ------------------------------------------------------------------------------------------


async def kill(run: Run, round: Round) -> None:
    """SIGKILL, and started again after a moment."""
    victim = run.dice.choice(run.hosts)
    await victim.kill()
    await pause(run.dice.uniform(0.0, 3.0))
    round.heal()
    await victim.start()
    round.note = f"{victim.name} was ready {now() - round.over:.2f} s after its start"


async def kill_all(run: Run, round: Round) -> None:
    """SIGKILL for all of them, one right after the other; all are started again at once."""
    for victim in run.dice.sample(run.hosts, len(run.hosts)):
        await victim.kill()
    round.heal()
    async with trio.open_nursery() as nursery:
        for victim in run.hosts:
            nursery.start_soon(victim.start)
    round.note = f"all were ready {now() - round.over:.2f} s after their start"


async def _stop(run: Run, round: Round, seconds: float) -> None:
    victim = run.dice.choice(run.hosts)
    victim.signal(signal.SIGSTOP)
    stopped = wall()
    await pause(seconds)
    round.heal()
    run.returns += [Return(victim.name, stopped, wall())] * (seconds > LONG)
    victim.signal(signal.SIGCONT)
    round.note = f"{victim.name} stood still"
    round.silent = [(victim.name, host.name) for host in run.hosts if host is not victim]
    round.given_up = seconds > LONG if round.over - round.began < _SHORT_STOP or seconds > LONG else None


async def stop_5(run: Run, round: Round) -> None:
    """SIGSTOP for 5 s: a node is suspect, and nobody gives it up."""
    await _stop(run, round, 5.0)


async def stop_30(run: Run, round: Round) -> None:
    """SIGSTOP for 30 s: its lease is over when it comes back, and it commits nothing under an epoch from before."""
    await _stop(run, round, 30.0)


async def cut(run: Run, round: Round) -> None:
    """Nothing goes between two nodes; the third hears both."""
    one, other = run.two()
    await _cut(run, round, [(one, other), (other, one)], LONG)


async def cut_short(run: Run, round: Round) -> None:
    """The same, for a moment."""
    one, other = run.two()
    await _cut(run, round, [(one, other), (other, one)], SHORT)


async def cut_one_way(run: Run, round: Round) -> None:
    """What one node sends does not reach the other; the way back is open."""
    await _cut(run, round, [run.two()], LONG)


async def _cut(run: Run, round: Round, ways: list[tuple[Host, Host]], seconds: float) -> None:
    for source, destination in ways:
        run.net.drop(source.name, destination.name)
    source, destination = ways[0]
    round.note = f"from {source.name} to {destination.name}"
    await _dark(run, round, [(source.name, destination.name)], seconds)


async def _dark(run: Run, round: Round, pairs: list[tuple[str, str]], seconds: float) -> None:
    """Some time passes; if it is long, each pair must see that it is dark."""
    round.silent = pairs
    await pause(seconds)
    if seconds >= LONG:
        round.given_up = True
        for pair in pairs:
            await run.seen(pair, round.began)
    run.net.heal()
    round.heal()
    if seconds < LONG and round.over - round.began < _SHORT_CUT:
        round.given_up = False


async def black_hole(run: Run, round: Round) -> None:
    """Nothing reaches a node, and nothing leaves it; it goes on running, and reaches the coordination store."""
    victim = run.dice.choice(run.hosts)
    run.net.swallow(victim.name)
    round.note = victim.name
    await _dark(run, round, [(victim.name, host.name) for host in run.hosts if host is not victim], LONG)


async def loss_20(run: Run, round: Round) -> None:
    """Each packet is lost with a probability of 20 %."""
    run.net.lose(0.2)
    await pause(LONG)
    run.net.heal()
    round.heal()


async def reset(run: Run, round: Round) -> None:
    """Connections between two nodes are reset, again and again."""
    one, other = run.two()
    for _ in range(5):
        run.net.reset(one.name, other.name)
        await pause(run.dice.uniform(0.2, 1.0))
        run.net.heal()
        await pause(run.dice.uniform(0.1, 1.0))
    round.note = f"between {one.name} and {other.name}"
    round.heal()


async def storm(run: Run, round: Round) -> None:
    """One thing after the other, each for a moment, and the next begins before the one before is over."""
    done = []
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            one, other = run.two()
            seconds = run.dice.uniform(0.3, 4.0)
            kind = run.dice.choice(["kill", "stop", "drop", "reset", "swallow"])
            if kind == "kill":
                await one.kill()
                await one.start()
            elif kind == "stop":
                one.signal(signal.SIGSTOP)
                nursery.start_soon(_wake, one, one.process, seconds)
            elif kind == "swallow":
                run.net.swallow(one.name)
            else:
                (run.net.drop if kind == "drop" else run.net.reset)(one.name, other.name)
            done.append(f"{kind} {one.name}")
            await pause(run.dice.uniform(0.2, 2.5))
            if run.dice.random() < 0.5:
                run.net.heal()
    run.net.heal()
    round.note = ", ".join(done)
    round.heal()


_HOLDER: Final = """
import sys, lmdb
environment = lmdb.open(sys.argv[1], map_size=1 << 30, max_dbs=0, create=False)
with environment.begin(write=True) as transaction:
    print("held", flush=True)
    sys.stdin.read()
    transaction.abort()
"""


async def store_held(run: Run, round: Round) -> None:
    """Somebody holds the coordination store's lock for longer than a lease, as a node that stands still in a write."""
    path = run.hosts[0].folder / "coordination"
    holder = await trio.lowlevel.open_process(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with holder.stdin, holder.stdout:  # type: ignore[union-attr]  # both are pipes
        try:
            said = b""
            # An interpreter told not to buffer writes the end of a line by itself.
            while not said.endswith(b"\n"):
                said += await holder.stdout.receive_some() or b"\n"  # type: ignore[union-attr]  # as above
            assert said == b"held\n"
            await pause(LONG)
        finally:
            holder.kill()
            with trio.CancelScope(shield=True):
                await holder.wait()
    round.heal()


async def _wake(host: Host, life: trio.Process | None, seconds: float) -> None:
    """Let a node go on after a while, if it is still the same life."""
    await pause(seconds)
    if life is not None and host.process is life:
        host.signal(signal.SIGCONT)


async def clock(run: Run, round: Round) -> None:
    """A node's wall clock jumps: three hours on, then to half an hour ago, and back."""
    victim = run.dice.choice(run.hosts)
    await victim.kill()
    await victim.start(clock=faketime())
    await run.fleet.settled()
    since = now()
    for jump in (3 * 3600, -1800, 0):
        victim.jump(jump)
        await pause(4.0)
    said = {
        what
        for host in run.hosts
        if host is not victim
        for _, what, _, _ in run.between((victim.name, host.name), since)
    }
    run.early += [
        f"{what}, while the clock of {victim.name} jumped" for what in sorted(said & {"down", "noconnection"})
    ]
    await victim.kill()
    round.heal()
    await victim.start()
    round.note = victim.name


FAULTS: Final[dict[str, Fault]] = {
    "kill": kill,
    "kill-all": kill_all,
    "stop-5": stop_5,
    "stop-30": stop_30,
    "cut": cut,
    "cut-short": cut_short,
    "cut-one-way": cut_one_way,
    "black-hole": black_hole,
    "loss-20": loss_20,
    "reset": reset,
    "store-held": store_held,
    "storm": storm,
    "clock": clock,
}
