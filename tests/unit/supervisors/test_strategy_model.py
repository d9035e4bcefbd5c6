"""The supervisor's machine against a smaller one: a plain list of children, and what each event does to it.

Hypothesis plays exits, retries, ends of waits and requests, in any order, and decides which starts fail or are
ignored. After each step both have stopped and started the same children in the same order, show the same states,
and agree on whether the supervisor goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime import NORMAL, SHUTDOWN, Pid
from supervisors import Backoff, child
from supervisors import strategy as machines
from supervisors.specs import Flags

IDS = "abcd"
# Often permanent, so that there is something to restart.
RESTARTS = ("permanent", "permanent", "transient", "temporary")
FATES = ("ok", "fail", "ignore")
PERIOD = 5.0


async def work():
    """Stands for what a child does; nothing runs here."""


@dataclass
class Kind:
    """What is declared of one child."""

    restart: str
    significant: bool
    waits: bool

    def spec(self, child_id):
        return child(
            child_id,
            work,
            restart=self.restart,
            significant=self.significant,
            backoff=Backoff(1.0, jitter=0.0) if self.waits else None,
        )


class Model:
    """A supervisor in the fewest words: `children` maps ids to up, down, restarting or waiting, in start order."""

    def __init__(self, strategy, intensity, auto_shutdown, kinds, fates):
        self.strategy, self.intensity, self.auto_shutdown = strategy, intensity, auto_shutdown
        self.kinds, self.children = dict(kinds), dict.fromkeys(kinds, "down")
        self.fates = deque(fates)
        self.told, self.times, self.over = [], [], None

    def start(self, one):
        """Start a child; whether that worked."""
        fate = self.fates.popleft() if self.fates else "ok"
        self.told.append(f"{'!' if fate == 'fail' else '+'}{one}")
        if fate != "fail":
            self.children[one] = "up" if fate == "ok" else "down"
        return fate != "fail"

    def stop(self, one):
        """Stop a child, if it is up; a temporary one is forgotten."""
        if self.children[one] == "up":
            self.told.append(f"-{one}")
        self.children[one] = "down"
        if self.kinds[one].restart == "temporary":
            del self.children[one]

    def close(self):
        """Stop all, last first."""
        for one in reversed(list(self.children)):
            self.stop(one)
        self.over = SHUTDOWN

    def boot(self):
        for one in list(self.children):
            if not self.start(one):
                self.close()
                return
            if self.children[one] == "down" and self.kinds[one].restart == "temporary":
                del self.children[one]

    def exited(self, one, reason, now):
        kind = self.kinds[one]
        self.children[one] = "down"
        if kind.restart == "permanent" or (kind.restart == "transient" and reason == "boom"):
            self.restart(one, now)
            return
        if kind.restart == "temporary":
            del self.children[one]
        if kind.significant and self.auto_shutdown != "never":
            left = [o for o, state in self.children.items() if self.kinds[o].significant and state != "down"]
            if self.auto_shutdown == "any_significant" or not left:
                self.close()

    def restart(self, one, now):
        self.times = [time for time in [*self.times, now] if time >= now - PERIOD]
        if len(self.times) > self.intensity:
            self.children[one] = "down"
            self.close()
        elif self.kinds[one].waits:
            self.children[one] = "down"
            self.stop_others(one)
            self.children[one] = "waiting"
        else:
            self.bring_back(one)

    def group(self, one):
        everyone = list(self.children)
        return {
            "one_for_one": [one],
            "rest_for_one": everyone[everyone.index(one) :],
            "one_for_all": everyone,
        }[self.strategy]

    def stop_others(self, one):
        for other in reversed(self.group(one)):
            if other != one:
                self.stop(other)

    def bring_back(self, one):
        # Also one that was to be tried again: if another of its group fails before it, it is just down.
        self.children[one] = "down"
        group = self.group(one)
        self.stop_others(one)
        for other in group:
            if other in self.children and not self.start(other):
                self.children[other] = "restarting"
                return

    def start_child(self, one, kind):
        if kind.significant and (self.auto_shutdown == "never" or kind.restart == "permanent"):
            return "bad_combination"
        if one in self.children:
            return "already_present" if self.children[one] == "down" else "already_started"
        self.kinds[one] = kind
        if not self.start(one):
            self.children.pop(one, None)
            return "start_failed"
        if self.children[one] == "down" and kind.restart == "temporary":
            del self.children[one]
        return None

    def terminate_child(self, one):
        if one not in self.children:
            return "not_found"
        self.stop(one)
        return None

    def needs_down(self, one):
        if one not in self.children:
            return "not_found"
        return {"up": "running", "down": None}.get(self.children[one], "restarting")

    def restart_child(self, one):
        why = self.needs_down(one)
        return why if why is not None else None if self.start(one) else "start_failed"

    def delete_child(self, one):
        why = self.needs_down(one)
        if why is None:
            del self.children[one]
        return why


class Supervised:
    """The real machine, with a shell that performs its effects at once."""

    def __init__(self, flags, specs, fates):
        self.machine = machines.StaticMachine(flags, specs)
        self.fates = deque(fates)
        self.told, self.retries, self.waits, self.answers, self.over = [], deque(), [], [], None
        self.ids, self.count, self.gone = {}, 0, []

    def take(self, event, now):
        """Hand in one event and do all that comes of it."""
        while event is not None:
            effects, event = self.machine.handle(event, now), None
            for effect in effects:
                match effect:
                    case machines.Launch(spec):
                        event = machines.Done(self.launch(spec.id))
                    case machines.Halt(pid, spec):
                        self.told.append(f"-{spec.id}")
                        self.gone.append(pid)
                        event = machines.Done(SHUTDOWN)
                    case machines.TryAgain(key):
                        self.retries.append(machines.Retry(key))
                    case machines.Wait(key, ticket):
                        self.waits.append(machines.Wake(key, ticket))
                    case machines.Answer(_, value):
                        self.answers.append(value.why if isinstance(value, machines.Refusal) else None)
                    case machines.Finish():
                        self.over = SHUTDOWN

    def launch(self, child_id):
        fate = self.fates.popleft() if self.fates else "ok"
        self.told.append(f"{'!' if fate == 'fail' else '+'}{child_id}")
        if fate == "fail":
            return machines.Failed("no")
        if fate == "ignore":
            return None
        self.count += 1
        return Pid("model", 1, self.count)

    def states(self):
        return {key: one.state for key, one in self.machine.children.items()}


ids = st.sampled_from(IDS)
kinds = st.builds(Kind, st.sampled_from(RESTARTS), st.booleans(), st.sampled_from([False, False, True]))
# What becomes of the next starts; all after them succeed.
fate_lists = st.lists(st.sampled_from(FATES), max_size=4)


class Comparison(RuleBasedStateMachine):
    """Both, side by side."""

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        intensity=st.sampled_from([50, 8, 2, 1, 0]),
        auto_shutdown=st.sampled_from(["never", "any_significant", "all_significant"]),
        declared=st.dictionaries(ids, kinds, min_size=2, max_size=4),
        fates=st.lists(st.sampled_from(("ok", "ok", "ignore")), max_size=4),
        fails=st.sampled_from([9, 9, 9, 9, 9, 0, 1, 2]),
    )
    def boot(self, strategy, intensity, auto_shutdown, declared, fates, fails):
        """Start with any children; now and then one fails."""
        fates = [*fates[:fails], "fail"] if fails < len(declared) else fates
        for kind in declared.values():
            if auto_shutdown == "never" or kind.restart == "permanent":
                kind.significant = False
        flags = Flags(strategy, intensity, PERIOD, auto_shutdown)
        self.now = 0.0
        self.model = Model(strategy, intensity, auto_shutdown, declared, fates)
        self.real = Supervised(flags, [kind.spec(one) for one, kind in declared.items()], fates)
        self.model.boot()
        self.real.take(machines.Boot(), self.now)

    def alive(self):
        return self.model.over is None

    @precondition(lambda self: self.alive() and "up" in self.model.children.values())
    @rule(data=st.data(), reason=st.sampled_from(["boom", "boom", NORMAL, SHUTDOWN]), fates=fate_lists)
    def a_child_ends(self, data, reason, fates):
        """A child that is up ends by itself."""
        one = data.draw(st.sampled_from([o for o, state in self.model.children.items() if state == "up"]))
        pid = self.real.machine.children[one].pid
        self.real.gone.append(pid)
        self.fate(fates)
        self.model.exited(one, reason, self.now)
        self.real.take(machines.Exited(pid, reason), self.now)

    @precondition(lambda self: self.alive() and self.real.retries)
    @rule(fates=fate_lists)
    def a_retry_comes_round(self, fates):
        """What a failed restart has put into the mailbox is taken out (S26)."""
        retry = self.real.retries.popleft()
        self.fate(fates)
        if self.model.children.get(retry.key) == "restarting":
            self.model.restart(retry.key, self.now)
        self.real.take(retry, self.now)

    @precondition(lambda self: self.alive() and self.real.waits)
    @rule(data=st.data(), fates=fate_lists)
    def a_wait_ends(self, data, fates):
        """The wait of a back-off ends, or one that was given up meanwhile."""
        wake = data.draw(st.sampled_from(self.real.waits))
        self.real.waits.remove(wake)
        latest = all(other.ticket < wake.ticket for other in self.real.waits if other.key == wake.key)
        self.fate(fates)
        if latest and self.model.children.get(wake.key) == "waiting":
            self.model.bring_back(wake.key)
        self.real.take(wake, self.now)

    @precondition(lambda self: self.alive() and self.real.gone)
    @rule(data=st.data())
    def an_old_exit_comes_late(self, data):
        """The exit of a pid that was replaced or stopped does nothing (S67)."""
        pid = data.draw(st.sampled_from(self.real.gone))
        self.real.take(machines.Exited(pid, "boom"), self.now)

    @precondition(alive)
    @rule(one=ids, kind=kinds, fates=fate_lists)
    def start_child(self, one, kind, fates):
        self.fate(fates)
        self.asked(self.model.start_child(one, kind), machines.StartChild(kind.spec(one)))

    @precondition(alive)
    @rule(one=ids)
    def terminate_child(self, one):
        self.asked(self.model.terminate_child(one), machines.TerminateChild(one))

    @precondition(alive)
    @rule(one=ids, fates=fate_lists)
    def restart_child(self, one, fates):
        self.fate(fates)
        self.asked(self.model.restart_child(one), machines.RestartChild(one))

    @precondition(alive)
    @rule(one=ids)
    def delete_child(self, one):
        self.asked(self.model.delete_child(one), machines.DeleteChild(one))

    @rule(seconds=st.sampled_from([0.5, 2.0, PERIOD]))
    def time_passes(self, seconds):
        self.now += seconds

    def fate(self, fates):
        """Decide what becomes of the next starts, for both."""
        self.model.fates, self.real.fates = deque(fates), deque(fates)

    def asked(self, answer, request):
        """Both answer a request alike."""
        self.real.take(machines.Ask(None, request), self.now)
        assert self.real.answers.pop() == answer

    @invariant()
    def both_agree(self):
        """The same starts and stops in the same order, the same states, and the same end."""
        assert self.real.told == self.model.told
        assert self.real.over == self.model.over
        if self.alive():
            assert self.real.states() == self.model.children
            assert list(self.real.states()) == list(self.model.children)
            pids = [one.pid for one in self.real.machine.children.values() if one.pid is not None]
            assert sorted(self.real.machine._by_pid, key=lambda p: p.number) == sorted(pids, key=lambda p: p.number)
            assert all(not one.restarting or one.pid is None for one in self.real.machine.children.values())


TestStrategies = Comparison.TestCase
TestStrategies.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
