"""A network of its own for each node: namespaces on one bridge, whose packets can be dropped, refused or lost.

    with network(["a", "b", "c"]) as net:
        net.drop("a", "b")        # what a sends never reaches b
        net.heal()

All of it lies in namespaces of its own, the bridge too, so nothing of the machine's network is touched, and all of
it is gone with them. It takes root, `ip` and `iptables`; `missing()` tells what is not there.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

# Of the namespaces' names, before the number of the process that has made them.
_PREFIX: Final = "banyan-faults-"
_MADE = re.compile(_PREFIX + r"(\d+)-\w+")
_SUBNET: Final = "10.213.7."
_CLONE_NEWNET: Final = 0x40000000
# Where `ip netns` keeps them.
_PLACES: Final = Path("/run/netns")
_TOOLS: Final = {"ip": "iproute2", "iptables": "iptables"}


class NoNetwork(Exception):
    """No network can be made; why."""


def missing() -> str | None:
    """What it takes and is not there, in words; None if a network can be made."""
    lacking = [f"{tool} (package {package})" for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if os.geteuid() != 0:
        lacking.insert(0, "root, to make network namespaces")
    if lacking:
        return ", ".join(lacking)
    try:
        _sweep()
        with network(["x"]) as net:
            net.lose(0.5)
            net.heal()
    except NoNetwork as error:
        return str(error)
    return None


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise NoNetwork(f"{' '.join(command)!r} failed: {ended.stderr.strip()}")


@final
class Network:
    """The namespaces of some nodes; made by `network`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"{_SUBNET}{number}" for number, name in enumerate(names, 1)}
        self._mark = f"{_PREFIX}{os.getpid()}-"
        # As the kernel names the thread's own; whoever leaves it comes back here.
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def space(self, name: str) -> str:
        """The name of a node's namespace."""
        return self._mark + name

    def inside(self, name: str) -> list[str]:
        """What stands before a command that is to run in a node's namespace. Its process bears the same number."""
        return ["ip", "netns", "exec", self.space(name)]

    def socket(self, name: str) -> socket.socket:
        """A TCP socket that lives in a node's namespace, wherever it is used."""
        with open(_PLACES / self.space(name), "rb") as there:
            self._enter(there.fileno())
            try:
                return socket.socket()
            finally:
                self._enter(self._home)

    def _enter(self, space: int) -> None:
        if self._libc.setns(space, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    # -- what can go wrong -------------------------------------------------------------------------------

    def drop(self, source: str, destination: str) -> None:
        """Nothing that one sends reaches the other; nobody is told."""
        self._rule(destination, "-s", self.addresses[source], "-j", "DROP")

    def swallow(self, name: str) -> None:
        """Nothing reaches a node, and nothing leaves it."""
        for chain in ("INPUT", "OUTPUT"):
            self._rule(name, "!", "-i" if chain == "INPUT" else "-o", "lo", "-j", "DROP", chain=chain)

    def reset(self, one: str, other: str) -> None:
        """What one sends the other is answered with an RST."""
        self._rule(other, "-p", "tcp", "-s", self.addresses[one], "-j", "REJECT", "--reject-with", "tcp-reset")

    def lose(self, share: float) -> None:
        """Each packet between nodes is lost with this probability."""
        for name in self.addresses:
            odds = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")
            self._rule(name, "!", "-i", "lo", *odds, "-j", "DROP")

    def heal(self) -> None:
        """All is well again."""
        for name in self.addresses:
            _run(*self.inside(name), "iptables", "-w", "-F")

    def _rule(self, name: str, *rule: str, chain: str = "INPUT") -> None:
        _run(*self.inside(name), "iptables", "-w", "-A", chain, *rule)

    # -- making it ---------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make it; raises NoNetwork."""
        hub = self.space("hub")
        _run("ip", "netns", "add", hub)
        _run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", hub, "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            space = self.space(name)
            _run("ip", "netns", "add", space)
            _run("ip", "-n", hub, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _run("ip", "-n", hub, "link", "set", f"to-{name}", "master", "bridge", "up")
            _run("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", space, "link", "set", "lo", "up")
            _run("ip", "-n", space, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Remove what there is of it; the rules and the cables go with the namespaces."""
        os.close(self._home)
        for name in ("hub", *self.addresses):
            if (_PLACES / self.space(name)).exists():
                _run("ip", "netns", "delete", self.space(name))


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """A network of some nodes while the block runs. Raises NoNetwork."""
    net = Network(names)
    try:
        net.make()
        yield net
    finally:
        net.remove()


def _sweep() -> None:
    """Remove what somebody has left behind who was killed."""
    for place in _PLACES.iterdir() if _PLACES.exists() else ():
        made = _MADE.fullmatch(place.name)
        if made is not None and not Path(f"/proc/{made[1]}").exists():
            _run("ip", "netns", "delete", place.name)
