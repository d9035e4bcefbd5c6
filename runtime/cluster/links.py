"""Links: which nodes this one is linked with. It listens, dials whom it is told to, and keeps one link per node.

Every connection begins as a stranger's: TLS, then the handshake, within HELLO_SECONDS, in a function from which
nothing leads to a process (`greeting`). Only what comes out of it as `Agreed` becomes a `Link`. A refusal is counted
by its word, and logged once for each word and name, so that a node that tries for ever does not fill the log.

Whom it wants, it dials at once; after a failure it waits first, twice as long each time, less some jitter. What was
wanted once is dialled once; what is kept is dialled until it is forgotten.

Beside each link goes a heartbeat's connection, which the side that has dialled dials too, again and again while the
link stands. `health` judges what it brings. A link whose node is down is closed, and only then is it told.

Source: Erlang's `net_kernel`; ranch for strangers that are counted apart.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Final, final

import trio

from ..errors import Misuse
from ..kernel.exits import NOCONNECTION
from ..kernel.world import Heart, Listener, World
from .greeting import agree
from .handshake import Acquaintances, Agreed, Identity, Refusal, Role
from .health import BEAT_SECONDS, LOOK_SECONDS, Look, State
from .heartbeat import Heartbeat
from .link import Above, Limits, Link
from .pipe import Pipe
from .tls import Security, check_address

logger = logging.getLogger("banyan")

# Connections without a name that are talked to at once; with one more, the oldest is closed.
MOST_STRANGERS: Final = 64
# Seconds that a connection may take to come about.
CONNECT_SECONDS: Final = 5.0
# Seconds before a node is dialled again after the first failure, and at most; see `_wait`.
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
# Refusals that are logged, each word and name once.
_MOST_LOGGED: Final = 1024
# Refusals that two nodes give each other whenever both dial: one of the connections stays.
_ORDINARY: Final = frozenset({"simultaneous", "connected"})
# The system has run out of something that others will give back.
_SCARCE: Final = frozenset({EMFILE, ENFILE, ENOMEM, ENOBUFS})


@final
@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How links are made.

    Attributes:
        listen: the address to listen at; None: others cannot dial this node.
        security: keys, or `Clear`; None is refused, with how keys are made.
        allowed: names of nodes that may be linked with; None: all that the authority vouches for.
        limits: of each link.
    """

    listen: str | None = None
    security: Security | None = None
    allowed: Collection[str] | None = None
    limits: Limits = field(default_factory=Limits)


@final
class Links:
    """The links of one node.

    Args:
        world: where connections, time and jitter come from.
        me: who this node is.
        settings: see there.
        address_of: where a node is; None: nobody knows.

    Attributes:
        above: told of links and frames; set it before `run`.
        watchers: called with a node's name and its new state, when its heartbeats say another one.
        address: where this node listens; "" while it does not.
        refused: how many connections were refused, by the word.

    Raises, when made: Misuse, NoKeys: the settings' address cannot be listened at like this.
    """

    def __init__(
        self, world: World, me: Identity, settings: LinkSettings, address_of: Callable[[str], str | None]
    ) -> None:
        if settings.listen is not None:
            check_address(settings.listen, settings.security, me.name)
        self.world = world
        self.me = me
        self.settings = settings
        self.above: Above | None = None
        self.watchers: list[Callable[[str, State], None]] = []
        self.address = ""
        self.refused: Counter[str] = Counter()
        self._address_of = address_of
        # Where it listened in an earlier run, so that others find it there again.
        self._before = ""
        self._known = Acquaintances(me, settings.allowed)
        self._links: dict[str, Link] = {}
        self._dials: dict[str, _Dial] = {}
        self._kept: dict[str, None] = {}
        self._hearts: dict[Link, Heartbeat] = {}
        # Connections whose handshake is not through, the oldest first.
        self._strangers: dict[trio.CancelScope, None] = {}
        self._logged: dict[tuple[str, str], None] = {}
        self._nursery: trio.Nursery | None = None
        self._heart: Heart | None = None
        # When the loop last came round: read by the heart's thread.
        self._ticked = 0.0

    # -- what others ask -----------------------------------------------------------------------------

    def link(self, node: str) -> Link | None:
        """The link with a node; None if there is none now."""
        return self._links.get(node)

    def links(self) -> list[Link]:
        """All links, in the order of their coming up."""
        return list(self._links.values())

    def kept(self) -> list[str]:
        """The nodes that are to be linked always, whether or not they are now."""
        return list(self._kept)

    def want(self, node: str) -> bool:
        """Have a node linked. True: `Above.up` or `Above.down` follows, unless it is linked. Calls nobody itself.

        Returns False if nobody knows where it is, or this node's links are not running: then nothing follows.
        """
        if node in self._links:
            return True
        if node in self._dials:
            self._dials[node].wanted = True
            return True
        if self._nursery is None or node == self.me.name or self._address_of(node) is None:
            return False
        dial = self._dials[node] = _Dial(node)
        self._nursery.start_soon(self._dial, dial, name=f"dial {node}")
        return True

    def keep(self, node: str) -> bool:
        """Have a node linked, and linked again whenever it is not, until `forget`. Returns what `want` does."""
        self._kept[node] = None
        return self.want(node)

    def forget(self, node: str) -> None:
        """Do not link with a node again by itself; a link that is up stays."""
        self._kept.pop(node, None)

    # -- running -------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be `running` until cancelled; started when it listens. Raises as `running`."""
        async with self.running():
            task_status.started()
            await trio.sleep_forever()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the block runs, listen and carry all links; at its end they are down.

        Raises, on entry: OSError if the address cannot be listened at; Misuse if nobody is `above`.
        """
        if self.above is None:
            raise Misuse("wanted somebody above the links who takes their frames, got nobody: set `above` first")
        async with AsyncExitStack() as stack:
            listener = await self._listen(stack)
            self._heart = await stack.enter_async_context(self.world.heart(BEAT_SECONDS))
            try:
                async with trio.open_nursery() as nursery:
                    self._begin_life(nursery, listener)
                    try:
                        yield
                    finally:
                        # Before the nursery closes: whoever wants a link then is told that there is none to be had.
                        self._nursery = None
                    nursery.cancel_scope.cancel()
            finally:
                self._heart = None
                self.address = ""
                self._dials.clear()
                for link in self.links():
                    self._down(link)

    async def _listen(self, stack: AsyncExitStack) -> Listener | None:
        address, before = self.settings.listen, self._before
        if address is None:
            return None
        listen = self.world.transport.listen
        if before and address.endswith(":0"):
            try:
                return await stack.enter_async_context(listen(before))
            except OSError:
                pass  # somebody else has it by now: take another
        listener = await stack.enter_async_context(listen(address))
        self._before = listener.address
        return listener

    def _begin_life(self, nursery: trio.Nursery, listener: Listener | None) -> None:
        self._nursery = nursery
        self._ticked = self.world.now()
        nursery.start_soon(self._look, name="look who is well")
        if listener is not None:
            self.address = listener.address
            nursery.start_soon(self._accept, listener, nursery, name="accept nodes")
        for node in list(self._kept):
            self.want(node)

    # -- strangers -----------------------------------------------------------------------------------

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        while True:
            try:
                async with aclosing(listener.connections()) as connections:  # type: ignore[type-var]  # the port promises less than the generator is
                    async for stream in connections:
                        if len(self._strangers) >= MOST_STRANGERS:
                            # The one that has waited longest: who has a name is through in a moment.
                            longest = next(iter(self._strangers))
                            del self._strangers[longest]
                            longest.cancel()
                        nursery.start_soon(self._greet, stream, name="a stranger")
                # Whoever closes it ends this task first: it has given up by itself.
                logger.warning("node %s is not told of connections any more: asking again", self.me.name)
                await trio.sleep(LONGEST_WAIT)
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                logger.warning("node %s cannot accept connections for now: %s", self.me.name, error)
                await trio.sleep(FIRST_WAIT)

    async def _greet(self, stream: trio.abc.Stream) -> None:
        found: tuple[Pipe, Agreed] | Refusal
        found = Refusal("too_many", f"{MOST_STRANGERS} connections without a name came after it: is it a node?")
        with trio.CancelScope() as scope:
            self._strangers[scope] = None
            try:
                found = await self._agree(stream, None, "node")
            finally:
                self._strangers.pop(scope, None)
        if isinstance(found, Refusal):
            self._tell(found)
        else:
            pipe, agreed = found
            if agreed.role == "heart":
                self._begin_heart(pipe, agreed)
            else:
                await self._begin(pipe, agreed, dialled=False)

    async def _agree(self, stream: trio.abc.Stream, dialled: str | None, role: Role) -> tuple[Pipe, Agreed] | Refusal:
        now, security = self.world.now, self.settings.security
        return await agree(stream, self._known, security, now, dialled=dialled, role=role)

    def _tell(self, refusal: Refusal) -> None:
        """Count a refusal; log it if it is the first of its word and name."""
        self.refused[refusal.reason] += 1
        key = refusal.reason, refusal.node
        if key in self._logged or len(self._logged) >= _MOST_LOGGED:
            return  # in clear text anybody can make names up, and must not fill the log with them
        self._logged[key] = None
        who = f"node {refusal.node!r}" if refusal.node else "a connection"
        side = f"{who} refuses" if refusal.told else f"refused {who} at"
        level = logging.DEBUG if refusal.reason in _ORDINARY else logging.WARNING
        logger.log(level, "%s %s (%s): %s", side, self.me.name, refusal.reason, refusal.text)

    # -- dialling ------------------------------------------------------------------------------------

    async def _dial(self, dial: _Dial) -> None:
        """Dial a node until it is linked, or until nobody wants it any more."""
        node = dial.node
        assert self.above is not None
        try:
            while True:
                found = await self._attempt(dial)
                if found is not None:
                    self._dials.pop(node, None)
                    await self._begin(*found, dialled=True)
                    return
                if node in self._links:
                    return
                dial.wanted = False
                dial.failures += 1
                self.above.down(node, None, NOCONNECTION)
                await self._linked(dial, self._wait(dial.failures))
                if node in self._links or not (dial.wanted or node in self._kept):
                    return
        finally:
            if self._dials.get(node) is dial:
                del self._dials[node]

    async def _attempt(self, dial: _Dial) -> tuple[Pipe, Agreed] | None:
        """Dial once; None: there is no connection, or the one that the other side has begun is the one that stays."""
        node = dial.node
        while self._known.promised(node) and node not in self._links:
            await self._linked(dial, FIRST_WAIT)
        if node in self._links:
            return None
        self._known.dial(node)
        try:
            found = await self._reach(node, "node")
        finally:
            self._known.dialled(node)
        if not isinstance(found, Refusal):
            return found
        if found.reason in ("simultaneous", "connected"):
            await self._linked(dial, CONNECT_SECONDS)
        else:
            self._tell(found)
        return None

    async def _linked(self, dial: _Dial, seconds: float) -> None:
        """Wait until the node that is dialled is linked, at most so many seconds."""
        if dial.node not in self._links:
            dial.linked = trio.Event()  # a link that is down again has set the one of before
            with trio.move_on_after(seconds):
                await dial.linked.wait()

    async def _reach(self, node: str, role: Role) -> tuple[Pipe, Agreed] | Refusal | None:
        """A connection to a node, agreed on; None if there is no way to it."""
        address = self._address_of(node)
        if address is None:
            return None
        stream = None
        try:
            check_address(address, self.settings.security, self.me.name)
            with trio.move_on_after(CONNECT_SECONDS):
                stream = await self.world.transport.connect(address)
        except OSError as error:
            logger.debug("node %s cannot be reached at %s: %s", node, address, error)
        except Misuse as error:
            self._tell(Refusal("address", str(error), node=node))
        return await self._agree(stream, node, role) if stream is not None else None

    def _wait(self, failures: int) -> float:
        """Seconds until the next attempt: doubled with each failure, less up to a half, so that none go together."""
        whole = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 16))
        return whole * (1.0 - 0.5 * self.world.random.random())

    # -- links ---------------------------------------------------------------------------------------

    async def _begin(self, pipe: Pipe, agreed: Agreed, *, dialled: bool) -> None:
        """From here on it is a link, until it ends."""
        who, above = agreed.who, self.above
        assert above is not None
        before = self._links.get(who.name)
        if before is not None:
            before.close("replaced")
            self._down(before)
        link = Link(pipe, who, rest=agreed.rest, now=self.world.now(), limits=self.settings.limits, dialled=dialled)
        self._links[who.name] = link
        self._known.link(who)
        dial = self._dials.get(who.name)
        if dial is not None:
            dial.linked.set()
        logger.info("node %s is linked with %s, life %s", self.me.name, who.name, who.creation)
        try:
            above.up(link)
            self._dial_heart(link)
            await link.run(above)
        finally:
            link.close("stopping")
            self._down(link)
        if who.name in self._kept:
            self.want(who.name)

    def _down(self, link: Link) -> None:
        """A link has ended: nothing more comes from it."""
        if self._links.get(link.node) is not link:
            return
        del self._links[link.node]
        self._known.unlink(link.who)
        heartbeat = self._hearts.pop(link, None)
        if heartbeat is not None and self._heart is not None:
            self._heart.drop(heartbeat)
        logger.info("node %s: the link with %s is down (%s): %s", self.me.name, link.node, link.reason, link.detail)
        assert self.above is not None
        self.above.down(link.node, link, NOCONNECTION)

    # -- heartbeats ----------------------------------------------------------------------------------

    def _dial_heart(self, link: Link) -> None:
        """Whoever has dialled the link dials its heartbeat's connection too, unless it is at it."""
        if self._nursery is not None and link.dialled and link not in self._hearts and not link.heart_dialled:
            link.heart_dialled = True
            self._nursery.start_soon(self._reach_heart, link, name=f"dial the heart of {link.node}")

    async def _reach_heart(self, link: Link) -> None:
        try:
            found = await self._reach(link.node, "heart")
        finally:
            link.heart_dialled = False
        if isinstance(found, tuple):
            self._begin_heart(*found)
        elif found is not None and found.reason != "no_link":  # the other side may be a moment behind
            self._tell(found)

    def _begin_heart(self, pipe: Pipe, agreed: Agreed) -> None:
        link = self._links.get(agreed.who.name)
        stream, cipher = pipe.hand_over()
        assert self._heart is not None and link is not None  # noqa: PT018  # the handshake has asked for the link just now
        before = self._hearts.pop(link, None)
        if before is not None:
            self._heart.drop(before)
        heartbeat = self._hearts[link] = Heartbeat(cipher, self._age, agreed.rest)
        self._heart.carry(stream, heartbeat)

    def _age(self, now: float) -> float:
        """Seconds since the loop last came round; also asked by the heart's thread."""
        return now - self._ticked

    async def _look(self) -> None:
        """See who is well, and let the heart know that the loop goes round."""
        while True:
            now = self._ticked = self.world.now()
            for link in self.links():
                self._look_at(link, now)
            await trio.sleep(LOOK_SECONDS)

    def _look_at(self, link: Link, now: float) -> None:
        heartbeat = self._hearts.get(link)
        changes = []
        if heartbeat is not None:
            while heartbeat.came:
                changes += link.health.handle(heartbeat.came.popleft(), now)
            if heartbeat.gone:
                logger.debug("the heartbeat's connection with %s has ended: %s", link.node, heartbeat.gone)
                del self._hearts[link]
        changes += link.health.handle(Look(), now)
        for change in changes:
            logger.warning(
                "node %s: %s is %s, was %s", self.me.name, link.node, change.after.value, change.before.value
            )
            for watcher in self.watchers:
                watcher(link.node, change.after)
        if link.state is State.DOWN:
            link.close("silent")
            self._down(link)
        else:
            self._dial_heart(link)


@final
class _Dial:
    """A node that is being dialled, or waits to be."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.failures = 0
        self.linked = trio.Event()
        # Whether somebody has asked for it since the last answer.
        self.wanted = True
