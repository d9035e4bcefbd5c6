"""Process groups: who is in them, how often, and who is told of it."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    GenServer,
    Misuse,
    NoProcess,
    Pid,
    StartFailed,
    call,
    cast,
    exit_with,
    is_alive,
    pg,
    receive,
    self_pid,
    send_nowait,
    spawn,
    start,
    sys,
    whereis,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, end_of, exit_and_wait, idle, mail


@pytest.fixture
async def scope(node):
    """The default scope."""
    return await start(pg.Scope)


@as_process
async def test_members_are_who_has_joined(scope):
    """A group is there while it has a member; its members are listed in the order of joining (G3, G8)."""
    one, other = spawn(idle), spawn(idle)
    pg.join("g", one)
    pg.join("g", other)
    pg.join(("h", 1), one)
    assert [pg.get_members("g"), pg.get_local_members("g"), pg.get_members("nobody")] == [[one, other]] * 2 + [[]]
    assert [pg.which_groups(), pg.which_local_groups()] == [["g", ("h", 1)]] * 2
    assert (pg.leave("g", one), pg.leave("g", other), pg.which_groups()) == (True, True, [("h", 1)])


@as_process
async def test_a_process_joins_several_times(scope):
    """Who joins k times is listed k times; each leave removes one (G2)."""
    pid = spawn(idle)
    pg.join("g", [pid, pid])
    pg.join("g", pid)
    listed = [len(pg.get_members("g"))]
    while pg.leave("g", pid):
        listed.append(len(pg.get_members("g")))
    assert (listed, pg.which_groups()) == ([3, 2, 1, 0], [])


@as_process
async def test_leaving_without_membership_is_told(scope):
    """`leave` says False to who is no member, also of a group that is not there (G3)."""
    one, other = spawn(idle), spawn(idle)
    pg.join("g", one)
    assert [pg.leave("g", other), pg.leave("h", one), pg.leave("g", []), pg.get_members("g")] == [
        False,
        False,
        False,
        [one],
    ]


@as_process
async def test_of_a_list_only_members_leave(scope):
    """A leave of several reports those that were removed, and no others: better than OTP (G3)."""
    one, other = spawn(idle), spawn(idle)
    pg.join("g", [one, one])
    ref, _ = pg.monitor("g")
    assert pg.leave("g", [one, other, one, one])
    assert (await mail(), pg.which_groups()) == ([pg.Leave(ref, "g", (one, one))], [])


@as_process
async def test_scopes_know_nothing_of_each_other(scope):
    """Each scope has its own groups, members and monitors (G1)."""
    await start(pg.Scope, name="chat")
    pg.join("g", self_pid(), scope="chat")
    ref, members = pg.monitor("g")
    pg.join("g", self_pid(), scope="chat")
    assert (members, pg.which_groups(), pg.which_groups(scope="chat"), await mail()) == ([], [], ["g"], [])
    assert (pg.demonitor(ref, scope="chat"), pg.demonitor(ref)) == (False, True)


@as_process
async def test_a_scope_is_started_by_nobody(node):
    """The default scope is `pg`, and like any other it must be started; until then everything says so (G1)."""
    await start(_Other, name="other")
    acts = [
        lambda s: pg.join("g", self_pid(), scope=s),
        lambda s: pg.leave("g", self_pid(), scope=s),
        lambda s: pg.get_members("g", scope=s),
        lambda s: pg.get_local_members("g", scope=s),
        lambda s: pg.which_groups(scope=s),
        lambda s: pg.which_local_groups(scope=s),
        lambda s: pg.monitor("g", scope=s),
        lambda s: pg.monitor_scope(scope=s),
    ]
    for name, says in (("pg", "it is not running"), ("other", "that is a _Other")):
        for act in acts:
            with pytest.raises(NoProcess, match=says):
                act(name)
    pid = await start(pg.Scope)
    assert (whereis("pg"), pg.which_groups()) == (pid, [])
    with pytest.raises(StartFailed):
        await start(pg.Scope)


class _Other(GenServer):
    """A process that keeps no groups."""


@as_process
async def test_death_removes_all_memberships(node, scope):
    """A dead process is in no group when anybody sees its death; each membership is an event of its own (G6)."""
    pid = spawn(idle)
    pg.join("g", [pid, self_pid(), pid])
    pg.join("h", pid)
    ref, _ = pg.monitor_scope()
    await exit_and_wait(pid, KILL)
    assert (pg.get_members("g"), pg.which_groups()) == ([self_pid()], ["g"])
    gone = [pg.Leave(ref, "g", (pid,)), pg.Leave(ref, "g", (pid,)), pg.Leave(ref, "h", (pid,))]
    assert await mail() == gone


@as_process
async def test_the_dead_join_and_leave_at_once(scope):
    """Joining a dead pid is fine: it stands in the event with the others, and leaves in one of its own (G6)."""
    dead, living = spawn(idle), spawn(idle)
    await exit_and_wait(dead, "x")
    ref, _ = pg.monitor("g")
    pg.join("g", [dead, living, dead])
    events = [pg.Join(ref, "g", (dead, living, dead)), pg.Leave(ref, "g", (dead,)), pg.Leave(ref, "g", (dead,))]
    assert (await mail(), pg.get_members("g")) == (events, [living])


@as_process
async def test_a_join_of_several_is_one_event(scope):
    """A join of a list is told once, with all its pids; of an empty one, not at all (G2)."""
    one, other = spawn(idle), spawn(idle)
    ref, _ = pg.monitor("g")
    pg.join("g", [])
    pg.join("g", (pid for pid in (one, other, one)))
    assert await mail() == [pg.Join(ref, "g", (one, other, one))]


@as_process
async def test_a_monitor_is_a_snapshot_and_what_follows(scope):
    """A monitor of a group gives its members now, then each change of that group, without gap or doubling (G9)."""
    one, other = spawn(idle), spawn(idle)
    pg.join("g", one)
    ref, members = pg.monitor("g")
    pg.join("g", other)
    pg.join("h", other)
    pg.leave("g", one)
    assert (members, await mail()) == ([one], [pg.Join(ref, "g", (other,)), pg.Leave(ref, "g", (one,))])


@as_process
async def test_a_monitor_of_a_scope_sees_every_group(scope):
    """A monitor of a scope gives all groups now, then each change of any group (G9)."""
    pid = spawn(idle)
    pg.join("g", [pid, pid])
    ref, groups = pg.monitor_scope()
    pg.join("h", pid)
    pg.leave("g", pid)
    assert (groups, await mail()) == ({"g": [pid, pid]}, [pg.Join(ref, "h", (pid,)), pg.Leave(ref, "g", (pid,))])


@as_process
async def test_each_monitor_is_told_for_itself(scope):
    """Several monitors of one process each get the event (G9)."""
    refs = [pg.monitor("g")[0], pg.monitor("g")[0], pg.monitor_scope()[0]]
    pg.join("g", self_pid())
    assert await mail() == [pg.Join(ref, "g", (self_pid(),)) for ref in refs]


@as_process
async def test_demonitor_ends_it_and_drops_what_waits(scope):
    """After `demonitor` nothing of the monitor is left or comes; a second one says False (G9)."""
    kept, ref = pg.monitor("g")[0], pg.monitor("g")[0]
    pg.join("g", self_pid())
    send_nowait(self_pid(), "mine")
    assert [pg.demonitor(ref), pg.demonitor(ref)] == [True, False]
    pg.leave("g", self_pid())
    assert await mail() == [pg.Join(kept, "g", (self_pid(),)), "mine", pg.Leave(kept, "g", (self_pid(),))]


@as_process
async def test_a_monitor_ends_with_its_owner(node, scope):
    """Who dies hears nothing of its own death, and leaves nothing behind (G9)."""

    async def watches():
        pg.join("g", self_pid())
        pg.monitor("g")
        pg.monitor_scope()
        exit_with("x")

    await end_of(spawn(watches))
    pg.join("g", self_pid())
    pg.leave("g", self_pid())
    assert [*node.table.kept] == [scope.number]


@as_process
async def test_any_process_may_join_another(scope):
    """Members are joined and removed by anybody, the host too; only pids of this node are taken (G4, G5)."""
    foreign = Pid("elsewhere", 1, 5)
    for act in (pg.join, pg.leave):
        with pytest.raises(Misuse, match="lives on node 'elsewhere'"):
            act("g", foreign)
        with pytest.raises(Misuse, match="wanted a Pid"):
            act("g", ["name"])
    assert pg.which_groups() == []


async def test_the_host_may_join_processes(scope):
    """Host code beside a node may join and count members."""
    pid = spawn(idle)
    pg.join("g", pid)
    assert pg.get_members("g") == [pid]


@as_process
async def test_a_full_mailbox_gets_every_event(scope):
    """Events are never refused, so that the stream has no gap (G9)."""
    got = []

    async def watches():
        pg.monitor("g")
        await trio.sleep(1)  # virtual
        for _ in range(3):
            got.append(await receive())

    pid = spawn(watches, limit=1)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(pid, "full")
    pg.join("g", self_pid())
    pg.leave("g", self_pid())
    await end_of(pid)
    assert [type(one) for one in got] == [str, pg.Join, pg.Leave]


@as_process
async def test_a_group_is_reached_member_by_member(scope):
    """What is sent to all members reaches each once for each membership."""
    pg.join("g", [self_pid(), self_pid()])
    for pid in pg.get_members("g"):
        send_nowait(pid, "news")
    assert await mail() == ["news", "news"]


@as_process
async def test_a_plain_init_joins(scope):
    """Joining does not wait, so a server may do it in a plain callback."""

    class Joins(GenServer):
        def init(self):
            pg.join("servers", self_pid())

    pid = await start(Joins)
    assert pg.get_members("servers") == [pid]


@as_process
async def test_a_scope_that_ends_forgets_all(node, scope):
    """With its process a scope loses groups and monitors; started anew it is empty, and no old event comes (G1)."""
    member = spawn(idle)
    pg.join("g", member)
    old, _ = pg.monitor_scope()
    await exit_and_wait(scope, KILL)
    await start(pg.Scope)
    await exit_and_wait(member, "x")
    assert (pg.which_groups(), pg.demonitor(old), await mail(), len(node.table.kept)) == ([], False, [], 1)


@as_process
async def test_scopes_are_children(node):
    """A scope is declared like any child; its name is the scope's (G1)."""

    class Top(Supervisor):
        def init(self):
            return [child("pg", pg.Scope), child("chat", pg.Scope, name="chat")]

    await node.start(Top)
    assert [pg.which_groups(), pg.which_groups(scope="chat")] == [[], []]


@as_process
async def test_a_scope_can_be_looked_into(scope):
    """`sys.get_state` shows the members by group; stray mail harms nothing."""
    pg.join("g", self_pid())
    assert await sys.get_state("pg") == {"g": [self_pid()]}
    assert scope._process.behaviour.summary() == "1 groups, 1 members"
    send_nowait("pg", "stray")
    await cast("pg", "stray")
    with pytest.raises(Misuse, match="answers no calls"):
        await call("pg", "stray")
    assert is_alive(scope)
