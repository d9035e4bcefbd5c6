"""TLS without a network: who is vouched for, who is refused, and where a node without keys may speak."""

from __future__ import annotations

import collections
import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import Misuse
from runtime.cluster.handshake import Refusal
from runtime.cluster.tls import MOST_HANDSHAKE, BadKeys, Cipher, Clear, Keys, NoKeys, Vouched, check_address, node_of
from supervisors.cli import certs

KeysOf = Callable[[str], Keys]


def shaken(near: Cipher, far: Cipher) -> None:
    """Carry the bytes of both handshakes until both are done; raises what one of them does."""
    data = near.begin(b"")
    while not (near.done and far.done):
        answer = far.begin(data)
        data = near.begin(answer) if not near.done else b""


def pair(keys: KeysOf) -> tuple[Cipher, Cipher]:
    """A connection of a to b, through its handshake."""
    near, far = Cipher(keys("a"), listening=False), Cipher(keys("b"), listening=True)
    shaken(near, far)
    return near, far


def test_both_sides_know_who_the_other_is(keys: KeysOf) -> None:
    """Name and role come out of the certificates, on both sides, and it is TLS 1.3."""
    near, far = pair(keys)
    assert (near.vouched(), far.vouched()) == (Vouched("node", "b"), Vouched("node", "a"))
    assert node_of(far.vouched()) == "a"
    assert far._tls.version() == "TLSv1.3"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=5), st.integers(1, 70_000))
def test_bytes_come_out_as_they_went_in(keys: KeysOf, pieces: list[bytes], cut: int) -> None:
    """However ciphertext is cut on its way, what comes out is what went in, in order."""
    near, far = pair(keys)
    sent = b"".join(near.encrypt(piece) for piece in pieces)
    parts = [far.decrypt(sent[start : start + cut]) for start in range(0, len(sent), cut)]
    assert b"".join(part for part in parts if part is not None) == b"".join(pieces)


def test_what_came_with_the_handshake_is_not_lost(keys: KeysOf) -> None:
    """Bytes that arrive behind the last of the handshake, in one piece with it, wait to be decrypted."""
    near, far = Cipher(keys("a"), listening=False), Cipher(keys("b"), listening=True)
    answer = far.begin(near.begin(b""))
    last = near.begin(answer)
    far.begin(last + near.encrypt(b"at once"))
    assert far.decrypt(b"") == b"at once"


def test_a_foreign_authority_is_refused(keys: KeysOf, foreign: Path) -> None:
    """A certificate of another authority vouches for nobody, whatever name it bears; either side says so."""
    for near, far in ((Keys(foreign, "a"), keys("b")), (keys("a"), Keys(foreign, "a"))):
        with pytest.raises(Refusal) as caught:
            shaken(Cipher(near, listening=False), Cipher(far, listening=True))
        assert caught.value.reason == "tls"


def test_no_certificate_is_refused(keys: KeysOf) -> None:
    """Who shows no certificate is told so, and is not let in."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, far = bare.wrap_bio(incoming, outgoing), Cipher(keys("b"), listening=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(far.begin(outgoing.read()))
    client.do_handshake()
    with pytest.raises(Refusal, match="certificate") as caught:
        far.begin(outgoing.read())
    assert caught.value.reason == "tls"
    incoming.write(far.last_words())
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        client.read(1)


def test_an_older_tls_is_refused(keys: KeysOf) -> None:
    """Nothing below TLS 1.3 is spoken."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        old.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    with pytest.raises(Refusal, match="unsupported protocol"):
        Cipher(keys("b"), listening=True).begin(outgoing.read())


def test_a_client_is_no_node(authority: Path, keys: KeysOf, tmp_path: Path) -> None:
    """A client's certificate of the same authority is TLS's friend and still no node; as a listener it is nobody."""
    for name in ("ca.pem", "client-ops.pem", "client-ops.key"):
        target = tmp_path / name.replace("client", "node")
        target.write_bytes((authority / name).read_bytes())
    posing = Keys(tmp_path, "ops")
    far = Cipher(keys("b"), listening=True)
    shaken(Cipher(posing, listening=False), far)
    with pytest.raises(Refusal, match="certificate of a node, got one of the client 'ops'") as caught:
        node_of(far.vouched())
    assert (caught.value.reason, caught.value.node) == ("role", "ops")
    with pytest.raises(Refusal, match="certificate"):
        shaken(Cipher(keys("a"), listening=False), Cipher(posing, listening=True))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x03\xff\xff" + bytes(70_000)])
def test_what_is_no_tls_is_refused(keys: KeysOf, data: bytes) -> None:
    """Plain bytes are refused by the first of them."""
    with pytest.raises(Refusal) as caught:
        Cipher(keys("b"), listening=True).begin(data)
    assert caught.value.reason == "tls"


def test_a_handshake_without_end_is_refused(keys: KeysOf) -> None:
    """More bytes than any handshake has are refused, though each record is one that could go on."""
    cipher = Cipher(keys("b"), listening=True)
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(16380)
    records = itertools.chain([record] * (MOST_HANDSHAKE // len(record) + 2))
    with pytest.raises(Refusal):
        collections.deque(map(cipher.begin, records), maxlen=0)


def test_what_is_no_tls_any_more_is_refused(keys: KeysOf) -> None:
    """A record that was changed on its way ends the connection."""
    near, far = pair(keys)
    sent = bytearray(near.encrypt(b"chips"))
    sent[-1] ^= 1
    with pytest.raises(Refusal):
        far.decrypt(bytes(sent))


def test_an_end_of_tls_is_an_end(keys: KeysOf) -> None:
    """When the other side says that it has ended, there are no more bytes."""
    near, far = pair(keys)
    with pytest.raises(ssl.SSLWantReadError):
        near._tls.unwrap()
    assert far.decrypt(near.last_words()) is None


@pytest.mark.parametrize("address", ["127.0.0.1:4370", "[::1]:4370", "localhost:0", "unix:/tmp/x"])
def test_clear_text_stays_on_this_machine(address: str) -> None:
    """Clear text is allowed where nobody else can read it, and only if it was asked for."""
    assert check_address(address, Clear(), "a") == address
    with pytest.raises(NoKeys):
        check_address(address, None, "a")


@pytest.mark.parametrize("address", ["0.0.0.0:4370", "10.0.0.1:4370", "[::]:4370", "example.org:4370"])
def test_other_machines_need_keys(address: str, keys: KeysOf) -> None:
    """Beyond this machine nothing is said without keys; the refusal tells how they are made."""
    with pytest.raises(NoKeys, match="banyan certs node room-1 --dir certs") as caught:
        check_address(address, Clear(), "room-1")
    assert caught.value.address == address
    assert check_address(address, keys("a"), "a") == address
    assert check_address(address, Clear(beyond=True), "a") == address


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":1", "h:x", "h:65536", "h:-1", "h:²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address is a host and a port, or a path."""
    with pytest.raises(Misuse, match="wanted an address"):
        check_address(address, Clear(), "a")


def test_keys_that_do_not_fit_are_refused(authority: Path, foreign: Path, tmp_path: Path) -> None:
    """Missing files, and a key of another certificate, are refused with the directory and what to do."""
    for path, name in ((tmp_path, "a"), (authority, "nobody")):
        with pytest.raises(BadKeys, match="banyan certs"):
            Keys(path, name)
    for name, source in (("ca.pem", authority), ("node-a.pem", authority), ("node-a.key", foreign)):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(BadKeys, match="KEY_VALUES_MISMATCH"):
        Keys(tmp_path, "a")


def test_a_certificate_that_names_two_is_refused(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name must be one name: a certificate with none of ours, or with two, vouches for nobody."""
    cipher = Cipher(Keys(authority, "a"), listening=True)
    for names in ([], ["banyan:node:a", "banyan:node:b"], ["banyan:node"], ["banyan:king:a"], ["https://a"]):
        found = [("URI", name) for name in names]
        monkeypatch.setattr("runtime.cluster.tls._names", lambda tls, found=found: found)
        with pytest.raises(Refusal) as caught:
            cipher.vouched()
        assert caught.value.reason == "role"


def test_issue_makes_what_strict_checks_accept(tmp_path: Path) -> None:
    """What `banyan certs` makes passes OpenSSL's strict verification for two new nodes of one new authority."""
    certs.init(tmp_path, 1)
    for name in ("x.y", "z_1"):
        certs.issue(tmp_path, "node", name, 1)
    near, far = Cipher(Keys(tmp_path, "x.y"), listening=False), Cipher(Keys(tmp_path, "z_1"), listening=True)
    shaken(near, far)
    assert (far.vouched(), near.vouched()) == (Vouched("node", "x.y"), Vouched("node", "z_1"))
