from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import create_authority
from certs.leaf import issue_node_leaf, load_leaf, node_csr
from kernelsecret.errors import Code, Refused
from tests.unit.certs.samples import DAY, NODE, NOW, YEAR

AUTHORITY = create_authority(NOW, YEAR)
HOST = "node-1.nodes.kernelsecret.io"
REQUEST = node_csr(NODE)[1]
KEY = ec.generate_private_key(ec.SECP256R1())
Builder = x509.CertificateSigningRequestBuilder


def pem(request: x509.CertificateSigningRequest) -> str:
    return request.public_bytes(serialization.Encoding.PEM).decode()


def built(
    change: Callable[[Builder], Builder],
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY,
) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:masters")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return pem(change(Builder().subject_name(subject)).sign(key, algorithm))


def names(*hosts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])


def refusal(request: str, node: str = NODE) -> Refused:
    with pytest.raises(Refused) as refused:
        issue_node_leaf(AUTHORITY, request, node, NOW, DAY)
    assert refused.value.code is Code.INVALID_ARGUMENT
    return refused.value


def test_a_node_gets_the_leaf_that_it_asks_for() -> None:
    key, request = node_csr(NODE)
    leaf = load_leaf(issue_node_leaf(AUTHORITY, request, NODE, NOW, DAY), key)
    assert leaf.hosts == (HOST,)
    assert leaf.not_after == NOW + DAY


def test_of_the_request_only_the_key_is_taken() -> None:
    request = built(lambda builder: builder.add_extension(names(HOST), critical=True))
    issued = x509.load_pem_x509_certificate(issue_node_leaf(AUTHORITY, request, NODE, NOW, DAY).encode())
    assert issued.public_key() == KEY.public_key()
    assert "masters" not in issued.subject.rfc4514_string()
    assert not issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize(
    "change",
    [
        lambda builder: builder,
        lambda builder: builder.add_extension(names("node-2.nodes.kernelsecret.io"), critical=False),
        lambda builder: builder.add_extension(names(HOST, "kernelsecret-webhook.kernelsecret-system.svc"), False),
        lambda builder: builder.add_extension(names(HOST, HOST), critical=False),
        lambda builder: builder.add_extension(names("*.nodes.kernelsecret.io"), critical=False),
        lambda builder: builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(HOST)]), critical=False),
        lambda builder: builder.add_extension(names(HOST), critical=False).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ),
        lambda builder: builder.add_extension(names(HOST), critical=False).add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"anything"), critical=False
        ),
    ],
)
def test_a_request_for_anything_else_is_refused(change: Callable[[Builder], Builder]) -> None:
    refused = refusal(built(change))
    assert str(refused) == (f"csr: must ask for the node's name and nothing else; ask for the DNS name {HOST} alone")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_a_key_of_another_kind_is_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    request = built(lambda builder: builder.add_extension(names(HOST), critical=False), key)
    assert refusal(request).why == "its key is not on P-256"


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    request = x509.load_pem_x509_csr(built(lambda builder: builder.add_extension(names(HOST), critical=False)).encode())
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    body = base64.encodebytes(bytes(der)).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    assert refusal(text).why in {"its signature is not by its own key", "cannot be read"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "\0" * 100,
        "\udcff",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        node_csr(NODE)[0],
        REQUEST * 2,
        REQUEST + AUTHORITY.certificate_pem,
        AUTHORITY.certificate_pem,
        "A" * 1_000_000,
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    assert refusal(text).field == "csr"


@pytest.mark.parametrize("node", ["", "*", "Node", "a b", "a/b", "-a", "a..b", "a" * 64, "a." * 120 + "a", "ä", "a\n"])
def test_what_cannot_be_a_nodes_name_is_refused(node: str) -> None:
    assert refusal(REQUEST, node).field == "node"
    with pytest.raises(Refused, match=r"^node: "):
        node_csr(node)


@given(st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_request_is_refused_or_harmless(damage: list[tuple[int, int]]) -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(serialization.Encoding.DER))
    for at, byte in damage:
        der[at % len(der)] = byte
    body = base64.encodebytes(bytes(der)).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    try:
        issued = issue_node_leaf(AUTHORITY, text, NODE, NOW, DAY)
    except Refused as refused:
        assert refused.field == "csr"  # noqa: PT017  (either way is right, and both are checked)
    else:
        found = x509.load_pem_x509_certificate(issued.encode())
        assert found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names(HOST)
