"""import-linter contracts whose names may stand in parentheses while their file is only planned.

import-linter's own `forbidden` and `protected` contracts refuse a module that does not exist, so a rule
could be written down only after the file it binds. Here, as in its `layers` contract, `(a.name)` is a plan:
it binds from the moment the file is there.

Source: import-linter, "Custom contract types".
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import grimp
from importlinter import Contract, ContractCheck, fields
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.protected import ProtectedContract


def is_planned(name: str) -> bool:
    """Whether a name in a contract stands in parentheses."""
    return name.startswith("(") and name.endswith(")")


class _Plannable(Contract):
    # The options in which a name may be planned.
    plannable: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        options = dict(contract_options)
        self.planned: set[str] = set()
        for option in self.plannable:
            self.planned |= {name.strip("()") for name in options[option] if is_planned(name)}
            options[option] = [name.strip("()") for name in options[option]]
        super().__init__(name, session_options, options)

    def drop_what_is_not_there(self, graph: grimp.ImportGraph) -> None:
        """Forget planned modules without a file; a missing one that is not planned stays, and is refused."""
        for option in self.plannable:
            named = getattr(self, option)
            there = type(named)(m for m in named if m.expression not in self.planned or m.expression in graph.modules)
            setattr(self, option, there)


class AbsentContract(_Plannable, ForbiddenContract):
    """`source_modules` never import `forbidden_modules`, by any chain of the project's own modules.

    With `running = true` an import under `if TYPE_CHECKING:` does not count, because a pure function may
    name the type of what it is given.
    """

    type_name = "absent"
    plannable = ("source_modules", "forbidden_modules")
    running = fields.BooleanField(required=False, default=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        # import-linter puts the parsed value where the class has its field.
        if cast("bool", self.running):
            roots: list[str] = self.session_options["root_packages"]
            graph = grimp.build_graph(*roots, include_external_packages=True, exclude_type_checking_imports=True)
        self.drop_what_is_not_there(graph)
        return super().check(graph, verbose)


class OnlyContract(_Plannable, ProtectedContract):
    """`protected_modules` are imported by `allowed_importers` alone."""

    type_name = "only"
    plannable = ("protected_modules", "allowed_importers")

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        self.drop_what_is_not_there(graph)
        return super().check(graph, verbose)
