"""PEM text, read strictly: one kind of block, nothing beside it, no key that we would not have made. No I/O here.

What is wrong is said without a word of the text: it may be a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from kernelsecret.errors import Code, Refused

LONGEST_PEM: Final = 64 * 1024
"""Characters. A bundle of ten authorities has 8,000."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # where warnings are errors; the library says that it will raise some day
)
"""All that the library raises at what others wrote, found by damaging certificates and requests byte by byte."""

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n?")
_CERTIFICATE: Final = "CERTIFICATE"


@contextmanager
def readable(field: str) -> Iterator[None]:
    """What the library cannot read in here is Refused, without its words: they may quote what they are about."""
    try:
        yield
    except UNREADABLE:
        raise Refused(Code.INVALID_ARGUMENT, field, "cannot be read") from None


def pem_of(certificate: x509.Certificate) -> str:
    """A certificate as PEM, with its last newline."""
    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem_of(key: EllipticCurvePrivateKey) -> str:
    """A private key as PEM (PKCS #8, not encrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def blocks(text: str, kind: str, field: str) -> list[str]:
    """The PEM blocks of one kind, at least one. Raises Refused where there is anything else but blank lines."""
    if len(text) > LONGEST_PEM:
        raise Refused(Code.INVALID_ARGUMENT, field, f"longer than {LONGEST_PEM} characters")
    plain = text.replace("\r\n", "\n")
    found = list(_BLOCK.finditer(plain))
    beside = _BLOCK.sub("", plain).strip()
    if not found or beside or any(block[1] != kind for block in found):
        raise Refused(Code.INVALID_ARGUMENT, field, f"not PEM of the kind {kind} and nothing else")
    return [block[0].rstrip("\n") + "\n" for block in found]


def read_certificates(text: str, field: str) -> list[x509.Certificate]:
    """The certificates of a PEM text, in its order, at least one. Raises Refused."""
    with readable(field):
        return [x509.load_pem_x509_certificate(block.encode()) for block in blocks(text, _CERTIFICATE, field)]


def read_certificate(text: str, field: str) -> x509.Certificate:
    """The only certificate of a PEM text. Raises Refused."""
    certificate, *more = read_certificates(text, field)
    if more:
        raise Refused(Code.INVALID_ARGUMENT, field, f"has {1 + len(more)} certificates where one is expected")
    return certificate


def read_key(text: str, field: str) -> EllipticCurvePrivateKey:
    """A P-256 private key. Raises Refused, which shows nothing of the text."""
    [block, *more] = blocks(text, "PRIVATE KEY", field)
    with readable(field):
        key = load_pem_private_key(block.encode(), password=None)
    if more or not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Refused(Code.INVALID_ARGUMENT, field, "must be one key on P-256")
    return key


def require_pair(certificate: x509.Certificate, key: EllipticCurvePrivateKey, field: str) -> None:
    """Raises Refused unless the certificate is of this key."""
    with readable(field):
        public = certificate.public_key()
    if not isinstance(public, EllipticCurvePublicKey) or public != key.public_key():
        raise Refused(Code.INVALID_ARGUMENT, field, "the certificate is of another key")
