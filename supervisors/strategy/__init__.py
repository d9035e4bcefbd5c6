"""The supervisor as a pure machine: exits and requests in, actions out.

`machine.handle(event, now)` returns the effects to perform, in order. At most the last of them is
*blocking* (`Launch`, `Halt`, `HaltAll`): the shell performs it and hands its outcome to the next `handle`
as `Done`; until then the machine takes no other event, as OTP's supervisor serves nobody while it starts
or stops a child (rules S33, S65). Each reaction is written as a generator that yields effects, so that it
reads in the order in which things happen.

`events` and `requests` are its vocabulary, `machine` what all strategies share, `static` the children with
an order, `dynamic` those that come and go.

Source: OTP `supervisor.erl`; rules S1-S67. Quirk S68 is not copied.
"""

from __future__ import annotations

from .dynamic import DynamicMachine
from .events import (
    Answer,
    Ask,
    Boot,
    Close,
    Done,
    Effect,
    Event,
    Exited,
    Failed,
    Finish,
    Halt,
    HaltAll,
    Launch,
    Report,
    Retry,
    Started,
    TryAgain,
    Wait,
    Wake,
)
from .machine import Child, Machine
from .requests import (
    ChildInfo,
    CountChildren,
    Counts,
    DeleteChild,
    FailedToStart,
    Gauge,
    GaugeReading,
    GetChildSpec,
    Refusal,
    RestartChild,
    StartChild,
    StartWith,
    TerminateChild,
    WhichChildren,
)
from .static import StaticMachine

__all__ = [
    "Answer",
    "Ask",
    "Boot",
    "Child",
    "ChildInfo",
    "Close",
    "CountChildren",
    "Counts",
    "DeleteChild",
    "Done",
    "DynamicMachine",
    "Effect",
    "Event",
    "Exited",
    "Failed",
    "FailedToStart",
    "Finish",
    "Gauge",
    "GaugeReading",
    "GetChildSpec",
    "Halt",
    "HaltAll",
    "Launch",
    "Machine",
    "Refusal",
    "Report",
    "RestartChild",
    "Retry",
    "StartChild",
    "StartWith",
    "Started",
    "StaticMachine",
    "TerminateChild",
    "TryAgain",
    "Wait",
    "Wake",
    "WhichChildren",
]
