"""Registries: who goes by which key, unique or not, until death."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    NORMAL,
    AlreadyRegistered,
    AlreadyStarted,
    Exit,
    GenServer,
    MailboxFull,
    Misuse,
    NoProcess,
    NotAProcess,
    Registry,
    StartFailed,
    Stop,
    call,
    cast,
    exit,
    is_alive,
    receive,
    self_pid,
    send_after,
    send_nowait,
    spawn,
    start,
    sys,
    whereis,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, end_of, exit_and_wait, idle, mail


class Named(GenServer):
    """A server that is started under a name."""

    def init(self, first=None):
        return first

    def handle_call(self, request, caller):
        return request

    def handle_info(self, message):
        return Stop(NORMAL)


async def holder(registry, *keys, trap=False):
    """A process that stands under some keys."""
    ready = trio.Event()

    async def stands():
        for key in keys:
            Registry.register(registry, key, f"value of {key}")
        ready.set()
        await idle()

    pid = spawn(stands, trap=trap)
    await ready.wait()
    return pid


@pytest.fixture
async def unique(node):
    """A registry with unique keys."""
    return await start(Registry, name="unique")


@pytest.fixture
async def duplicate(node):
    """A registry with duplicate keys."""
    return await start(Registry, "duplicate", name="duplicate")


@as_process
async def test_a_unique_key_has_one_holder(unique):
    """Who registers a key that is taken is refused, and told who has it; also if it is itself."""
    Registry.register("unique", "k", 1)
    assert Registry.lookup("unique", "k") == [(self_pid(), 1)]
    other = await holder("unique", "other")
    for key, pid in (("k", self_pid()), ("other", other)):
        with pytest.raises(AlreadyRegistered, match=f"belongs to {pid}") as caught:
            Registry.register("unique", key)
        assert (caught.value.key, caught.value.pid) == (key, pid)


@as_process
async def test_a_duplicate_key_has_many_holders(duplicate):
    """Many processes stand under a duplicate key, each as often as it likes, in the order of registering."""
    other = await holder("duplicate", "k", "k")
    Registry.register("duplicate", "k", "mine")
    assert Registry.lookup("duplicate", "k") == [
        (other, "value of k"),
        (other, "value of k"),
        (self_pid(), "mine"),
    ]
    assert Registry.count("duplicate") == 3


@as_process
async def test_one_process_may_stand_under_many_keys(unique):
    """Keys are any hashable values; a process has as many as it likes, and may give each up."""
    for key in ("a", ("b", 1), 3):
        Registry.register("unique", key, key)
    assert Registry.keys("unique", self_pid()) == ["a", ("b", 1), 3]
    Registry.unregister("unique", ("b", 1))
    Registry.unregister("unique", "nothing")
    assert (Registry.keys("unique", self_pid()), Registry.lookup("unique", ("b", 1))) == (["a", 3], [])


@as_process
async def test_unregister_takes_away_the_callers_entries_only(duplicate):
    """Of a shared key all entries of the caller go, and no others."""
    other = await holder("duplicate", "k")
    Registry.register("duplicate", "k", 1)
    Registry.register("duplicate", "k", 2)
    assert Registry.values("duplicate", "k", self_pid()) == [1, 2]
    Registry.unregister("duplicate", "k")
    assert Registry.lookup("duplicate", "k") == [(other, "value of k")]
    assert Registry.values("duplicate", "k", self_pid()) == []


@as_process
async def test_death_frees_all_keys_before_anybody_sees_it(node, unique):
    """Whoever gets the Down finds the keys free already (R3, P40)."""
    pid = await holder("unique", "a", "b")
    await exit_and_wait(pid, "x")
    assert [Registry.lookup("unique", "a"), Registry.keys("unique", pid), Registry.count("unique")] == [[], [], 0]
    assert [*node.table.kept] == [unique.number]
    Registry.register("unique", "a")


@as_process
async def test_dispatch_hands_over_all_entries(duplicate):
    """`dispatch` calls the function once, in the caller, with all entries; not at all if there are none."""
    other = await holder("duplicate", "k")
    Registry.register("duplicate", "k")
    seen = []
    Registry.dispatch("duplicate", "nobody", seen.append)
    Registry.dispatch("duplicate", "k", lambda entries: [send_nowait(pid, "news") for pid, _ in entries])
    Registry.dispatch("duplicate", "k", seen.append)
    assert (await mail(), seen) == (["news"], [[(other, "value of k"), (self_pid(), None)]])


@as_process
async def test_a_value_is_updated_by_its_owner(unique):
    """`update_value` replaces the caller's value under a unique key and gives the new one."""
    Registry.register("unique", "k", 1)
    assert Registry.update_value("unique", "k", lambda value: value + 1) == 2
    with pytest.raises(ZeroDivisionError):
        Registry.update_value("unique", "k", lambda value: value / 0)
    assert Registry.lookup("unique", "k") == [(self_pid(), 2)]


@as_process
async def test_nobody_elses_value_is_updated(unique, duplicate):
    """Who does not stand under the key, or under a duplicate one, is refused."""
    await holder("unique", "k")
    Registry.register("duplicate", "k")
    for registry, key, says in (
        ("unique", "k", "register it first"),
        ("unique", "x", "first"),
        ("duplicate", "k", "are duplicate"),
    ):
        with pytest.raises(Misuse, match=says):
            Registry.update_value(registry, key, str)


@as_process
async def test_a_key_is_a_name_and_a_destination(unique):
    """A unique key may be the `name=` of a start and then stands for its process everywhere (R5, R6)."""
    name = Registry.via("unique", ("table", 7), "oak")
    pid = await start(Named, name=name)
    assert Registry.lookup("unique", ("table", 7)) == [(pid, "oak")]
    assert (whereis(name), await call(Registry.via("unique", ("table", 7)), "hello")) == (pid, "hello")
    with pytest.raises(StartFailed) as caught:
        await start(Named, name=name)
    assert caught.value.reason == AlreadyStarted(pid)
    send_after(1, name, "stop")
    assert (await end_of(pid), whereis(name)) == (NORMAL, None)
    with pytest.raises(NoProcess, match="unique:"):
        await call(name, "hello")


@as_process
async def test_a_failed_start_leaves_its_key_free(unique):
    """After a start that failed the key can be taken at once (L6)."""
    name = Registry.via("unique", "k")
    with pytest.raises(StartFailed):
        await start(Named, Stop("no"), name=name)
    await start(Named, name=name)


@as_process
async def test_children_are_named_by_a_registry(node):
    """A supervised child takes its key again after a restart; the registry stands before it (R6)."""

    class Top(Supervisor):
        strategy, intensity = "rest_for_one", 2

        def init(self):
            return [
                child("names", Registry, name="names"),
                child("one", Named, name=Registry.via("names", "one")),
            ]

    await node.start(Top)
    via = Registry.via("names", "one")
    first = whereis(via)
    await exit_and_wait(first, "crash")
    await trio.testing.wait_all_tasks_blocked()
    second = whereis(via)
    assert second not in (None, first)
    await exit_and_wait(whereis("names"), "crash")
    await trio.testing.wait_all_tasks_blocked()
    assert whereis(via) not in (None, first, second)


@as_process
async def test_a_duplicate_key_is_no_name(duplicate):
    """Nothing can be started under, or sent to, a key that many may have."""
    via = Registry.via("duplicate", "k")
    with pytest.raises(Misuse, match="none of them is a name"):
        await start(Named, name=via)
    with pytest.raises(Misuse, match="none of them is a name"):
        await call(via, 1)


@as_process
async def test_a_registry_that_is_not_there_is_told(node):
    """Every function says that there is no such registry; behind a Via it is a name that nobody has (R6)."""
    await start(Named, name="server")
    acts = {
        "register": lambda r: Registry.register(r, "k"),
        "unregister": lambda r: Registry.unregister(r, "k"),
        "lookup": lambda r: Registry.lookup(r, "k"),
        "keys": lambda r: Registry.keys(r, self_pid()),
        "values": lambda r: Registry.values(r, "k", self_pid()),
        "count": Registry.count,
        "dispatch": lambda r: Registry.dispatch(r, "k", print),
        "update_value": lambda r: Registry.update_value(r, "k", str),
    }
    for registry, says in (("nowhere", "it is not alive"), ("server", "that is a Named")):
        for act in acts.values():
            with pytest.raises(NoProcess, match=says):
                act(registry)
        via = Registry.via(registry, "k")
        assert whereis(via) is None
        with pytest.raises(NoProcess):
            await call(via, 1)
        await cast(via, 1)
        with pytest.raises(NoProcess, match="declare it"):
            await start(Named, name=via)


@as_process
async def test_who_stands_in_a_registry_ends_with_it(unique):
    """The end of a registry comes to its processes like that of a link: one that traps is told."""
    trapping = await holder("unique", "c", trap=True)
    plain, stranger = await holder("unique", "a"), spawn(idle)
    await exit_and_wait(unique, KILL)
    await mail()
    assert [is_alive(pid) for pid in (plain, trapping, stranger)] == [False, True, True]


@as_process
async def test_one_that_traps_is_told_of_the_registrys_end(node):
    """A process that traps exits gets the Exit of the registry in which it stood, and lives."""
    registry, told = await start(Registry, name="r"), []

    async def stands():
        Registry.register("r", "k")
        told.append(await receive(Exit))

    pid = spawn(stands, trap=True)
    await trio.testing.wait_all_tasks_blocked()
    exit(registry, "why")
    await end_of(pid)
    assert (told, node.table.kept) == ([Exit(registry, "why")], {})


@as_process
async def test_a_registry_that_stops_in_order_harms_nobody(unique):
    """The reason NORMAL ends nobody, as along a link."""
    pid = await holder("unique", "a")
    await sys.stop(unique)
    await mail()
    assert is_alive(pid)


@as_process
async def test_a_send_to_a_key_is_bounded(unique):
    """A full mailbox is told to who sends by a key without waiting."""

    async def full():
        Registry.register("unique", "full")
        await idle()

    spawn(full, limit=1)
    await trio.testing.wait_all_tasks_blocked()
    via = Registry.via("unique", "full")
    send_nowait(via, 1)
    with pytest.raises(MailboxFull):
        send_nowait(via, 2)


@as_process
async def test_a_registry_can_be_looked_into(unique, duplicate):
    """`sys.get_state` shows the entries by key, the tree how many there are; stray mail harms nothing."""
    Registry.register("unique", "k", 1)
    assert await sys.get_state("unique") == {"k": [(self_pid(), 1)]}
    process = unique._process
    assert process.behaviour.summary() == "unique keys, 1 entries"
    send_nowait("unique", "stray")
    await cast("unique", "stray")
    with pytest.raises(Misuse, match="answers no calls"):
        await call("unique", "stray")
    assert is_alive(unique)


@as_process
async def test_keys_are_unique_or_duplicate(node):
    """Another word for the kind of keys is refused at the start."""
    with pytest.raises(StartFailed, match="'unique' or 'duplicate'"):
        await start(Registry, "other", name="r")


async def test_only_a_process_can_register_itself(unique):
    """Host code stands under no key."""
    with pytest.raises(NotAProcess):
        Registry.register("unique", "k")
