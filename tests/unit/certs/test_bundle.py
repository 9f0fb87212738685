from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import create_authority, require_authority
from certs.bundle import bundle_of, peer_hosts
from certs.leaf import issue_server_leaf
from certs.pem import read_certificate, read_certificates
from kernelsecret.errors import Refused
from tests.unit.certs.samples import DAY, NOW, YEAR

OLD = create_authority(NOW - YEAR, 366 * DAY)
NEW = create_authority(NOW, YEAR)
LEAF = issue_server_leaf(NEW, ("kernelsecret-webhook.kernelsecret-system.svc", "10.0.0.1"), NOW, DAY)
DER = x509.load_pem_x509_certificate(LEAF.certificate_pem.encode()).public_bytes(Encoding.DER)
AUTHORITY_DER = x509.load_pem_x509_certificate(NEW.certificate_pem.encode()).public_bytes(Encoding.DER)


def test_a_bundle_has_each_authority_once_in_the_order_that_was_given() -> None:
    assert bundle_of([NEW.certificate_pem, OLD.certificate_pem + NEW.certificate_pem], NOW) == (
        NEW.certificate_pem + OLD.certificate_pem
    )


def test_the_way_of_writing_makes_no_difference() -> None:
    windows = "\n\n" + NEW.certificate_pem.replace("\n", "\r\n")
    assert bundle_of([windows, NEW.certificate_pem], NOW) == NEW.certificate_pem


def test_an_expired_authority_is_dropped() -> None:
    both = [OLD.certificate_pem, NEW.certificate_pem]
    assert bundle_of(both, OLD.not_after) == NEW.certificate_pem
    assert bundle_of(both, NOW + 10 * YEAR) == ""
    assert bundle_of([], NOW) == ""


@pytest.mark.parametrize("text", ["", "x", LEAF.certificate_pem, LEAF.key_pem, NEW.certificate_pem + "x", NEW.key_pem])
def test_what_is_no_authority_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^authorities: ") as refused:
        bundle_of([NEW.certificate_pem, text], NOW)
    assert "PRIVATE" not in str(refused.value)


def test_the_hosts_of_a_peer_are_the_names_in_its_certificate() -> None:
    assert peer_hosts(DER) == ("kernelsecret-webhook.kernelsecret-system.svc", "10.0.0.1")
    assert peer_hosts(AUTHORITY_DER) == ()
    assert peer_hosts(b"") == ()
    assert peer_hosts(DER[:-1]) == ()


def parsed_in_every_way(der: bytes) -> None:
    peer_hosts(der)
    body = base64.encodebytes(der).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    bundle_of([text], NOW)
    require_authority(read_certificate(text, "it"), "it")
    read_certificates(text, "it")


@pytest.mark.parametrize("good", [DER, AUTHORITY_DER])
@given(damage=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_certificate_is_read_or_refused(good: bytes, damage: list[tuple[int, int]]) -> None:
    der = bytearray(good)
    for at, byte in damage:
        der[at % len(der)] = byte
    reads: tuple[Callable[[bytes], object], ...] = (peer_hosts, parsed_in_every_way)
    for read in reads:
        try:
            read(bytes(der))
        except Refused as refused:
            assert refused.field in {"authorities", "it"}  # noqa: PT017  (either way is right)
