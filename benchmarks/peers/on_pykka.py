"""Pykka: a thread for each actor."""

from __future__ import annotations

import importlib
import time
from typing import Any

# By name, so that the types do not depend on whether it is installed.
pykka: Any = importlib.import_module("pykka")


class Counter(pykka.ThreadingActor):  # type: ignore[misc]  # of a type that is not known here
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> Any:
        self.count += 1
        return message


def call_one_pair() -> float:
    count = 5_000
    actor = Counter.start()
    begun = time.perf_counter()
    for index in range(count):
        actor.ask(index)
    took = time.perf_counter() - begun
    actor.stop()
    return count / took


def cast() -> float:
    count = 50_000
    actor = Counter.start()
    begun = time.perf_counter()
    for index in range(count):
        actor.tell(index)
    actor.ask(None)
    took = time.perf_counter() - begun
    actor.stop()
    return count / took


def start_stop() -> float:
    count = 1_000
    begun = time.perf_counter()
    for _ in range(count):
        Counter.start().stop()
    return count / (time.perf_counter() - begun)


ROWS = {
    "call, sync handler, one pair": call_one_pair,
    "cast into a counter": cast,
    "start + stop of a supervised process": start_stop,
}
