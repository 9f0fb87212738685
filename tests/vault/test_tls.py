"""Whom the door believes to be Vault: one real Vault with a listener for each thing that can be wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.sources.vault import tls, wire
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.settings import (
    CA_FILE,
    CLIENT_CERT_FILE,
    CLIENT_KEY_FILE,
    CRL_FILE,
    SERVER_NAME,
    VaultSettings,
)
from agent.vault_ref import Identity
from tests.apiserver.harness.processes import free_port
from tests.needs import need
from tests.vault.doors import SUBJECT, Door, opened, refused, role, written
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.programs import lacks_vault
from tests.vault.harness.server import HOST, VaultServer
from tests.vault.papers import Papers


@dataclass
class Listeners:
    """One Vault, which shows another certificate at each port."""

    vault: VaultServer
    papers: Papers
    stranger: Papers
    folder: Path
    ports: dict[str, int]
    serials: dict[str, int]
    jwt: JwtAuth
    kv: str
    who: Identity

    def settings(self, name: str, *, host: str = HOST, **more: Any) -> VaultSettings:
        """To read from a listener, believing its authority."""
        given: dict[str, Any] = {"address": f"https://{host}:{self.ports[name]}", "ca_file": self.papers.file} | more
        return VaultSettings(**given)

    async def password(self, door: Door) -> str:
        """What a pod reads through the door."""
        door.bring(self.jwt.token(SUBJECT))
        return str((await door.client.read(self.who, f"{self.kv}/data/app")).data["data"]["password"])

    async def error(self, settings: VaultSettings) -> VaultError:
        """Why a pod cannot read."""
        async with opened(settings) as door:
            error = await refused(self.password(door))
            assert error.certain
            assert door.heard.downs == [error]
            assert not door.client.availability.is_up
            return error


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    need(not lacks_vault(), lacks_vault() or "")
    folder = tmp_path_factory.mktemp("listeners")
    papers, stranger = Papers(folder), Papers(folder, "stranger")
    ports, serials, more = {}, {}, []
    shown: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "good": ({}, {}),
        "expired": ({"begins": -3, "ends": -1}, {}),
        "early": ({"begins": 1, "ends": 3}, {}),
        "named": ({"hosts": ("vault.test",)}, {}),
        "old": ({}, {"tls_min_version": "tls12", "tls_max_version": "tls12"}),
        "mutual": ({}, {"tls_require_and_verify_client_cert": True, "tls_client_ca_file": str(papers.file)}),
    }
    for name, (certificate, settings) in shown.items():
        hosts = certificate.pop("hosts", (HOST, "localhost"))
        chain, key, serials[name] = papers.certificate(name, *hosts, **certificate)
        ports[name] = free_port()
        given = {"address": f"{HOST}:{ports[name]}", "tls_cert_file": str(chain), "tls_key_file": str(key)}
        more.append({"tcp": given | settings})
    (folder / "vault").mkdir()
    vault = VaultServer(folder / "vault")
    config = json.loads(vault._settings.read_text())
    config["listener"] += more
    vault._settings.write_text(json.dumps(config))
    vault.start()
    try:
        jwt, kv = JwtAuth(vault), vault.enable("kv", version="2")
        vault.write(f"{kv}/data/app", data={"password": "one"})
        who = role(vault, jwt, "web", f"{kv}/data/app: read")
        yield Listeners(vault, papers, stranger, folder, ports, serials, jwt, kv, who)
    finally:
        vault.close()


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at before each request, so that a test need not wait a second for it."""
    monkeypatch.setattr(tls, "LOOK_S", 0.0)


async def test_vault_is_read_where_the_pinned_authority_vouches_for_it(listeners: Listeners) -> None:
    async with opened(listeners.settings("good")) as door:
        assert await listeners.password(door) == "one"
    async with opened(listeners.settings("good", host="localhost")) as door:
        assert await listeners.password(door) == "one"


async def test_an_authority_that_is_not_pinned_is_not_believed_though_the_system_does(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(listeners.papers.file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(listeners.papers.file))
    monkeypatch.setenv("VAULT_CACERT", str(listeners.papers.file))
    async with opened(listeners.settings("good", ca_file=None)) as door:
        assert await listeners.password(door) == "one"  # without a pin it is the system's word
    error = await listeners.error(listeners.settings("good", ca_file=listeners.stranger.file))
    assert error.kind is Kind.TLS_UNTRUSTED
    assert error.field == CA_FILE
    assert "signed by no authority that is believed" in error.why


async def test_a_certificate_for_another_host_is_not_believed(listeners: Listeners) -> None:
    error = await listeners.error(listeners.settings("named"))
    assert error.kind is Kind.TLS_HOST
    assert error.field == SERVER_NAME
    assert "is not for '127.0.0.1'" in error.why
    async with opened(listeners.settings("named", server_name="vault.test")) as door:
        assert await listeners.password(door) == "one"
    error = await listeners.error(listeners.settings("good", server_name="other.test"))
    assert error.kind is Kind.TLS_HOST
    assert "is not for 'other.test'" in error.why


@pytest.mark.parametrize(("name", "words"), [("expired", "has expired"), ("early", "is not valid yet")])
async def test_a_certificate_out_of_its_time_is_not_believed(listeners: Listeners, name: str, words: str) -> None:
    error = await listeners.error(listeners.settings(name))
    assert error.kind is Kind.TLS_EXPIRED
    assert words in error.why


async def test_a_vault_that_speaks_no_tls_1_3_is_refused(listeners: Listeners) -> None:
    error = await listeners.error(listeners.settings("old"))
    assert error.kind is Kind.TLS_TOO_OLD
    assert "TLS 1.3" in error.why


async def test_a_port_without_tls_is_told_apart(listeners: Listeners) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    listeners.ports["plain"] = server.sockets[0].getsockname()[1]
    async with server:
        error = await listeners.error(listeners.settings("plain"))
    assert error.kind is Kind.TLS
    assert "does not speak TLS" in error.why


# Client certificates


async def test_vault_may_ask_for_the_agents_certificate(listeners: Listeners) -> None:
    chain, key, _ = listeners.papers.certificate("agent")
    settings = listeners.settings("mutual", client_cert_file=chain, client_key_file=key)
    async with opened(settings) as door:
        assert await listeners.password(door) == "one"


async def test_no_certificate_or_one_of_a_stranger_is_told_as_the_agents(listeners: Listeners) -> None:
    error = await listeners.error(listeners.settings("mutual"))
    assert error.kind is Kind.TLS_CLIENT
    assert error.field == CLIENT_CERT_FILE
    chain, key, _ = listeners.stranger.certificate("stranger-agent")
    error = await listeners.error(listeners.settings("mutual", client_cert_file=chain, client_key_file=key))
    assert error.kind is Kind.TLS_CLIENT


async def test_a_key_of_another_certificate_names_the_key(listeners: Listeners) -> None:
    chain, _, _ = listeners.papers.certificate("one-agent")
    _, key, _ = listeners.papers.certificate("other-agent")
    error = await listeners.error(listeners.settings("mutual", client_cert_file=chain, client_key_file=key))
    assert error.kind is Kind.TLS_CLIENT
    assert error.field == CLIENT_KEY_FILE


# Revocation


async def test_a_revocation_ends_connections_that_were_verified_before(
    listeners: Listeners, looks_at_once: None
) -> None:
    papers, serial = listeners.papers, listeners.serials["good"]
    crl = written(listeners.folder, "live.crl", papers.revocations())
    async with opened(listeners.settings("good", crl_file=crl)) as door:
        assert await listeners.password(door) == "one"
        written(listeners.folder, "live.crl", papers.revocations(serial))
        error = await refused(listeners.password(door))
        assert error.kind is Kind.TLS_REVOKED
        assert "has been revoked" in error.why
        written(listeners.folder, "live.crl", papers.revocations(serial + 1))
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert await listeners.password(door) == "one"


async def forever(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until that fails."""
    while True:
        await ask()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("expired", "the revocation list has expired"),
        ("early", "the revocation list is not valid yet"),
        ("strangers", "has nothing of the authority"),
        ("garbage", "has a broken certificate revocation list"),
        ("text", "has no certificate revocation list"),
        ("missing", "cannot be read (No such file or directory)"),
    ],
)
async def test_a_revocation_list_that_cannot_be_relied_on_fails_closed(
    listeners: Listeners, tmp_path: Path, content: str, words: str
) -> None:
    blobs = {
        "expired": listeners.papers.revocations(begins=-3, ends=-1),
        "early": listeners.papers.revocations(begins=1, ends=3),
        "strangers": listeners.stranger.revocations(),
        "garbage": b"-----BEGIN X509 CRL-----\nbm9uc2Vuc2U=\n-----END X509 CRL-----\n",
        "text": b"nothing of the kind\n",
    }
    crl = tmp_path / "list.crl"
    if content in blobs:
        crl.write_bytes(blobs[content])
    error = await listeners.error(listeners.settings("good", crl_file=crl))
    assert error.kind is Kind.TLS_CRL
    assert error.field == CRL_FILE
    assert words in error.why


async def test_a_revocation_list_that_expires_is_noticed_on_a_kept_connection(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wire, "AGE_S", 0.0)  # as if a minute had passed since each handshake
    crl = tmp_path / "list.crl"
    crl.write_bytes(listeners.papers.revocations(ends=2 / 86_400))
    async with opened(listeners.settings("good", crl_file=crl)) as door:
        error = await refused(asyncio.wait_for(forever(lambda: listeners.password(door)), 30))
        assert error.kind is Kind.TLS_CRL
        assert "has expired" in error.why


async def test_a_certificate_in_the_revocation_list_is_not_believed(listeners: Listeners, tmp_path: Path) -> None:
    crl = tmp_path / "list.crl"
    crl.write_bytes(listeners.papers.pem + listeners.papers.revocations())
    settings = listeners.settings("good", crl_file=crl, ca_file=listeners.stranger.file)
    assert (await listeners.error(settings)).kind is Kind.TLS_UNTRUSTED


# The pin


async def test_the_pin_is_read_again_when_it_changes(listeners: Listeners, looks_at_once: None) -> None:
    pin = written(listeners.folder, "pin.crt", listeners.papers.pem)
    async with opened(listeners.settings("good", ca_file=pin)) as door:
        assert await listeners.password(door) == "one"
        written(listeners.folder, "pin.crt", listeners.stranger.pem)
        assert (await refused(listeners.password(door))).kind is Kind.TLS_UNTRUSTED
        written(listeners.folder, "pin.crt", listeners.stranger.pem + listeners.papers.pem)
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert await listeners.password(door) == "one"


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_pin_that_is_none_believes_nobody(listeners: Listeners, tmp_path: Path, content: bytes | None) -> None:
    pin = tmp_path / "pin.crt"
    if content is not None:
        pin.write_bytes(content)
    error = await listeners.error(listeners.settings("good", ca_file=pin))
    assert error.kind is Kind.TLS
    assert error.field == CA_FILE
