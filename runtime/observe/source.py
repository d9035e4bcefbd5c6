"""Whether typed source is whole, or wants another line. Pure: it runs nothing.

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
    command = codeop.CommandCompiler()
    command.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the line runs
        try:
            return command(source, "<line>", "exec") is None or _ends_in_a_block(source)
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
            return False


def _ends_in_a_block(source: str) -> bool:
    """Whether the last line stands in a block, which may always go on; an empty line ends it."""
    line = source.rpartition("\n")[2]
    if line[:1] not in (" ", "\t") or not line.strip():
        return False
    body = ast.parse(source).body
    return bool(body) and (hasattr(body[-1], "body") or isinstance(body[-1], ast.Match))
