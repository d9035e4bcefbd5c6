"""Servers that count, for the tests of processes elsewhere."""

from __future__ import annotations

from runtime import NO_REPLY, GenServer, Raise


class Counter(GenServer):
    """Counts; keeps callers waiting on demand."""

    def init(self) -> None:
        self.count = 0
        self.kept = None

    def handle_call(self, request, caller):
        match request:
            case "count":
                return self.count
            case "fail":
                return Raise(ValueError("no"))
            case "crash":
                raise KeyError("oh")
            case "object":
                return object()
            case "never":
                return NO_REPLY
        return request

    def handle_cast(self, request) -> None:
        self.count += request


class Adder(GenServer):
    """Keeps the sum of its casts."""

    def init(self) -> None:
        self.sum = 0

    def handle_call(self, request, caller):
        return self.sum

    def handle_cast(self, request) -> None:
        self.sum += request
