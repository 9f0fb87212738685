from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.authority import create_authority
from certs.bundle import peer_hosts
from certs.leaf import issue_node_leaf, issue_server_leaf, node_csr
from certs.tls import client_context, load_pair
from kernelsecret.errors import Refused
from kernelsecret.names import HOST_WEBHOOK
from tests.unit.certs.samples import DAY, NODE, YEAR, handshake

NOW = datetime.now(UTC)
AUTHORITY = create_authority(NOW, YEAR)
OTHER = create_authority(NOW, YEAR)
LEAF = issue_server_leaf(AUTHORITY, (HOST_WEBHOOK,), NOW, DAY)
NODE_KEY, REQUEST = node_csr(NODE)
NODE_LEAF = issue_node_leaf(AUTHORITY, REQUEST, NODE, NOW, DAY)


def server(trusted: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, LEAF.certificate_pem, LEAF.key_pem)
    if trusted:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted)
    return context


def exchanged(server: ssl.SSLContext, client: ssl.SSLContext, host: str = HOST_WEBHOOK) -> tuple[str, ...]:
    """The names that the server sees of its client, after a handshake and a first word of the server."""
    at_server, at_client = handshake(server, client, host)
    assert at_client.version() == "TLSv1.3"
    certificate = at_server.getpeercert(binary_form=True)
    return peer_hosts(certificate) if certificate else ()


def test_webhook_and_node_know_each_other() -> None:
    client = client_context(AUTHORITY.certificate_pem, NODE_LEAF, NODE_KEY)
    assert exchanged(server(AUTHORITY.certificate_pem), client) == ("node-1.nodes.kernelsecret.io",)


def test_while_authorities_change_either_one_is_believed() -> None:
    bundle = OTHER.certificate_pem + AUTHORITY.certificate_pem
    assert exchanged(server(bundle), client_context(bundle, NODE_LEAF, NODE_KEY)) == ("node-1.nodes.kernelsecret.io",)


def test_a_client_believes_no_other_authority_and_no_other_name() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"):
        exchanged(server(), client_context(OTHER.certificate_pem))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        exchanged(server(), client_context(AUTHORITY.certificate_pem), "node-1.nodes.kernelsecret.io")


def test_a_server_believes_no_other_authority() -> None:
    with pytest.raises(ssl.SSLError):
        exchanged(server(OTHER.certificate_pem), client_context(AUTHORITY.certificate_pem, NODE_LEAF, NODE_KEY))


def test_a_live_context_presents_the_new_certificate_from_then_on() -> None:
    context = server()
    before, seen_before = handshake(context, client_context(AUTHORITY.certificate_pem), HOST_WEBHOOK)
    renewed = issue_server_leaf(AUTHORITY, (HOST_WEBHOOK,), NOW, DAY)
    load_pair(context, renewed.certificate_pem, renewed.key_pem)
    _, seen_after = handshake(context, client_context(AUTHORITY.certificate_pem), HOST_WEBHOOK)
    assert seen_before.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(LEAF.certificate_pem)
    assert seen_after.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(renewed.certificate_pem)
    assert before.version() == "TLSv1.3"


def test_what_does_not_fit_is_refused_without_a_word_of_it() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(Refused, match=r"^leaf: certificate and key do not fit each other$") as refused:
        load_pair(context, LEAF.certificate_pem, NODE_KEY)
    assert refused.value.__suppress_context__
    with pytest.raises(Refused):
        load_pair(context, LEAF.key_pem, LEAF.certificate_pem[:100])
    with pytest.raises(Refused, match=r"^authorities: "):
        client_context("garbage")
    with pytest.raises(Refused, match=r"^authorities: "):
        client_context("")


def test_no_key_is_left_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    opened: list[str] = []
    really = os.memfd_create

    def watched(name: str, flags: int) -> int:
        descriptor = really(name, flags)
        opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert not os.get_inheritable(descriptor)
        return descriptor

    monkeypatch.setattr(os, "memfd_create", watched)
    before = set(os.listdir("/proc/self/fd"))
    server(AUTHORITY.certificate_pem)
    assert opened == ["/memfd:kernelsecret-tls (deleted)"]
    assert set(os.listdir("/proc/self/fd")) <= before
    assert list(tmp_path.iterdir()) == []
