"""`banyan certs`: a private authority, and certificates by which nodes and clients know one another.

    banyan certs init --dir certs
    banyan certs node room-1 --dir certs

The authority's key stays where it was made; a node needs `ca.pem`, its own certificate and its own key. A
certificate names one node or one client, and says which of the two it is (`runtime.cluster.tls`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.cluster.tls import AUTHORITY, CLIENT, NODE, SCHEME

from .failure import Exit, Failure

AUTHORITY_KEY = "ca.key"
# Certificates are good from a while before they were made: clocks differ.
_BEFORE = datetime.timedelta(hours=1)
_AUTHORITY_DAYS, _DAYS = 3650, 825


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="init|node|client", required=True)
    for kind, days, summary in (
        ("init", _AUTHORITY_DAYS, "make the authority, once for a cluster"),
        (NODE, _DAYS, "make the keys of a node"),
        (CLIENT, _DAYS, "make the keys of a client, which nodes do not take for a node"),
    ):
        one = kinds.add_parser(kind, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if kind != "init":
            one.add_argument("name", metavar="NAME", help="letters, digits, '-', '_' and '.'")
        one.add_argument("--dir", required=True, metavar="DIR", help="where the authority is, or is to be")
        one.add_argument("--days", type=int, default=days, help=f"how long it is good (default {days})")
        one.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Make it; what is there already is never written over."""
    directory = Path(args.dir)
    if not 1 <= args.days <= 36500:
        why = f"wanted a number of days from 1 to 36500, got {args.days}"
        raise Failure("the certificate cannot be made", why, "leave --days out for the usual", Exit.USAGE)
    try:
        made = init(directory, args.days) if args.kind == "init" else issue(directory, args.kind, args.name, args.days)
    except OSError as error:
        why = f"{error.filename or directory}: {error.strerror or error}"
        raise Failure("the keys cannot be written", why, "name a directory that is yours", Exit.REFUSED) from error
    if args.json:
        print(json.dumps(made))
    else:
        print(f"made {made['certificate']} and {made['key']}, good until {made['until']}")
    return Exit.OK


def init(directory: Path, days: int = _AUTHORITY_DAYS) -> dict[str, str]:
    """Make an authority: `ca.pem` for everybody, `ca.key` for whoever makes certificates."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("banyan")
    builder = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _write(directory, AUTHORITY, AUTHORITY_KEY, builder.sign(key, hashes.SHA256()), key)


def issue(directory: Path, kind: str, name: str, days: int = _DAYS) -> dict[str, str]:
    """Make the certificate and key of a node or a client, as `KIND-NAME.pem` and `KIND-NAME.key`."""
    if not name.isascii() or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or len(name) > 64:
        why = f"a {kind}'s name is at most 64 letters, digits, '-', '_' and '.', got {name!r}"
        raise Failure(f"the {kind} cannot be named {name!r}", why, "give it another name", Exit.USAGE)
    authority, authority_key = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if kind == NODE else [])
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(name), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{SCHEME}:{kind}:{name}")]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return _write(
        directory, f"{kind}-{name}.pem", f"{kind}-{name}.key", builder.sign(authority_key, hashes.SHA256()), key
    )


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    advice = f"make one first: banyan certs init --dir {directory}"
    try:
        certificate = x509.load_pem_x509_certificate((directory / AUTHORITY).read_bytes())
        key = serialization.load_pem_private_key((directory / AUTHORITY_KEY).read_bytes(), None)
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise Failure(
            f"there is no authority in {directory}", f"{missing} is missing", advice, Exit.NOT_FOUND
        ) from None
    except (ValueError, TypeError) as error:
        raise Failure(f"the authority in {directory} cannot be read", str(error), advice, Exit.USAGE) from None
    try:
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidSignature
        certificate.verify_directly_issued_by(certificate)
        if key.public_key() != certificate.public_key():
            raise InvalidSignature
    except (InvalidSignature, ValueError, TypeError):
        why = f"{AUTHORITY_KEY} is not the key of {AUTHORITY}"
        raise Failure(f"the authority in {directory} cannot be used", why, advice, Exit.USAGE) from None
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    directory: Path, name: str, key_name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> dict[str, str]:
    """Write both files, the key with mode 0600 from its first instant; neither may be there."""
    there = [one for one in (name, key_name) if (directory / one).exists()]
    if there:
        why = f"{there[0]} is there, and what knows it would not know a new one"
        advice = "use it, or move it away first if it is to be another one"
        raise Failure(f"nothing was made in {directory}", why, advice, Exit.REFUSED)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for one, mode, data in (
        (key_name, 0o600, encoded),
        (name, 0o644, certificate.public_bytes(serialization.Encoding.PEM)),
    ):
        descriptor = os.open(directory / one, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return {
        "certificate": str(directory / name),
        "key": str(directory / key_name),
        "until": certificate.not_valid_after_utc.isoformat(),
    }
