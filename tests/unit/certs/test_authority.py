from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.authority import BACKDATED, create_authority, load_authority
from certs.leaf import is_issued_by, issue_node_leaf, issue_server_leaf, node_csr
from certs.pem import key_pem_of
from kernelsecret.errors import Refused
from tests.needs import need_program
from tests.unit.certs.samples import DAY, NODE, NOW, YEAR

HOSTS = ("kernelsecret-webhook.kernelsecret-system.svc", "127.0.0.1", "::1")


def openssl_takes(folder: Path, authority: str, leaf: str, purpose: str, *name: str) -> bool:
    (folder / "ca.pem").write_text(authority)
    (folder / "leaf.pem").write_text(leaf)
    told = subprocess.run(
        [
            need_program("openssl"),
            *("verify", "-x509_strict", "-attime", str(int(NOW.timestamp()))),
            *("-CAfile", str(folder / "ca.pem"), "-purpose", purpose, *name, str(folder / "leaf.pem")),
        ],
        capture_output=True,
        check=False,
    )
    return told.returncode == 0


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_takes_the_leaf_strictly_for_both_ends(tmp_path: Path, purpose: str) -> None:
    authority = create_authority(NOW, YEAR)
    leaf = issue_server_leaf(authority, HOSTS, NOW, 30 * DAY)
    assert openssl_takes(tmp_path, authority.certificate_pem, leaf.certificate_pem, purpose)
    for name in (("-verify_hostname", HOSTS[0]), ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1")):
        assert openssl_takes(tmp_path, authority.certificate_pem, leaf.certificate_pem, purpose, *name)
    wrong = ("-verify_hostname", "other.kernelsecret-system.svc")
    assert not openssl_takes(tmp_path, authority.certificate_pem, leaf.certificate_pem, purpose, *wrong)


def test_openssl_does_not_take_the_leaf_from_another_authority(tmp_path: Path) -> None:
    leaf = issue_server_leaf(create_authority(NOW, YEAR), HOSTS, NOW, DAY)
    assert not openssl_takes(tmp_path, create_authority(NOW, YEAR).certificate_pem, leaf.certificate_pem, "sslserver")


def test_openssl_takes_a_nodes_leaf_from_a_bundle_of_old_and_new(tmp_path: Path) -> None:
    old, new = create_authority(NOW, YEAR), create_authority(NOW, YEAR)
    _, request = node_csr(NODE)
    leaf = issue_node_leaf(new, request, NODE, NOW, DAY)
    bundle = old.certificate_pem + new.certificate_pem
    assert openssl_takes(tmp_path, bundle, leaf, "sslclient", "-verify_hostname", "node-1.nodes.kernelsecret.io")


def test_a_leaf_cannot_sign() -> None:
    leaf = x509.load_pem_x509_certificate(
        issue_server_leaf(create_authority(NOW, YEAR), HOSTS, NOW, DAY).certificate_pem.encode()
    )
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_authorities_have_names_of_their_own_and_sign_leaves_only() -> None:
    one, other = (x509.load_pem_x509_certificate(create_authority(NOW, YEAR).certificate_pem.encode()) for _ in "12")
    assert one.subject != other.subject
    assert one.serial_number != other.serial_number
    assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_certificates_begin_a_little_earlier_for_clocks_that_are_behind() -> None:
    authority = create_authority(NOW, YEAR)
    assert authority.not_before == NOW - BACKDATED
    assert authority.not_after == NOW + YEAR
    assert issue_server_leaf(authority, HOSTS, NOW, DAY).not_before == NOW - BACKDATED
    later = issue_server_leaf(authority, HOSTS, authority.not_after - timedelta(hours=1), DAY)
    assert later.not_after == authority.not_after


@pytest.mark.parametrize("moment", [NOW - DAY, NOW + YEAR, NOW + 2 * YEAR])
def test_an_authority_out_of_its_time_signs_nothing(moment: object) -> None:
    with pytest.raises(Refused, match=r"^authority: is not valid now"):
        issue_server_leaf(create_authority(NOW, YEAR), HOSTS, moment, DAY)  # type: ignore[arg-type]


@pytest.mark.parametrize("hosts", [(), ("",), ("webhook", "ä"), ("a" * 254,)])
def test_a_leaf_without_a_host_that_can_be_named_is_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match=r"^hosts: "):
        issue_server_leaf(create_authority(NOW, YEAR), hosts, NOW, DAY)


def test_what_was_kept_is_loaded_as_it_was() -> None:
    authority = create_authority(NOW, YEAR)
    assert load_authority(authority.certificate_pem, authority.key_pem) == authority


def test_a_pair_that_is_not_one_is_refused() -> None:
    one, other = create_authority(NOW, YEAR), create_authority(NOW, YEAR)
    leaf = issue_server_leaf(one, HOSTS, NOW, DAY)
    with pytest.raises(Refused, match=r"^authority\.key: the certificate is of another key$"):
        load_authority(one.certificate_pem, other.key_pem)
    with pytest.raises(Refused, match=r"^authority\.certificate: the certificate is not that of an authority$"):
        load_authority(leaf.certificate_pem, leaf.key_pem)
    with pytest.raises(Refused, match=r"^authority\.certificate: has 2 certificates"):
        load_authority(one.certificate_pem + other.certificate_pem, one.key_pem)


@pytest.mark.parametrize(
    "damage",
    [
        lambda pem: "",
        lambda pem: pem[:-40],
        lambda pem: pem[:60] + pem[61:],
        lambda pem: pem + "and more",
        lambda pem: re.sub("PRIVATE KEY", "RSA PRIVATE KEY", pem),
        lambda pem: pem * 2000,
        lambda pem: key_pem_of(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_damaged_key_is_refused_without_a_word_of_it(damage: object) -> None:
    authority = create_authority(NOW, YEAR)
    damaged = damage(authority.key_pem)  # type: ignore[operator]
    with pytest.raises(Refused, match=r"^authority\.key: ") as refused:
        load_authority(authority.certificate_pem, damaged)
    assert not any(line in str(refused.value) for line in authority.key_pem.splitlines()[1:-1])
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_no_key_is_shown() -> None:
    authority = create_authority(NOW, YEAR)
    leaf = issue_server_leaf(authority, HOSTS, NOW, DAY)
    assert "PRIVATE" not in repr(authority) + str(authority) + repr(leaf) + str(leaf)


def test_who_signed_a_leaf_is_known() -> None:
    one, other = create_authority(NOW, YEAR), create_authority(NOW, YEAR)
    leaf = issue_server_leaf(one, HOSTS, NOW, DAY)
    assert is_issued_by(leaf.certificate_pem, one.certificate_pem)
    assert not is_issued_by(leaf.certificate_pem, other.certificate_pem)
    assert not is_issued_by(leaf.certificate_pem, leaf.certificate_pem)
