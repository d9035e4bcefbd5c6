"""What travels between nodes comes out as it went in; nothing else comes out at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import (
    KILL,
    KILLED,
    NOCONNECTION,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Crash,
    Down,
    Exit,
    Pid,
    Ref,
    Shutdown,
    Timeout,
    Via,
    global_name,
    message,
)
from runtime.behaviours.gen_server import CastEnvelope
from runtime.cluster import terms
from runtime.codec import cbor
from runtime.codec.errors import DecodeError, EncodeError
from runtime.errors import BanyanError, RemoteError
from runtime.kernel.elsewhere import at


@message("tests.terms.carrier")
class Carrier:
    """A record with what only nodes understand."""

    pid: Pid
    rest: object


class Somewhere:
    """A place where pids and references are what they are called."""

    def __init__(self):
        self.refs = {}

    def pid_of(self, node, creation, number):
        return Pid(node, creation, number)

    def ref_of(self, node, creation, number):
        return self.refs.setdefault((node, creation, number), Ref(number))

    def identity_of(self, ref):
        self.refs["here", 1, ref.number] = ref
        return "here", 1, ref.number


PLACE = Somewhere()
REFS = [Ref(number) for number in range(4)]

pids = st.builds(Pid, st.sampled_from(["a", "b-2"]), st.integers(0, 2**40), st.integers(0, 2**64 - 1))
names = st.builds(at, st.sampled_from(["x", "y z"]), st.sampled_from(["a", "b-2"]))
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.binary(max_size=9), pids, names)
reasons = st.one_of(
    st.sampled_from([NORMAL, SHUTDOWN, KILL, KILLED, NOPROC, NOCONNECTION]),
    st.builds(Shutdown, plain),
    st.text(max_size=5),
)
values = st.recursive(
    st.one_of(
        plain,
        reasons,
        st.sampled_from(REFS),
        st.builds(Exit, pids, reasons),
        st.builds(Down, st.sampled_from(REFS), st.one_of(pids, names, st.text(max_size=3)), reasons),
        st.builds(Timeout, st.sampled_from(REFS), plain),
        st.builds(RemoteError, st.text(max_size=4), st.text(max_size=4), st.text(max_size=4)),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.lists(inner, max_size=3),
        st.builds(Carrier, pids, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=6,
)


@given(values)
def test_what_travels_comes_back(value):
    """Pids, references, names, reasons and the runtime's own messages, in whatever they lie."""
    assert terms.decode(PLACE, terms.encode(PLACE, value)) == value


def test_a_cast_travels_in_its_envelope():
    """A cast is a message like any other, and a cast again over there."""
    back = terms.decode(PLACE, terms.encode(PLACE, CastEnvelope(("deposit", 5))))
    assert type(back) is CastEnvelope
    assert back.request == ("deposit", 5)


def test_a_crash_travels_as_text():
    """The exception's class stays where it was raised; its name, text and traceback travel, and travel on."""
    try:
        raise ZeroDivisionError("oh \ud800")
    except ZeroDivisionError as error:
        crash = Crash(error)
    back = terms.decode(PLACE, terms.encode(PLACE, crash))
    assert (back.error.type_name, back.error.text) == ("ZeroDivisionError", "oh ?")
    assert "test_a_crash_travels_as_text" in back.error.remote_traceback
    again = terms.decode(PLACE, terms.encode(PLACE, back))
    assert again.error == back.error


def test_a_crash_with_its_own_bad_words():
    """An exception that cannot even be printed is told of all the same."""

    class Awkward(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    assert terms.told(Awkward()).text == "<unprintable: RuntimeError>"
    assert len(terms.told(ValueError("x" * 10**6)).text) < 20_000


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, ValueError("x"), Via, global_name("x"), lambda: 1, b"x" * (1 << 20)],
    ids=lambda v: str(type(v)),
)
def test_what_cannot_travel_is_refused_at_the_sender(value):
    """With an error that names the type; and in an exit reason it becomes text instead."""
    with pytest.raises(EncodeError):
        terms.encode(PLACE, value)
    reason = terms.decode(PLACE, terms.encode_reason(PLACE, value))
    assert type(reason) is str
    assert type(terms.decode(PLACE, terms.encode_reason(PLACE, Shutdown(value)))) is Shutdown


@pytest.mark.parametrize(
    "value", [Pid("a", 1, 2), Ref(3), at("x", "a"), Crash(ValueError()), Shutdown(1), Exit(Pid("a", 1, 2), 1)]
)
def test_a_journal_refuses_what_only_nodes_understand(value):
    """A pid on disk would name nobody; so the plain codec neither writes nor reads one."""
    with pytest.raises(EncodeError):
        cbor.encode((value,))
    with pytest.raises(DecodeError):
        cbor.decode(terms.encode(PLACE, value))


def carried(name, *parts):
    """The bytes of a carried value, whatever its parts."""
    array = cbor.encode((name, 0, *parts))
    return b"\xd9\xba\x00" + array


@pytest.mark.parametrize(
    "data",
    [
        carried("banyan.pid"),
        carried("banyan.pid", "a", 1),
        carried("banyan.pid", "a", 1, 2, 3),
        carried("banyan.pid", 1, 1, 2),
        carried("banyan.pid", "", 1, 2),
        carried("banyan.pid", "a" * 256, 1, 2),
        carried("banyan.pid", "a", -1, 2),
        carried("banyan.pid", "a", True, 2),
        carried("banyan.pid", "a", 1, 2**64),
        carried("banyan.ref", "a", "1", 2),
        carried("banyan.at", "", "a"),
        carried("banyan.at", "x", 5),
        carried("banyan.crash", "a", "b", 1),
        carried("banyan.exit", "nobody", "x"),
        carried("banyan.down", 1, 2, 3),
        carried("banyan.timeout", 1, 2),
        carried("os.system", "true"),
        carried("banyan.shutdown"),
        b"\xc4\x82\x01\x01",
        b"",
    ],
    ids=lambda data: data.hex()[:40],
)
def test_hostile_values_are_refused(data):
    """A value with wrong parts is refused before anything is made of it."""
    with pytest.raises(DecodeError):
        terms.decode(PLACE, data)


@given(values, st.data())
@settings(max_examples=200)
def test_damaged_bytes_give_a_value_or_a_refusal(value, data):
    """Any change of any byte gives another value or a BanyanError, never anything else."""
    raw = bytearray(terms.encode(PLACE, value))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        terms.decode(PLACE, bytes(raw))
    except BanyanError:
        pass
