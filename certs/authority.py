"""The authority: a self-signed certificate and its key, which sign leaves only. No I/O here; times are given.

It has no name constraints: nobody but our own peers and the API server, for our webhooks alone, is told to trust it,
and each of these asks for one exact name. A path length of zero keeps its leaves from signing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from certs.pem import UNREADABLE, key_pem_of, pem_of, read_certificate, read_key, require_pair
from kernelsecret.errors import Code, Refused

BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin this long before they are made: the clocks of a cluster are not one clock."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may sign, with its key, both PEM. `not_before` and `not_after` are UTC."""

    certificate_pem: str
    key_pem: str = field(repr=False)
    not_before: datetime
    not_after: datetime


def create_authority(now: datetime, lifetime: timedelta, name: str = "kernelsecret") -> Authority:
    """A new P-256 authority, valid until `now + lifetime`. Its subject is unlike that of every other."""
    key = generate_private_key(SECP256R1())
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # Authorities of one name would make verifiers guess which of them signed.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {identifier.digest.hex()[:16]}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    return _authority(certificate, key_pem_of(key))


def load_authority(certificate_pem: str, key_pem: str, field: str = "authority") -> Authority:
    """An authority that was kept. Raises Refused unless it is one of ours by form, and certificate and key agree."""
    certificate = read_certificate(certificate_pem, f"{field}.certificate")
    require_authority(certificate, f"{field}.certificate")
    if not is_signed_by(certificate, certificate):
        raise Refused(Code.INVALID_ARGUMENT, f"{field}.certificate", "is not signed by its own key")
    require_pair(certificate, read_key(key_pem, f"{field}.key"), f"{field}.key")
    return _authority(certificate, key_pem)


def require_authority(certificate: x509.Certificate, field: str) -> None:
    """Raises Refused unless the certificate may sign others."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        is_authority = constraints.ca and usage.key_cert_sign
    except UNREADABLE:
        is_authority = False
    if not is_authority:
        raise Refused(Code.INVALID_ARGUMENT, field, "the certificate is not that of an authority")


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed the certificate, in the authority's name."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key of ours is for: an authority's signs certificates, a leaf's signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(certificate: x509.Certificate, key_pem: str) -> Authority:
    return Authority(pem_of(certificate), key_pem, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
