"""TLS between nodes: a private authority, a name and a role in every certificate, and no way around.

Both sides show a certificate of the cluster's own authority (`banyan certs`). Who it is stands in one URI among its
names: `banyan:node:room-1`, `banyan:client:ops`. The role matters as much as the name: without it a client of the
same authority could pose as a node. TLS 1.3 only.

`Cipher` is one connection's TLS without any input or output: bytes go in and come out, so that a link can encrypt
what has gathered in one piece, and a heartbeat can be carried by another thread.

A node without keys listens and dials on this machine only, and only if it is told to: see `Clear`.

Source: RFC 8446; SPIFFE's X.509 identities for the URI; CVE-2025-61778 for why each refusal has a test.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from ..errors import Misuse
from .handshake import Refusal

SCHEME: Final = "banyan"
NODE, CLIENT = "node", "client"
AUTHORITY: Final = "ca.pem"
# Bytes that a handshake of TLS may take: a chain of certificates is a few thousand.
MOST_HANDSHAKE: Final = 64 << 10
# A record of TLS holds this much.
_RECORD: Final = 16 << 10


class NoKeys(Misuse):
    """A node was to be reached from beyond this machine, or in clear text, without being told that it may.

    `address` is where.
    """

    def __init__(self, address: str, name: str) -> None:
        super().__init__(
            f"wanted keys to speak at {address!r}, got none: make them with\n"
            f"  banyan certs init --dir certs\n  banyan certs node {name} --dir certs\n"
            "and start the node with that directory; on 127.0.0.1 and unix sockets clear text may be asked for instead"
        )
        self.address = address


class BadKeys(Misuse):
    """Files of keys that cannot be used; `path` is the directory."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"wanted the keys of a node in {path}, got {why}: make them with `banyan certs`")
        self.path = path


@final
@dataclass(frozen=True, slots=True)
class Vouched:
    """What a certificate says of whoever shows it."""

    role: str
    name: str


@final
@dataclass(frozen=True, slots=True)
class Clear:
    """No TLS: names are believed as they are said, and anybody on this machine may say one.

    Args:
        beyond: also to and from other machines. Only for networks that nobody else can reach, as a simulated one.
    """

    beyond: bool = False


@final
class Keys:
    """The authority's certificate, and a node's own with its key.

    Args:
        directory: where `banyan certs` has put them.
        name: the node's name; its files are `node-NAME.pem` and `node-NAME.key`.

    Raises:
        BadKeys: a file is missing, cannot be read, or does not fit the others.
    """

    def __init__(self, directory: Path | str, name: str) -> None:
        path = Path(directory)
        self.name = name
        self.listening = _context(ssl.PROTOCOL_TLS_SERVER, path, name)
        self.dialling = _context(ssl.PROTOCOL_TLS_CLIENT, path, name)


Security = Keys | Clear


def _context(protocol: ssl._SSLMethod, path: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # names are ours, in `Cipher.vouched`, and not those of hosts
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if protocol is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nobody resumes: a new link shows its certificate again
    try:
        context.load_verify_locations(path / AUTHORITY)
        context.load_cert_chain(path / f"{NODE}-{name}.pem", path / f"{NODE}-{name}.key")
    except OSError as error:  # an SSLError is one too
        raise BadKeys(path, f"{type(error).__name__}: {error}") from error
    return context


def check_address(address: str, security: Security | None, name: str) -> str:
    """The address, if a node with this security may listen at it, or dial it.

    Args:
        address: `host:port` or `unix:PATH`. A name other than localhost counts as beyond this machine.
        security: keys; `Clear` where clear text was asked for; None where nothing was said.
        name: the node's, to say how its keys are made.

    Raises:
        Misuse: it is no such address.
        NoKeys: what goes over it could be read by others, or nobody asked for clear text.
    """
    if address.startswith("unix:"):
        local = True
    else:
        host, colon, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise Misuse(f"wanted an address like 127.0.0.1:4370 or unix:/path, got {address!r}")
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
    if security is None or (isinstance(security, Clear) and not (local or security.beyond)):
        raise NoKeys(address, name)
    return address


@final
class Cipher:
    """One connection's TLS: bytes in, bytes out. Not for two threads at once.

    Args:
        keys: of this node.
        listening: whether the other side has connected to this one.
    """

    __slots__ = ("_heard", "_in", "_out", "_tls", "done")

    def __init__(self, keys: Keys, *, listening: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = keys.listening if listening else keys.dialling
        self._tls = context.wrap_bio(self._in, self._out, server_side=listening)
        self._heard = 0
        self.done = False

    def begin(self, data: bytes) -> bytes:
        """Go on with the handshake after these bytes have come; returns what is to be sent, also when it raises.

        Call it with nothing first. When `done` is set, it is through, and bytes behind it wait for `decrypt`.

        Raises:
            Refusal: `tls`, with what OpenSSL says; what it has to tell the other side is in `last_words`.
        """
        self._heard += len(data)
        self._in.write(data)
        try:
            self._tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            if self._heard > MOST_HANDSHAKE:
                raise Refusal("tls", f"wanted a handshake of at most {MOST_HANDSHAKE} bytes, got more") from None
        except ssl.SSLError as error:
            raise Refusal("tls", f"wanted TLS 1.3 with a certificate of the cluster, got {_said(error)}") from error
        return self._out.read()

    def last_words(self) -> bytes:
        """What TLS still has to say, such as why it has ended."""
        return self._out.read()

    def vouched(self) -> Vouched:
        """Who the other side's certificate says it is; Refusal `role` if it names nobody, or more than one."""
        found = [value for kind, value in _names(self._tls) if kind == "URI" and value.startswith(f"{SCHEME}:")]
        parts = found[0].split(":") if len(found) == 1 else []
        if len(parts) != 3 or parts[1] not in (NODE, CLIENT) or not parts[2]:
            raise Refusal("role", "wanted a certificate made by `banyan certs`, got one without a name of that form")
        return Vouched(parts[1], parts[2])

    def encrypt(self, data: bytes) -> bytes:
        """What to send for these bytes."""
        self._tls.write(data)
        return self._out.read()

    def decrypt(self, data: bytes) -> bytes | None:
        """The bytes inside of what has come, which may be none yet; None: the other side has ended TLS.

        Raises:
            Refusal: `tls`: what has come is no TLS, or the other side tells why it has refused this node.
        """
        incoming, tls = self._in, self._tls
        incoming.write(data)
        parts = []
        try:
            while part := tls.read(_RECORD):
                parts.append(part)
                if not incoming.pending and not tls.pending():
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        except ssl.SSLWantReadError:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            raise Refusal("tls", f"wanted TLS to go on, got {_said(error)}") from error
        return b"".join(parts) if parts else None


def node_of(vouched: Vouched) -> str:
    """The name of a certificate that is a node's; Refusal `role` for any other."""
    if vouched.role != NODE:
        text = f"wanted the certificate of a node, got one of the {vouched.role} {vouched.name!r}"
        raise Refusal("role", f"{text}: this port is for nodes", node=vouched.name)
    return vouched.name


def _names(tls: ssl.SSLObject) -> list[tuple[str, str]]:
    certificate = tls.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    return [(str(one[0]), str(one[1])) for one in names if len(one) == 2]


def _said(error: ssl.SSLError) -> str:
    words = getattr(error, "verify_message", "") or error.reason or type(error).__name__
    return str(words).replace("_", " ").lower()[:200]
