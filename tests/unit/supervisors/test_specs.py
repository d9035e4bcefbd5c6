"""Child specs and flags: their defaults, and the words in which a bad one is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from runtime import Crash, Misuse, StartFailed, Via, start
from supervisors import (
    Backoff,
    BadCombination,
    BadSpec,
    ChildSpec,
    DuplicateChild,
    DynamicSupervisor,
    Supervisor,
    check_childspecs,
    child,
)
from supervisors.specs import Flags, check_flags
from tests.unit.supervisors.children import Story, Tree, Worker

GOOD = child("a", Worker)


def test_flags_unless_said_otherwise():
    """A supervisor is one_for_one, allows 1 restart in 5 s, never ends by itself, and does not back off (S2)."""
    assert Supervisor().flags() == Flags("one_for_one", 1, 5.0, "never", None)


def test_a_child_unless_said_otherwise():
    """A child is permanent, a worker, not significant, and has 5 s to end (S3)."""
    assert child("a", Worker, 1) == ChildSpec(
        "a", Worker, (1,), "permanent", 5.0, "worker", significant=False, name=None, backoff=None
    )


def test_a_supervisor_as_a_child_unless_said_otherwise():
    """A child that is a supervisor is of that type and has as long as it takes to end (S3)."""
    spec = child("a", Tree)
    assert (spec.type, spec.shutdown) == ("supervisor", math.inf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": ""}, "a child's id is a non-empty string, got ''"),
        ({"id": 3}, "a child's id is a non-empty string, got 3"),
        ({"start": 3}, "wanted a behaviour's class or an async function to start, got 3"),
        ({"args": [1]}, "args is a tuple, got [1]"),
        ({"restart": "always"}, "restart is one of permanent, transient, temporary, got 'always'"),
        ({"type": "manager"}, "type is one of worker, supervisor, got 'manager'"),
        ({"significant": 1}, "significant is True or False, got 1"),
        ({"name": ""}, "a name is a non-empty string or a Via, got ''"),
        ({"shutdown": -1}, "shutdown is seconds from 0 up, math.inf or 'brutal_kill', got -1"),
        ({"shutdown": True}, "shutdown is seconds from 0 up, math.inf or 'brutal_kill', got True"),
        ({"shutdown": math.nan}, "shutdown is seconds from 0 up, math.inf or 'brutal_kill', got nan"),
        ({"shutdown": "kill"}, "shutdown is seconds from 0 up, math.inf or 'brutal_kill', got 'kill'"),
        ({"backoff": 1.0}, "backoff is a Backoff(first, factor, limit, jitter), or None, got 1.0"),
    ],
)
def test_a_bad_spec_is_refused_in_words(change, words):
    """A spec that cannot work is BadSpec, which says what was wanted and what came (S4)."""
    with pytest.raises(BadSpec) as refused:
        check_childspecs([replace(GOOD, **change)])
    assert words in str(refused.value)


@pytest.mark.parametrize("specs", [GOOD, 3, None, "ab", [3], [("a", Worker)]])
def test_what_is_no_list_of_specs_is_refused(specs):
    """`check_childspecs` takes a list of specs and nothing else (S4)."""
    with pytest.raises(BadSpec):
        check_childspecs(specs)


def test_good_specs_pass():
    """Good specs pass `check_childspecs`; without `auto_shutdown`, `significant` is not looked at (S4)."""
    specs = [GOOD, child("b", Worker, restart="transient", significant=True), child("c", Worker, backoff=Backoff())]
    check_childspecs(specs)
    check_childspecs(specs, "any_significant")
    with pytest.raises(BadCombination):
        check_childspecs(specs, "never")
    with pytest.raises(BadSpec, match="auto_shutdown is one of"):
        check_childspecs(specs, "sometimes")


def test_one_id_twice_is_refused():
    """Two children of one id are DuplicateChild, which names it (S4)."""
    with pytest.raises(DuplicateChild, match="'a' is there twice") as refused:
        check_childspecs([GOOD, GOOD])
    assert refused.value.id == "a"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategy": "all"}, "strategy is one of one_for_one, one_for_all, rest_for_one, simple_one_for_one"),
        ({"intensity": -1}, "an int from 0 up, got -1"),
        ({"intensity": 1.5}, "an int from 0 up, got 1.5"),
        ({"intensity": True}, "an int from 0 up, got True"),
        ({"period": 0}, "period is seconds above 0, got 0"),
        ({"period": True}, "period is seconds above 0, got True"),
        ({"period": "5"}, "period is seconds above 0, got '5'"),
        ({"auto_shutdown": True}, "auto_shutdown is one of never, any_significant, all_significant, got True"),
        ({"backoff": True}, "backoff is a Backoff(first, factor, limit, jitter), or None, got True"),
    ],
)
def test_bad_flags_are_refused_in_words(change, words):
    """Flags that cannot work are BadSpec, which says what was wanted and what came (S4)."""
    with pytest.raises(BadSpec) as refused:
        check_flags(Flags(**change))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("children", "flags", "kind"),
    [
        ([GOOD], Flags(intensity=-1), BadSpec),
        ([GOOD, GOOD], Flags(), DuplicateChild),
        ([3], Flags(), BadSpec),
        (3, Flags(), BadSpec),
        (None, Flags(), BadSpec),
        ([child("a", Worker, significant=True, restart="transient")], Flags(), BadCombination),
        ([], Flags("simple_one_for_one"), BadSpec),
        ([GOOD, child("b", Worker)], Flags("simple_one_for_one"), BadSpec),
    ],
)
async def test_a_supervisor_that_cannot_work_does_not_start(node, children, flags, kind):
    """What `init` returns wrongly fails the start with a Crash that holds the BadSpec; no child was started (S4)."""
    with pytest.raises(StartFailed) as failed:
        await start(Tree, children, flags)
    assert isinstance(failed.value.reason, Crash)
    assert type(failed.value.reason.error) is kind


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "one_for_all"},
        {"max_children": -1},
        {"max_children": 1.5},
        {"extra_arguments": [1]},
        {"init": lambda self: [GOOD]},
    ],
)
async def test_a_dynamic_supervisor_that_cannot_work_does_not_start(node, wrong):
    """A DynamicSupervisor is one_for_one, starts empty, and its bounds are checked before anything runs (S4)."""
    with pytest.raises(StartFailed) as failed:
        await start(type("Wrong", (DynamicSupervisor,), wrong))
    assert isinstance(failed.value.reason.error, BadSpec)


async def test_a_child_may_have_a_name_elsewhere(node):
    """A child's name may be a Via: who keeps it is the registry's business (R6)."""
    names = {}

    class Registry:
        register_name = staticmethod(lambda name, pid: names.setdefault(name, pid) is pid)
        unregister_name = staticmethod(lambda name: names.pop(name, None))
        whereis_name = staticmethod(names.get)
        send = staticmethod(lambda name, message: None)

    story = Story()
    await start(Tree, [child("a", Worker, story, "a", name=Via(Registry(), ("room", 1)))])
    assert list(names) == [("room", 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": -1},
        {"first": math.inf},
        {"factor": 0.5},
        {"factor": 101},
        {"limit": 0.01},
        {"jitter": 2},
        {"first": "1"},
    ],
)
def test_a_back_off_out_of_bounds_is_refused(wrong):
    """A Backoff's numbers are checked when it is made."""
    with pytest.raises(Misuse, match="a back-off's") as refused:
        Backoff(**wrong)
    assert f"got {next(iter(wrong.values()))!r}" in str(refused.value)
