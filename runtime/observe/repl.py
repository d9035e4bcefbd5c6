"""Typed lines that run inside the node: the only place of the project that compiles and runs text.

A line runs in the node's own Trio loop, with top-level `await`, as host code beside the processes: it may
call, send and look, but it is no process itself. It has its own cancel scope, so that an interrupt ends the
line and never the node, and its prints go to its own session. Values and output are cut here, on the
server, so that looking at something large costs the node and the wire little.

What a line can do is what the node can do. It exists only where the node was started to allow it, behind the
admin socket's checks. A line that computes without ever waiting holds up the node until it ends, or is broken.

Source: CPython's `asyncio.__main__` (top-level await), Jupyter (message style), IPython (the last expression
is shown).
"""

from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import linecache
import re
import reprlib
import sys
import traceback
import types
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, TextIO, cast, final

import trio

from ..kernel.exits import Broken, Runaway
from ..kernel.process import here
from ..kernel.table import ProcessTable
from .source import needs_more

# Characters of one shown value or traceback, and of what one line prints.
VALUE_LIMIT = 10_000
OUTPUT_LIMIT = 100_000
# Typed lines whose text a session keeps for its tracebacks.
KEPT_LINES = 100
MATCHES_LIMIT = 200

# The task that runs a line; what the line starts inherits it.
line_task: ContextVar[trio.lowlevel.Task] = ContextVar("banyan_line_task")

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line: it wants more, printed `output`, has a `value`, failed with `error`."""

    more: bool = False
    output: str = ""
    value: str | None = None
    error: str | None = None
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the admin protocol sends it."""
        return asdict(self)


@final
class Text(str):
    """A string that is shown as it is, without quotes: what a helper has to say to a person."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


# -- what a line prints --------------------------------------------------------------------------------


@final
class _Output:
    """What one line has printed, up to a limit."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        self.open = True
        self._room = limit
        self._parts: list[str] = []
        self._lost = 0

    def write(self, text: str) -> None:
        kept = text[: self._room]
        if kept:
            self._parts.append(kept)
            self._room -= len(kept)
        self._lost += len(text) - len(kept)

    def close(self) -> str:
        self.open = False
        if self._lost:
            self._parts.append(f"\n... {self._lost} more characters were printed\n")
        return "".join(self._parts)


_printing: ContextVar[_Output] = ContextVar("banyan_printing")


@final
class _Router:
    """In the place of sys.stdout: what a line prints goes to its session, all else beneath."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath
        self.users = 0

    def _output(self) -> _Output | None:
        output = _printing.get(None)
        return output if output is not None and output.open else None

    def write(self, text: str) -> int:
        output = self._output()
        if output is None:
            return self.beneath.write(text)
        output.write(str(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return self._output() is None and self.beneath.isatty()

    def __getattr__(self, name: str) -> object:
        return getattr(self.beneath, name)


@contextmanager
def routed_stdout() -> Iterator[None]:
    """While this is open, each line's prints go to its own session. May be open several times at once."""
    router: object = sys.stdout
    if not isinstance(router, _Router):
        router = _Router(sys.stdout)
        sys.stdout = cast("TextIO", router)
    router.users += 1
    try:
        yield
    finally:
        router.users -= 1
        # Whoever has put something else there meanwhile keeps it.
        if router.users == 0 and cast("object", sys.stdout) is router:
            sys.stdout = router.beneath


# -- how a value is shown ------------------------------------------------------------------------------

_brief = reprlib.Repr()
_brief.maxlevel = 8
_brief.maxlist = _brief.maxtuple = _brief.maxdict = _brief.maxset = _brief.maxfrozenset = _brief.maxdeque = 100
_brief.maxstring = _brief.maxother = _brief.maxlong = 4000


def cut(text: str, limit: int = VALUE_LIMIT) -> str:
    """Text of at most about `limit` characters, saying what is missing."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


def show(value: object, as_text: tuple[type, ...] = ()) -> str | None:
    """A value as a person sees it, cut; None for None. Values of the types `as_text` by their `str`."""
    if value is None:
        return None
    if inspect.iscoroutine(value):
        value.close()
        return f"<coroutine {value.__qualname__}> that nobody awaited: put 'await' before it"
    try:
        text = str(value) if isinstance(value, (Text, *as_text)) else _brief.repr(value)
    except Exception as error:  # a repr of the application: it must not fail the line that looks at it
        text = f"<unprintable {type(value).__qualname__}: {type(error).__name__}>"
    return cut(text)


def _told(error: BaseException) -> str:
    """A traceback from the typed line on, without the frames of this file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    report = traceback.TracebackException(type(error), error, trace, limit=50, compact=True)
    return cut("".join(report.format()).rstrip())


# -- a session -----------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def _refuse(name: str, instead: str) -> object:
    def refused(*_args: object, **_options: object) -> object:
        raise RuntimeError(f"{name} would hold up the node: {instead}")

    return refused


@final
class _Leave:
    """In the place of `exit` and `quit`, which would close the node's own terminal."""

    def __call__(self, *_args: object) -> object:
        return self

    def __repr__(self) -> str:
        return "press Ctrl-D to leave; exit_process(name) ends a process of the node"


def _help(*things: object) -> object:
    """Python's help for a thing, as text."""
    import pydoc

    if not things:
        return Text("h() lists what there is here; help(thing) explains a thing")
    return Text(pydoc.plain(pydoc.render_doc(things[0])))


# Built-ins that would read the node's own terminal, or end the node.
_INSTEAD: dict[str, object] = {
    "exit": _Leave(),
    "quit": _Leave(),
    "help": _help,
    "input": _refuse("input()", "assign the value to a name"),
    "breakpoint": _refuse("breakpoint()", "print, or look with state(name)"),
}


@final
class Session:
    """The lines of one connection: they share their names. Run one at a time.

    Args:
        table: the node in which they run.
        names: what they find there from the start.
        as_text: types whose values are shown by their `str`.
    """

    def __init__(self, table: ProcessTable, names: Mapping[str, object], as_text: tuple[type, ...] = ()) -> None:
        self._table = table
        self._as_text = as_text
        self._number = next(_numbers)
        self._lines = 0
        self._files: deque[str] = deque()
        self.names: dict[str, object] = {"__name__": "__remsh__", **_INSTEAD, **names}

    def close(self) -> None:
        """Forget the texts of the lines."""
        while self._files:
            linecache.cache.pop(self._files.popleft(), None)

    async def evaluate(self, source: str, scope: trio.CancelScope | None = None) -> Outcome:
        """Run `source` and say what became of it. Never raises for what the line did.

        Whoever cancels `scope` interrupts the line at its next checkpoint. Only a Cancelled that comes from
        further outside passes, and what is Trio's own trouble.
        """
        if needs_more(source):
            return Outcome(more=True)
        output = _Output()
        place, printing = here.set(self._table), _printing.set(output)
        running = line_task.set(trio.lowlevel.current_task())
        value: str | None = None
        error: str | None = None
        interrupted = False
        scope = scope if scope is not None else trio.CancelScope()
        try:
            try:
                with scope:
                    value = show(await self._run(source), self._as_text)
            except (trio.Cancelled, trio.TrioInternalError):
                raise
            except BaseException as raised:  # a typed line may raise anything, and must not end the node
                if _is_cancelled(raised):
                    raise
                interrupted = _is_broken(raised)
                error = _broken(raised) if interrupted else _told(raised)
        finally:
            here.reset(place)
            line_task.reset(running)
            _printing.reset(printing)
            printed = output.close()
        return Outcome(False, printed, value, error, interrupted or scope.cancelled_caught)

    async def _run(self, source: str) -> object:
        file = self._remember(source)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            module = compile(source, file, "exec", _FLAGS | ast.PyCF_ONLY_AST, dont_inherit=True)
            assert isinstance(module, ast.Module)
            last = module.body.pop() if module.body and isinstance(module.body[-1], ast.Expr) else None
            # allowed: running typed lines is what this file is for, in a node that was told to allow it
            body = compile(module, file, "exec", _FLAGS, dont_inherit=True)
            shown = (
                compile(ast.Expression(last.value), file, "eval", _FLAGS, dont_inherit=True)
                if isinstance(last, ast.Expr)
                else None
            )
        for warning in warned:
            if warning.filename == file:
                print(f"{warning.category.__name__}: {warning.message}")  # noqa: T201  # to the session
            else:  # somebody else's, which the collector happened to bring up meanwhile
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        await self._execute(body)
        if shown is None:
            return None
        value = await self._execute(shown)
        if value is not None:
            self.names["_"] = value
        return value

    async def _execute(self, code: types.CodeType) -> object:
        result: Any = eval(code, self.names)  # allowed: a typed line, from a peer who may run lines
        return await result if code.co_flags & inspect.CO_COROUTINE else result

    def _remember(self, source: str) -> str:
        """Keep the text where tracebacks look for it; its name."""
        self._lines += 1
        file = f"<remsh {self._number}:{self._lines}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        self._files.append(file)
        if len(self._files) > KEPT_LINES:
            linecache.cache.pop(self._files.popleft(), None)
        return file

    def complete(self, text: str) -> tuple[int, list[str]]:
        """How the end of `text` may go on: where that end begins, and what it may become."""
        quoted = re.search(r"""["']([^"']*)$""", text)
        if quoted is not None and text[: quoted.start()].count(quoted[0][0]) % 2 == 0:
            return quoted.start(1), matching(quoted[1], self._table.names)
        word = re.search(r"[\w.]*$", text)
        assert word is not None
        head, dot, tail = word[0].rpartition(".")
        if not dot:
            known = {**vars(builtins), **self.names}
            return word.start(), matching(tail, known) if tail else []
        return word.start(), [f"{head}.{name}" for name in matching(tail, self._attributes(head))]

    def _attributes(self, path: str) -> list[str]:
        first, *rest = path.split(".")
        if first not in self.names and first not in vars(builtins):
            return []
        value: object = self.names[first] if first in self.names else vars(builtins)[first]
        for name in rest:
            found = _attribute(value, name)
            if found is _UNSAFE:
                return []
            value = found
        return _attribute_names(value)


def matching(word: str, known: Mapping[str, object] | list[str]) -> list[str]:
    """The known names that begin with a word, sorted; private ones only if the word is private."""
    found = [n for n in known if n.startswith(word) and (word.startswith("_") or not n.startswith("_"))]
    return sorted(found)[:MATCHES_LIMIT]


def _is_cancelled(error: BaseException) -> bool:
    """Whether a Cancelled from outside the line is among what was raised."""
    return isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None


def _is_broken(error: BaseException) -> bool:
    """Whether the host broke the line, or a task in a nursery of it, because it held the loop."""
    return isinstance(error, Broken) or (isinstance(error, BaseExceptionGroup) and error.subgroup(Broken) is not None)


def _broken(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup(Broken) or error).exceptions[0]
    if isinstance(error, Runaway):
        held = f"held the CPU for {error.held:.1f} s (limit {error.limit:.1f} s)"
        return f"Interrupted: this line {held}; the node is fine."
    return "Interrupted: this line held the CPU, and an operator broke it; the node is fine."


# -- looking without touching --------------------------------------------------------------------------

_UNSAFE = object()


def _attribute(value: object, name: str) -> object:
    """An attribute that can be read without running anybody's code, else `_UNSAFE`."""
    try:
        found: object = inspect.getattr_static(value, name)
    except AttributeError:
        return _UNSAFE
    if isinstance(found, types.MemberDescriptorType) and not isinstance(value, type):
        try:
            return found.__get__(value, type(value))
        except AttributeError:  # a slot that was never set
            return _UNSAFE
    plain = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, type)
    if hasattr(type(found), "__get__") and not isinstance(found, plain):
        return _UNSAFE
    return found


def _attribute_names(value: object) -> list[str]:
    """The names of a value's attributes, read from the dicts of it and its classes."""
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    names = {name: None for kind in kinds for name in vars(kind)}
    own = None if isinstance(value, type) else inspect.getattr_static(value, "__dict__", None)
    if isinstance(own, (types.GetSetDescriptorType, types.MemberDescriptorType)):
        own = own.__get__(value, type(value))
    if isinstance(own, dict):
        names |= dict.fromkeys(name for name in own if isinstance(name, str))
    return list(names)
