"""Where a gateway may listen, and what happens where it may not or cannot."""

from __future__ import annotations

import pytest

from runtime import Crash, Misuse, Shutdown
from runtime.edge.acceptor import NotLoopback, check_address
from supervisors import ChildRefused
from tests.unit.edge.toy import toy


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "127.0.0.1:65535", "127.1.2.3:80", "[::1]:80", "localhost:80", "unix:/tmp/x"]
)
def test_loopback_needs_no_permission(address: str) -> None:
    """What cannot leave this machine may be listened to."""
    assert check_address(address, remote=False) == address


@pytest.mark.parametrize(
    "address", ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "example.org:80", "localhost.example.org:80"]
)
def test_everything_else_needs_a_flag(address: str) -> None:
    """Beyond loopback an address is refused with what to do, unless it is said that it may be remote."""
    with pytest.raises(NotLoopback, match="proxy") as caught:
        check_address(address, remote=False)
    assert caught.value.address == address
    assert check_address(address, remote=True) == address


@pytest.mark.parametrize("address", ["", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "1:65536", "h:-1", "h:²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address is a host and a port."""
    with pytest.raises(Misuse):
        check_address(address, remote=True)


def reason_of(refused: ChildRefused) -> BaseException:
    """The exception at the bottom of a start that failed."""
    reason = refused.detail
    while isinstance(reason, Shutdown):
        reason = reason.detail.reason  # type: ignore[attr-defined]  # a FailedToStart
    assert isinstance(reason, Crash)
    return reason.error


async def test_a_remote_address_fails_the_start() -> None:
    """A gateway that is told to listen to the world without a flag does not start."""
    with pytest.raises(ChildRefused) as caught:
        async with toy(address="0.0.0.0:0"):
            pytest.fail("it listens")
    assert isinstance(reason_of(caught.value), NotLoopback)


async def test_an_address_that_is_taken_fails_the_start() -> None:
    """A gateway whose port somebody else has does not start, and says why."""
    async with toy() as running:
        with pytest.raises(ChildRefused) as caught:
            async with toy(address=running.address):
                pytest.fail("it listens")
    assert isinstance(reason_of(caught.value), OSError)
