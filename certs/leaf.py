"""Leaves: the certificate of the webhook and those of the nodes' agents, each for server and client. No I/O here.

The two sides call each other, so a leaf serves both ways; who may do what is decided by the name in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import BACKDATED, Authority, is_signed_by, key_usage
from certs.pem import UNREADABLE, blocks, key_pem_of, pem_of, read_certificate, read_key, readable, require_pair
from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import node_host
from kernelsecret.problems import quoted

LONGEST_CSR: Final = 4096
"""Characters. A request on P-256 for the longest name has 800."""
_LONGEST_HOST: Final = 253
# Of labels that DNS and TLS take; in a name of another form, such as one with a star, the leaf would be for others too.
_NODE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_CSR_FIELD: Final = "csr"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its key, both PEM. `hosts` are the names and addresses in it; times are UTC."""

    certificate_pem: str
    key_pem: str = field(repr=False)
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def issue_server_leaf(authority: Authority, hosts: Sequence[str], now: datetime, lifetime: timedelta) -> Leaf:
    """A new key and a leaf for these DNS names and IP addresses, never longer than the authority lives.

    Raises Refused where no host is given or the authority is not valid now.
    """
    if not hosts:
        raise Refused(Code.INVALID_ARGUMENT, "hosts", "none is given", "name at least one")
    key = generate_private_key(SECP256R1())
    certificate = _issue(authority, key.public_key(), "kernelsecret webhook", hosts, now, lifetime)
    return _leaf(certificate, key_pem_of(key))


def load_leaf(certificate_pem: str, key_pem: str, field: str = "leaf") -> Leaf:
    """A leaf that was kept. Raises Refused unless it has names, and certificate and key agree."""
    certificate = read_certificate(certificate_pem, f"{field}.certificate")
    require_pair(certificate, read_key(key_pem, f"{field}.key"), f"{field}.key")
    leaf = _leaf(certificate, key_pem)
    if not leaf.hosts:
        raise Refused(Code.INVALID_ARGUMENT, f"{field}.certificate", "has no name in it")
    return leaf


def is_issued_by(leaf_pem: str, authority_pem: str) -> bool:
    """Whether the authority's key signed the leaf. Raises Refused for what is no certificate."""
    return is_signed_by(read_certificate(leaf_pem, "leaf"), read_certificate(authority_pem, "authority"))


def node_csr(node: str) -> tuple[str, str]:
    """A new P-256 key and the request for the certificate of this node's agent, both PEM: (key, request)."""
    key = generate_private_key(SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject("kernelsecret node agent"))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_host_of(node))]), critical=False)
        .sign(key, SHA256())
    )
    return key_pem_of(key), request.public_bytes(Encoding.PEM).decode()


def issue_node_leaf(authority: Authority, csr_pem: str, node: str, now: datetime, lifetime: timedelta) -> str:
    """The certificate (PEM) of this node's agent, never longer than the authority lives.

    Only the public key is taken from the request. Raises Refused unless the request is for exactly this node's name,
    asks for nothing else and is signed by its own P-256 key.
    """
    host = _host_of(node)
    return pem_of(_issue(authority, _checked_key(csr_pem, host), "kernelsecret node agent", [host], now, lifetime))


def _checked_key(csr_pem: str, host: str) -> EllipticCurvePublicKey:
    """The public key of a request that is as it must be. The key's kind comes first: it bounds what checking costs."""
    if len(csr_pem) > LONGEST_CSR:
        raise _bad_request(f"longer than {LONGEST_CSR} characters")
    found = blocks(csr_pem, "CERTIFICATE REQUEST", _CSR_FIELD)
    if len(found) != 1:
        raise _bad_request(f"holds {len(found)} requests where one is expected")
    with readable(_CSR_FIELD):
        request = x509.load_pem_x509_csr(found[0].encode())
        key = request.public_key()
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise _bad_request("its key is not on P-256", "make a key on P-256")
        if not request.is_signature_valid:
            raise _bad_request("its signature is not by its own key")
        extensions = list(request.extensions)
    names = [one.value for one in extensions if isinstance(one.value, x509.SubjectAlternativeName)]
    if len(extensions) != 1 or len(names) != 1 or list(names[0]) != [x509.DNSName(host)]:
        raise _bad_request("must ask for the node's name and nothing else", f"ask for the DNS name {host} alone")
    return key


def _issue(
    authority: Authority,
    key: EllipticCurvePublicKey,
    subject: str,
    hosts: Sequence[str],
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    if not authority.not_before <= now < authority.not_after:
        raise Refused(Code.FAILED_PRECONDITION, "authority", "is not valid now", "wait for the next one, see the clock")
    signer = read_certificate(authority.certificate_pem, "authority.certificate")
    signer_id = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(subject))
        .issuer_name(signer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, authority.not_before))
        .not_valid_after(min(now + lifetime, authority.not_after))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer_id), critical=False)
        .sign(read_key(authority.key_pem, "authority.key"), SHA256())
    )


def _leaf(certificate: x509.Certificate, key_pem: str) -> Leaf:
    hosts = hosts_of(certificate)
    return Leaf(pem_of(certificate), key_pem, hosts, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses that a certificate is for, in its order; empty where it cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except UNREADABLE:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def is_for(leaf: Leaf, hosts: Sequence[str]) -> bool:
    """Whether a leaf is for exactly these hosts, however an address is written."""
    return leaf.hosts == tuple(str(_general_name(host).value) for host in hosts)


def _general_name(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if not host or len(host) > _LONGEST_HOST or not host.isascii():
            raise Refused(Code.INVALID_ARGUMENT, "hosts", f"{quoted(host)} is no DNS name and no address") from None
        return x509.DNSName(host)


def _host_of(node: str) -> str:
    host = node_host(node)
    if not _NODE.fullmatch(node) or len(host) > _LONGEST_HOST:
        raise Refused(Code.INVALID_ARGUMENT, "node", f"{quoted(node)} cannot be the name of a node")
    return host


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _bad_request(why: str, fix: str = "") -> Refused:
    return Refused(Code.INVALID_ARGUMENT, _CSR_FIELD, why, fix)
