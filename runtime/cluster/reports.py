"""What nodes say of themselves beside their leases: whether they give their shards away, and what they carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

from .balance import IDLE, Load
from .coordination import Change
from .members import Member, State
from .news import MemberFact

_REPORT: Final = "report/"


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What a node says of itself beside its lease, in a row of its own, which who knows nothing of it passes over.

    Attributes:
        creation: of the life that says so; it does not hold for another one.
        draining: it gives away what it has, and is given nothing.
        load: what it has to carry in sum.
    """

    creation: int = 0
    draining: bool = False
    load: Load = IDLE

    def stored(self) -> object:
        """What is kept of it in the coordination store."""
        return (_REPORT, self.creation, self.draining, self.load.commands, self.load.bytes)


def report_row(name: str) -> str:
    """The name of a node's row for its `Report`."""
    return _REPORT + name


@final
class Reports:
    """What one node says, and what it has read of the others.

    Args:
        name, creation: this node and its life.
    """

    def __init__(self, name: str, creation: int) -> None:
        self._name = name
        self.mine = Report(creation)
        self._read: dict[str, tuple[int, Report]] = {}

    def drain(self, on: bool) -> bool:
        """Say that this node gives its shards away, or does no more; whether that is new."""
        before, self.mine = self.mine, replace(self.mine, draining=on)
        return before != self.mine

    def carry(self, load: Load) -> None:
        """Say what this node carries."""
        self.mine = replace(self.mine, load=load)

    @property
    def urgent(self) -> bool:
        """Whether others should hear at once what is new: that it gives its shards away, or does so no more."""
        return self._read.get(self._name, (0, Report()))[1].draining != self.mine.draining

    def change(self) -> list[Change]:
        """The change of its row that says what is new."""
        version, said = self._read.get(self._name, (0, Report()))
        return [Change(report_row(self._name), version, self.mine.stored())] if self.mine != said else []

    def looked(self, rows: Iterable[tuple[str, int, object]]) -> None:
        """All rows were read."""
        self._read = reports_of(rows)

    def facts(self, nodes: Mapping[str, tuple[Member, State]]) -> dict[str, MemberFact]:
        """The nodes of `Members.nodes`, with what each has said in the life that it has now."""
        found = {}
        for name, (member, state) in nodes.items():
            report = self.mine if name == self._name else self._read.get(name, (0, Report()))[1]
            if report.creation != member.creation:
                report = Report()
            said = report.draining, report.load
            found[name] = MemberFact(member.address, member.creation, state, member.store, *said, member.data)
        return found


def reports_of(rows: Iterable[tuple[str, int, object]]) -> dict[str, tuple[int, Report]]:
    """The reports among (name, version, value) rows of the coordination store, by the nodes' names."""
    found = {}
    for name, version, value in rows:
        match value:
            case (str(kind), int(creation), bool(draining), int() | float() as commands, int(size)) if kind == _REPORT:
                found[name[len(_REPORT) :]] = (version, Report(creation, draining, Load(float(commands), size)))
    return found
