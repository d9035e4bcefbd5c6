"""Logging of a command that runs a node: structlog, to stderr, for a person or as lines of JSON.

The runtime logs through the standard library's `banyan` loggers and sets up nothing; here they, the
application's own loggers and all warnings of others go through structlog's formatter. Each line is bound to the
node, process and message that it was written for (`runtime.observe.bound`). Tracebacks are plain: one that showed
local variables would show what a process redacts.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.observe.bound import whose
from runtime.observe.processes import printable

from .main import is_tty


def set_up_logging(level: str, *packages: str) -> None:
    """Log to stderr: `banyan` and the named packages from `level` on, everything else from warning on.

    For a person when stderr is a terminal (in colour unless NO_COLOR is set), else a JSON object a line.
    """
    terminal = is_tty(sys.stderr)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _bound,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        stamp,
    ]
    last: list[Processor]
    if terminal:
        plain = structlog.dev.plain_traceback
        colors = not os.environ.get("NO_COLOR")
        last = [_printable, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("banyan", *packages):
        logging.getLogger(name).setLevel(level.upper())
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _bound(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Whose line it is; what the line says of itself goes before."""
    return {**whose(), **event}


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A terminal shows an event, and obeys nothing in it: names may come from players."""
    event["event"] = printable(str(event["event"]))
    for key, value in event.items():
        if isinstance(value, str) and key not in ("event", "exception", "stack"):
            event[key] = printable(value)
    return event
