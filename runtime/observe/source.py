"""Whether typed source is whole, or wants another line. Pure: it compiles and runs nothing.

Source: Python's own `codeop`, with one habit of IPython: several statements may be pasted at once, and an
indented block goes on until an empty line.
"""

from __future__ import annotations

import ast
import codeop
import warnings


def needs_more(source: str) -> bool:
    """Whether more lines must follow before `source` means something.

    Source with a mistake in it is whole: to run it shows the mistake.
    """
    compiler = codeop.Compile()
    compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    command = codeop.CommandCompiler()
    command.compiler = compiler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the line runs
        try:
            whole = command(source, "<line>", "exec") is not None
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
            return False
    if not whole:
        return True
    *before, last = source.split("\n")
    return bool(last.strip()) and last[0] in " \t" and bool(before)
