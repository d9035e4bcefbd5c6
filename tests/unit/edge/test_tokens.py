"""Tokens: what was signed is read back, and nothing else is."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Misuse
from runtime.edge.tokens import (
    ExpiredToken,
    ForgedToken,
    MalformedToken,
    MisusedToken,
    Signer,
    Token,
    TokenError,
)

SECRET = bytes(range(32))
SIGNER = Signer(SECRET)
ANN = Token("login", "ann", 1_000.0)


def test_a_signed_token_is_read_back() -> None:
    """What was signed comes back whole, before it expires."""
    resume = Token("resume", "Zoë 1", 1_000.5, "0123abcd")
    assert SIGNER.verify(SIGNER.sign(ANN), "login", 999.9) == ANN
    assert SIGNER.verify(SIGNER.sign(resume), "resume", 0.0) == resume


def test_a_token_expires_at_its_moment() -> None:
    """At the very moment at which it expires a token is worth nothing."""
    with pytest.raises(ExpiredToken) as caught:
        SIGNER.verify(SIGNER.sign(ANN), "login", 1_000.0)
    assert caught.value.expired == 1_000.0


def test_a_token_of_another_secret_is_forged() -> None:
    """A token that somebody else has signed is refused as forged."""
    with pytest.raises(ForgedToken):
        SIGNER.verify(Signer(b"another secret of thirty-two byte").sign(ANN), "login", 0.0)


def test_a_login_token_resumes_nothing() -> None:
    """A token serves the purpose for which it was made, and no other."""
    with pytest.raises(MisusedToken) as caught:
        SIGNER.verify(SIGNER.sign(ANN), "resume", 0.0)
    assert (caught.value.wanted, caught.value.came) == ("resume", "login")


def test_an_expired_token_of_another_secret_is_forged_first() -> None:
    """Nothing of a payload is looked at before it is known to be ours."""
    with pytest.raises(ForgedToken):
        SIGNER.verify(Signer(b"x" * 32).sign(Token("resume", "ann", 0.0)), "login", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "v1.",
        "v1..",
        "v1.abc",
        "v2." + SIGNER.sign(ANN)[3:],
        SIGNER.sign(ANN) + "=",
        SIGNER.sign(ANN) + "\n",
        SIGNER.sign(ANN)[:-1] + "ä",
        "x" * 100_000,
        "v1." + "A" * 2_000 + ".AA",
    ],
)
def test_other_text_is_malformed(text: str) -> None:
    """Text that is no token at all is refused as malformed, whatever it is."""
    with pytest.raises(MalformedToken):
        SIGNER.verify(text, "login", 0.0)


def test_a_signed_payload_of_another_version_is_malformed() -> None:
    """Even a payload that bears our signature must be a token of this version."""
    payload = base64.urlsafe_b64encode(b'["login","ann"]').rstrip(b"=").decode()
    signed = f"v1.{payload}"
    mac = base64.urlsafe_b64encode(SIGNER._mac(signed)).rstrip(b"=").decode()
    with pytest.raises(MalformedToken):
        SIGNER.verify(f"{signed}.{mac}", "login", 0.0)


@given(st.integers(0, len(SIGNER.sign(ANN)) - 1), st.characters())
def test_a_token_with_one_other_character_is_refused(place: int, character: str) -> None:
    """No change of a single character leaves a token valid, the last one's spare bits included."""
    text = SIGNER.sign(ANN)
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        with pytest.raises(TokenError):
            SIGNER.verify(changed, "login", 0.0)


@given(st.text())
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    """Whatever is sent in place of a token ends in a TokenError and in nothing else."""
    with pytest.raises(TokenError):
        SIGNER.verify(text, "login", 0.0)


def test_errors_and_reprs_tell_no_secret() -> None:
    """Neither the signer nor a refusal repeats the secret or the token."""
    token = SIGNER.sign(Token("login", "ann", 1.0))
    with pytest.raises(ExpiredToken) as caught:
        SIGNER.verify(token, "login", 2.0)
    told = repr(SIGNER) + repr(caught.value) + str(caught.value)
    assert token not in told
    assert SECRET.hex() not in told
    assert repr(SIGNER) == "<Signer>"


def test_a_short_secret_is_refused() -> None:
    """Less than 32 bytes are no secret."""
    with pytest.raises(Misuse):
        Signer(b"x" * 31)
