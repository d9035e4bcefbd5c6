"""The process that keeps a node's links: it listens before its start is over, and ends them all with itself.

    links = Links(world, identity, settings, addresses.get)
    links.above = Dist(table, links)
    child("net_kernel", NetKernel, links)

If it crashes, all links are down, and its successor, with the same `Links`, listens at the same address again and
dials those that are kept. Source: OTP `net_kernel`.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

from ..behaviours.gen import Ack, Behaviour
from ..behaviours.system import serve_until_told
from ..kernel.process import Body, Process
from .links import Links


@final
class NetKernel(Behaviour):
    """Runs a node's `Links`.

    Child spec: `child("net_kernel", NetKernel, links)`. An address that cannot be listened at fails its start.
    It ends when its parent says so; what fails in one link does not end it.
    """

    trap_exit: ClassVar[bool] = True
    _behaviour_scoped: ClassVar[bool] = True

    def __init__(self, links: Links) -> None:
        self._links = links

    def state(self) -> object:
        links = self._links
        return {
            "address": links.address,
            "links": {
                link.node: {"state": link.state.value, "creation": link.creation, **link.counters.to_json()}
                for link in links.links()
            },
            "refused": dict(links.refused),
        }

    def summary(self) -> str:
        links = self._links
        count = len(links.links())
        return f"{count} link{'s' * (count != 1)}, {links.address or 'not listening'}"

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        process.behaviour = kernel = cls(*args)
        return kernel._live, ack

    async def _live(self, process: Process, ack: Ack) -> object:
        async with self._links.running():
            ack.ok()
            return await serve_until_told(process, self)
