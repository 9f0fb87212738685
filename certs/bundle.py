"""Bundles: the authorities that are trusted at one moment, as one PEM text. No I/O here; times are given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509

from certs.authority import require_authority
from certs.leaf import hosts_of
from certs.pem import UNREADABLE, pem_of, read_certificates


def bundle_of(authorities: Iterable[str], now: datetime) -> str:
    """The authorities (PEM, one or more in each text) in their order, each once, without those that have expired.

    Raises Refused for a text that is not PEM of authorities. Empty where none is left.
    """
    found: dict[str, None] = {}
    for text in authorities:
        for certificate in read_certificates(text, "authorities"):
            require_authority(certificate, "authorities")
            if certificate.not_valid_after_utc > now:
                found[pem_of(certificate)] = None
    return "".join(found)


def peer_hosts(certificate: bytes) -> tuple[str, ...]:
    """The names that a peer's certificate (DER, as `ssl` gives it) is for; empty where it has none.

    Only for a certificate that a handshake has verified.
    """
    try:
        return hosts_of(x509.load_der_x509_certificate(certificate))
    except UNREADABLE:
        return ()
