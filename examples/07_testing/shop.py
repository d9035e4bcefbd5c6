"""A shop with a durable stock and a till that closes by itself; `test_shop.py` beside it is its tests."""

from __future__ import annotations

from runtime import NORMAL, Call, Caller, EventSourced, GenServer, Query, Refuse, Stop, message, self_pid, send_after
from supervisors import ChildSpec, Supervisor, child

OPEN_SECONDS = 8 * 3600


@message("example.take")
class Take(Call[int]):
    """Take one piece. The reply is how many are left."""


@message("example.left")
class Left(Query[int]):
    """How many are left."""


@message("example.taken")
class Taken:
    """What is journalled: one piece was taken."""


class Stock(EventSourced[int, Taken]):
    """Ten pieces at first; never fewer than none."""

    def initial(self, key: str) -> int:
        return 10

    def handle(self, state: int, command: object) -> Refuse | tuple[Taken, int]:
        if isinstance(command, Take) and state > 0:
            return Taken(), state - 1
        return Refuse("there is nothing left")

    def apply(self, state: int, event: Taken) -> int:
        return state - 1

    def query(self, state: int, request: Left) -> int:
        return state


class Till(GenServer):
    """Open for eight hours from its start."""

    def init(self) -> None:
        send_after(OPEN_SECONDS, self_pid(), "close")

    def handle_call(self, request: str, caller: Caller) -> str:
        return "open"

    def handle_info(self, note: object) -> Stop:
        return Stop(NORMAL)


class Shop(Supervisor):
    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [
            child("stock", Stock, "stock", name="stock"),
            child("till", Till, name="till", restart="transient"),
        ]
