"""Login and resume tokens: who somebody is, signed by the gateway, valid until a moment of wall time.

A token is text that fits into a URL: `v1.PAYLOAD.MAC`, both parts base64url without padding. The payload is
a small JSON array; the MAC is HMAC-SHA256 under the gateway's secret over everything before its dot. A token
is checked in this order: shape, MAC, purpose, time. So nothing of a payload is looked at before it is known
to be ours, and the MAC is compared in constant time.

A token proves a name; it is not encrypted, and whoever has it is that name until it expires.
Source: RFC 2104; JWT (RFC 7519) without its choice of algorithms.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal, final

import msgspec

from ..errors import BanyanError, Misuse

Purpose = Literal["login", "resume"]

SECRET_BYTES = 32
MOST_CHARACTERS = 1024

_VERSION = "v1"


class TokenError(BanyanError):
    """A token that proves nothing."""


class MalformedToken(TokenError):
    """It is not a token at all."""


class ForgedToken(TokenError):
    """It is not signed with this gateway's secret."""


class MisusedToken(TokenError):
    """It is a token for another purpose. `wanted`, `came`."""

    def __init__(self, wanted: Purpose, came: Purpose) -> None:
        super().__init__(f"wanted a {wanted} token, got a {came} token: send it with the op it was made for")
        self.wanted = wanted
        self.came = came


class ExpiredToken(TokenError):
    """It was valid once. `expired` is when it ended, in seconds since the Unix epoch."""

    def __init__(self, expired: float) -> None:
        super().__init__("the token has expired: log in with a new one")
        self.expired = expired


@final
@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes:
        purpose: what it is for.
        subject: whose it is.
        expires: wall time in seconds since the Unix epoch, from which on it is worth nothing.
        session: the session that a resume token goes on with; "" in a login token.
    """

    purpose: Purpose
    subject: str
    expires: float
    session: str = ""


class _Payload(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    purpose: Purpose
    subject: str
    expires: float
    session: str


_decoder = msgspec.json.Decoder(_Payload)


@final
class Signer:
    """Makes and checks tokens with one secret, which it never shows.

    Args:
        secret: at least 32 bytes that nobody can guess.

    Raises:
        Misuse: the secret is too short.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES:
            raise Misuse(
                f"wanted a secret of at least {SECRET_BYTES} bytes, got {len(secret)}: "
                "take it from a generator that cannot be guessed"
            )
        self._secret = bytes(secret)

    def __repr__(self) -> str:
        return "<Signer>"

    def sign(self, token: Token) -> str:
        """The token as text."""
        payload = _Payload(token.purpose, token.subject, float(token.expires), token.session)
        signed = f"{_VERSION}.{_text(msgspec.json.encode(payload))}"
        return f"{signed}.{_text(self._mac(signed))}"

    def verify(self, text: str, purpose: Purpose, now: float) -> Token:
        """What the token says, if it is ours, for this purpose and still valid.

        Args:
            text: as it came from outside.
            purpose: what it is to be used for.
            now: wall time in seconds since the Unix epoch.

        Raises:
            MalformedToken, ForgedToken, MisusedToken, ExpiredToken: in this order; none repeats the token.
        """
        signed, _, mac = text.rpartition(".")
        version, _, payload = signed.partition(".")
        if len(text) > MOST_CHARACTERS or version != _VERSION or not payload:
            raise MalformedToken("wanted a token of this gateway, got other text: log in with a token")
        if not hmac.compare_digest(_bytes(mac), self._mac(signed)):
            raise ForgedToken("the token is not signed by this gateway: log in with a token of its own")
        try:
            found = _decoder.decode(_bytes(payload))
        except msgspec.DecodeError:
            # Signed by us and yet unreadable: made by another version of this code.
            raise MalformedToken("the token is of another version of this gateway: log in anew") from None
        if found.purpose != purpose:
            raise MisusedToken(purpose, found.purpose)
        if not now < found.expires:
            raise ExpiredToken(found.expires)
        return Token(found.purpose, found.subject, found.expires, found.session)

    def _mac(self, signed: str) -> bytes:
        return hmac.new(self._secret, signed.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    """What base64url text stands for; raises MalformedToken for anything but its one canonical spelling."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedToken("wanted a token of this gateway, got other text: log in with a token") from None
    if _text(raw) != text:
        # Bits beyond the last byte: without this a token would have several spellings.
        raise MalformedToken("wanted a token of this gateway, got other text: log in with a token")
    return raw
