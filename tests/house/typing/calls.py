"""Calls as programs write them: what a type checker makes of each, and what it must refuse.

Not run, only checked: `assert_type` fails unless the type is exactly that one. A line that is wrong on purpose
bears a `type: ignore` with its rule, and a checker that found nothing wrong there complains of the ignore.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, assert_type

from runtime import (
    Call,
    Cast,
    Down,
    EventHandler,
    Exit,
    GenServer,
    Pid,
    Ref,
    call,
    cast,
    gen_event,
    message,
    receive,
    self_pid,
    start,
    start_link,
    start_monitor,
    sys,
)
from supervisors import child

T = TypeVar("T")


@message("typing.add")
class Add(Call[int]):
    """A request whose reply is a number."""

    amount: int


@message("typing.owner")
class Owner(Call[str | None]):
    """A request whose reply may be nothing."""


@message("typing.players")
class Players(Call[list[Pid]]):
    """A request without fields."""


@message("typing.first")
class First(Call[T], Generic[T]):
    """A request whose reply is of the kind that it was given."""

    of: tuple[T, ...]


@message("typing.tick")
class Tick(Cast):
    """A request without a reply."""


class Counter(GenServer):
    """Any server."""

    def handle_call(self, request: Any, caller: object) -> Any:
        """Count."""
        match request:
            case Add(amount):
                assert_type(amount, int)
                return amount


def watch(seen: int, _event: object, _pid: Pid) -> int:
    """A debug function."""
    return seen + 1


async def the_reply_is_what_the_message_says(pid: Pid) -> None:
    """The reply's type comes from the message, without a cast."""
    assert_type(await call(pid, Add(1)), int)
    assert_type(await call("counter", Add(1), timeout=1.5), int)
    assert_type(await call(pid, Owner()), str | None)
    assert_type(await call(pid, Players()), list[Pid])
    assert_type(await call(pid, First((1, 2))), int)
    assert_type(await call(pid, First(("a", "b"))), str)
    total = await call(pid, Add(1)) + await call(pid, Add(2))
    assert_type(total, int)
    for player in await call(pid, Players()):
        assert_type(await call(player, Add(1)), int)


async def what_is_no_call_has_a_reply_of_any_kind(pid: Pid) -> None:
    """A request that says nothing of its reply gets an object, to be looked at."""
    assert_type(await call(pid, "how many?"), object)
    match await call(pid, "how many?"):
        case int(number):
            assert_type(number, int)


async def starts_and_messages(pid: Pid) -> None:
    """What starts a process gives its pid; what is received is of the type that was asked for."""
    assert_type(await start(Counter, debug=["trace", ("log", 20), sys.Install(watch)]), Pid)
    assert_type(await start_link(Counter, name="counter"), Pid)
    assert_type(await start_monitor(Counter), tuple[Pid, Ref])
    assert_type(self_pid(), Pid)
    assert_type(await receive(Exit), Exit)
    assert_type((await receive(Down, timeout=1.0)).ref, Ref)
    assert_type(await receive(), object)
    assert_type(await gen_event.call(pid, EventHandler, Add(1)), int)
    assert_type(await gen_event.call(pid, (EventHandler, 1), "how many?"), object)
    assert_type(await gen_event.which_handlers(pid), list[gen_event.HandlerId])
    assert_type(await sys.get_state(pid), object)
    assert_type((await sys.get_status(pid)).parent, Pid | None)
    assert_type(await sys.log(pid, "get"), list[object])
    assert_type(await sys.log(pid, "print"), list[str])
    assert_type(await sys.statistics(pid, "get"), sys.Statistics | None)
    await sys.log(pid, True)
    await sys.statistics(pid, True)
    await cast(pid, Tick())
    child("counter", Counter, 1)


def use(_value: object) -> None:
    """Whatever is done with a value."""


async def wrong(pid: Pid) -> None:
    """Each line here is refused, by the rule that stands on it."""
    text: str = await call(pid, Add(1))  # type: ignore[assignment]  # the reply is a number
    use(text)
    owner = await call(pid, Owner())
    use(owner.upper())  # type: ignore[union-attr]  # there may be no owner
    use(await call(pid, "how many?") + 1)  # type: ignore[operator]  # nothing says that it is a number
    await call(pid, Add("1"))  # type: ignore[arg-type]  # an amount is a number
    await call(pid, Add())  # type: ignore[call-arg]  # an amount is missing
    await call(3, Add(1))  # type: ignore[call-overload]  # a number is no destination
    await call(pid, Add(1), timeout="soon")  # type: ignore[call-overload]  # a timeout is a number of seconds
    use(call(pid, Add(1)) + 1)  # type: ignore[operator]  # it was not waited for
    Add(1).amount = 2  # type: ignore[misc]  # a message never changes
    await sys.log(pid, "all")  # type: ignore[call-overload]  # no such word
    await start(Counter, debug=["everything"])  # type: ignore[list-item]  # no such option
