"""Finding places where the order of a set decides what happens next.

Two runs of one seed must do the same things in the same order, and the order of a set of strings depends
on the interpreter's hash seed. What is known to be a set: displays, comprehensions, calls of `set` and
`frozenset`, their unions, and names, parameters and `self` attributes that are assigned or annotated so.
What an iteration may not do: order its effects. To feed `sorted`, `any`, `len`, `sum` or a set is fine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_SET_TYPES = {"set", "frozenset", "Set", "AbstractSet", "MutableSet", "FrozenSet"}
_ORDER_FREE = {"sorted", "set", "frozenset", "len", "sum", "min", "max", "any", "all"}
_ORDERED = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "reversed", "dict"}
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}


def _is_set_annotation(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.partition("[")[0] in _SET_TYPES
    if isinstance(node, ast.Attribute):
        return node.attr in _SET_TYPES
    return isinstance(node, ast.Name) and node.id in _SET_TYPES


def _target(node: ast.expr) -> str | None:
    # `x` and `self.x` are followed; anything else is not.
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="self"), attr=attr):
            return f"self.{attr}"
    return None


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.known: list[set[str]] = [set()]
        self.found: list[int] = []
        self._free: set[int] = set()

    def is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _SET_METHODS:
                return self.is_set(value)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return self.is_set(left) or self.is_set(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_set(body) or self.is_set(orelse)
        name = _target(node)
        return name is not None and any(name in scope for scope in self.known)

    def learn(self, body: list[ast.stmt], scope: set[str], *, attributes: bool) -> None:
        # Twice, so that a name given from another known name is known too.
        for _ in range(2):
            for node in ast.walk(ast.Module(body, [])):
                if isinstance(node, ast.AnnAssign) and _is_set_annotation(node.annotation):
                    targets: list[ast.expr] = [node.target]
                elif isinstance(node, ast.Assign) and self.is_set(node.value):
                    targets = node.targets
                else:
                    continue
                names = (_target(target) for target in targets)
                scope.update(n for n in names if n and n.startswith("self.") == attributes)

    def visit_Module(self, node: ast.Module) -> None:
        inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        top = [statement for statement in node.body if not isinstance(statement, inner)]
        self.learn(top, self.known[0], attributes=False)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        scope: set[str] = set()
        self.known.append(scope)
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and _is_set_annotation(field.annotation):
                scope.add(f"self.{_target(field.target)}")
        self.learn(node.body, scope, attributes=True)
        self.generic_visit(node)
        self.known.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        scope = {a.arg for a in arguments if _is_set_annotation(a.annotation)}
        self.known.append(scope)
        self.learn(node.body, scope, attributes=False)
        self.generic_visit(node)
        self.known.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def note(self, node: ast.expr) -> None:
        if self.is_set(node):
            self.found.append(node.lineno)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.note(node.iter)
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _ORDER_FREE:
            # Invariant: ids of nodes that live as long as the tree being walked.
            self._free.update(id(a) for a in node.args if isinstance(a, ast.GeneratorExp | ast.ListComp))
        elif isinstance(node.func, ast.Name) and node.func.id in _ORDERED:
            for argument in node.args:
                self.note(argument)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
            self.note(node.func.value)
        self.generic_visit(node)

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp | ast.DictComp) -> None:
        if id(node) not in self._free:
            for part in node.generators:
                self.note(part.iter)
        self.generic_visit(node)

    visit_GeneratorExp = _comprehension
    visit_ListComp = _comprehension
    visit_DictComp = _comprehension

    def visit_Set(self, node: ast.Set) -> None:
        for element in node.elts:
            self.visit(element.value if isinstance(element, ast.Starred) else element)

    def visit_Starred(self, node: ast.Starred) -> None:
        self.note(node.value)
        self.generic_visit(node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        self.note(node.value)
        self.generic_visit(node)


def ordered_by_a_set(tree: ast.Module) -> Iterator[int]:
    """The lines on which the order of a set is let out."""
    finder = _Finder()
    finder.visit(tree)
    yield from sorted(finder.found)
