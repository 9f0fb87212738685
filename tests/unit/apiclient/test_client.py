from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from apiclient import paths
from apiclient.client import ApiClient, ApiError, PatchKind
from apiclient.connection import Connection, without_identity
from kernelsecret.errors import Code, Refused
from tests.unit.apiclient.fake_server import SECRET, FakeApiServer, Fault, serving
from tests.unit.conftest import LogLines


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "127.0.0.1", clients: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


@asynccontextmanager
async def calling(fake: FakeApiServer, token: str = "") -> AsyncIterator[ApiClient]:
    async with serving(fake) as url, ApiClient(Connection(url, token=token)) as client:
        yield client


@asynccontextmanager
async def answering(status: int = 200, text: str = "", **headers: str) -> AsyncIterator[ApiClient]:
    """A client of a server that answers always the same."""

    class Always(FakeApiServer):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            return web.Response(text=text, status=status, headers=headers)

    async with calling(Always()) as client:
        yield client


async def test_objects_are_made_read_changed_and_deleted() -> None:
    fake = FakeApiServer()
    async with calling(fake) as client:
        body = json.dumps({"metadata": {"name": "a"}, "data": {"x": "1"}}).encode()
        made = json.loads(await client.create(paths.config_maps("ns"), body))
        path = paths.config_map("ns", "a")
        assert json.loads(await client.get(path)) == made
        made["data"] = {"x": "2"}
        await client.replace(path, json.dumps(made).encode())
        await client.patch(path, b'{"data":{"x":"3"}}')
        await client.patch(path, b'{"data":{"x":"4"}}', kind=PatchKind.APPLY, field_manager="me")
        assert json.loads(await client.get(path))["data"] == {"x": "4"}
        await client.delete(path)
        with pytest.raises(ApiError, match="404") as caught:
            await client.get(path)
    assert (caught.value.status, caught.value.reason, caught.value.code) == (404, "NotFound", Code.NOT_FOUND)
    kinds = [(request.method, request.headers.get("Content-Type")) for request in fake.requests]
    assert ("PATCH", "application/merge-patch+json") in kinds
    apply = next(request for request in fake.requests if request.headers.get("Content-Type") == PatchKind.APPLY.value)
    assert dict(apply.query) == {"fieldManager": "me", "force": "true"}


async def test_who_writes_on_an_old_version_and_who_makes_what_is_there_are_told_apart() -> None:
    fake = FakeApiServer()
    await fake.put("configmaps", "a", "ns")
    async with calling(fake) as client:
        body = b'{"metadata":{"name":"a","resourceVersion":"1"}}'
        with pytest.raises(ApiError) as caught:
            await client.replace(paths.config_map("ns", "a"), body)
        assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "Conflict")
        with pytest.raises(ApiError) as caught:
            await client.create(paths.config_maps("ns"), body)
        assert (caught.value.code, caught.value.reason) == (Code.ALREADY_EXISTS, "AlreadyExists")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.PERMISSION_DENIED),
        (403, Code.PERMISSION_DENIED),
        (410, Code.ABORTED),
        (413, Code.RESOURCE_EXHAUSTED),
        (405, Code.FAILED_PRECONDITION),
        (301, Code.FAILED_PRECONDITION),
        (429, Code.UNAVAILABLE),
        (500, Code.UNAVAILABLE),
        (503, Code.UNAVAILABLE),
    ],
)
async def test_a_status_becomes_a_code_and_nothing_of_the_body_is_carried(status: int, code: Code) -> None:
    body = {"kind": "Status", "reason": "Some Reason", "message": SECRET, "details": {"x": SECRET}}
    async with answering(status, json.dumps(body), Location="http://127.0.0.1:1/elsewhere") as client:
        with pytest.raises(ApiError) as caught:
            await client.get(paths.node("n"))
    assert (caught.value.status, caught.value.code, caught.value.reason) == (status, code, "")
    assert SECRET not in str(caught.value) + repr(caught.value)
    assert caught.value.field == "GET /api/v1/nodes/n"


async def test_how_long_the_server_asks_to_wait_is_kept_within_bounds() -> None:
    for asked, wait in [("7", 7.0), ("999999999999", 60.0), ("-1", None), ("soon", None), ("", None)]:
        async with answering(429, **{"Retry-After": asked}) as client:
            with pytest.raises(ApiError) as caught:
                await client.get(paths.nodes())
        assert caught.value.retry_after_s == wait


async def test_a_body_that_quotes_a_secret_goes_nowhere(log_lines: LogLines) -> None:
    fake = FakeApiServer()
    fake.on_list.append(Fault.BODY_WITH_SECRET)
    async with calling(fake, token="token-9c") as client:
        with pytest.raises(ApiError) as caught:
            await client.get(paths.nodes())
        assert "RBAC" in str(caught.value)
        assert not any(secret in str(caught.value) + repr(client) for secret in (SECRET, "token-9c"))
    assert not any(secret in log_lines.text for secret in (SECRET, "token-9c"))


async def test_an_answer_larger_than_asked_for_is_refused_before_it_is_read() -> None:
    async with answering(text="x" * 100_000) as client:
        assert len(await client.get(paths.nodes())) == 100_000
        with pytest.raises(ApiError) as caught:
            await client.get(paths.nodes(), max_bytes=99_999)
    assert caught.value.reason == "AnswerTooLarge"


async def test_a_slow_answer_a_cut_one_and_none_are_unavailable() -> None:
    fake = FakeApiServer(answer_delay=asyncio.Event())
    async with calling(fake) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(paths.nodes(), timeout_s=0.02)
        assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "Timeout")
        assert fake.answer_delay is not None
        fake.answer_delay.set()
        fake.on_list.extend([Fault.CUT] * 3)  # a kept connection that ended is tried anew once
        with pytest.raises(ApiError) as caught:
            await client.get(paths.nodes())
        assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "Unreachable")
    async with serving(fake) as url:
        pass
    async with ApiClient(Connection(url)) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(paths.nodes())
        assert caught.value.reason == "Unreachable"


async def test_a_closed_client_sends_nothing_more() -> None:
    fake = FakeApiServer()
    async with calling(fake) as client:
        await client.close()
        with pytest.raises(ApiError):
            await client.get(paths.nodes())
    assert not fake.requests


async def test_one_connection_serves_many_requests() -> None:
    fake = FakeApiServer()
    async with calling(fake) as client:
        for _ in range(5):
            await client.get(paths.nodes())
            with pytest.raises(ApiError):
                await client.get(paths.node("none"))
    peers = {request.transport.get_extra_info("peername") for request in fake.requests if request.transport}
    assert len(fake.requests) == 10
    assert len(peers) <= 1


async def test_a_token_that_is_replaced_is_used_from_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    fake = FakeApiServer(token="one")
    async with serving(fake) as url, ApiClient(Connection(url, token_file=file)) as client:
        await client.get(paths.nodes())
        fresh = tmp_path / "fresh"
        fresh.write_text("two-two")
        fresh.replace(file)
        fake.token = "two-two"
        await client.get(paths.nodes())
        assert len(fake.requests) == 2


async def test_after_a_401_the_token_is_read_again_even_if_the_file_looks_the_same(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    stamp = file.stat()
    fake = FakeApiServer(token="one")
    async with serving(fake) as url, ApiClient(Connection(url, token_file=file)) as client:
        await client.get(paths.nodes())
        file.write_text("two")
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        fake.token = "two"
        await client.get(paths.nodes())
        assert len(fake.requests) == 3
        fake.token = "three"
        with pytest.raises(ApiError, match="401"):
            await client.get(paths.nodes())
        assert len(fake.requests) == 4  # the same token is not tried twice


async def test_a_token_file_that_is_away_for_a_moment_leaves_the_last_token_in_use(
    tmp_path: Path, log_lines: LogLines
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    fake = FakeApiServer(token="one")
    async with serving(fake) as url, ApiClient(Connection(url, token_file=file)) as client:
        await client.get(paths.nodes())
        file.unlink()
        await client.get(paths.nodes())
        file.write_text("two words")
        await client.get(paths.nodes())
        file.write_text("two")
        fake.token = "two"
        await client.get(paths.nodes())
    assert len([line for line in log_lines.lines if line["event"] == "credential cannot be read again"]) == 1
    assert "two" not in log_lines.text


@pytest.mark.parametrize("content", ["", "two words", "line\nend", "ü", "x" * 70_000])
async def test_what_is_no_token_is_refused_by_the_name_of_its_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    async with ApiClient(Connection("http://127.0.0.1:1", token_file=file)) as client:
        with pytest.raises(Refused, match=str(file)) as caught:
            await client.get(paths.nodes())
    assert not content or content not in str(caught.value)


async def test_a_server_is_believed_by_its_ca_and_name_alone(authority: trustme.CA, tmp_path: Path) -> None:
    fake = FakeApiServer()
    file = tmp_path / "ca.crt"
    file.write_text(pem(authority))
    async with serving(fake, server_tls(authority)) as url:
        for good in (Connection(url, ca_file=file), Connection(url, ca_pem=pem(authority))):
            async with ApiClient(good) as client:
                await client.get(paths.nodes())
        for bad in (
            Connection(url),
            Connection(url, ca_pem=pem(trustme.CA())),
            Connection(url, ca_file=file, server_name="other"),
        ):
            async with ApiClient(bad) as client:
                with pytest.raises(ApiError) as caught:
                    await client.get(paths.nodes())
                assert caught.value.reason == "CertificateNotTrusted"
    assert len(fake.requests) == 2
    async with (
        serving(fake, server_tls(authority, "kubernetes.default")) as url,
        ApiClient(Connection(url, ca_file=file, server_name="kubernetes.default")) as client,
    ):
        await client.get(paths.nodes())


async def test_a_ca_that_is_replaced_is_believed_without_a_restart(authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(pem(trustme.CA()))
    async with (
        serving(FakeApiServer(), server_tls(authority)) as url,
        ApiClient(Connection(url, ca_file=file)) as client,
    ):
        with pytest.raises(ApiError):
            await client.get(paths.nodes())
        file.write_text(pem(authority) + pem(trustme.CA()))
        await client.get(paths.nodes())
        file.write_text("half a certif")
        await client.get(paths.nodes())


@pytest.mark.parametrize("inline", [True, False])
async def test_a_client_certificate_proves_who_we_are(authority: trustme.CA, tmp_path: Path, inline: bool) -> None:
    ours = authority.issue_cert("me@example.org")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(b"".join(part.bytes() for part in ours.cert_chain_pems))
    key.write_bytes(ours.private_key_pem.bytes())
    async with serving(FakeApiServer(), server_tls(authority, clients=authority)) as url:
        if inline:
            proven = Connection(
                url,
                ca_pem=pem(authority),
                client_certificate_pem=certificate.read_text(),
                client_key_pem=key.read_text(),
            )
            certificate.unlink()
            key.unlink()
        else:
            proven = Connection(url, ca_pem=pem(authority), client_certificate=certificate, client_key=key)
        async with ApiClient(proven) as client:
            await client.get(paths.nodes())
        async with ApiClient(Connection(url, ca_pem=pem(authority))) as client:
            with pytest.raises(ApiError):
                await client.get(paths.nodes())


def test_pem_that_cannot_be_loaded_is_refused_without_its_text(authority: trustme.CA) -> None:
    other = trustme.CA().issue_cert("x").private_key_pem.bytes().decode()
    certificate = authority.issue_cert("x").cert_chain_pems[0].bytes().decode()
    for pair in ((certificate, other), ("nonsense", "nonsense")):
        connection = Connection("https://127.0.0.1", client_certificate_pem=pair[0], client_key_pem=pair[1])
        with pytest.raises(Refused) as caught:
            ApiClient(connection)
        assert not any(text in str(caught.value) for text in pair)


async def test_a_path_is_sent_as_it_is_and_never_normalised_into_another() -> None:
    fake = FakeApiServer()
    async with calling(fake) as client:
        with pytest.raises(ApiError):
            await client.get("/api/v1/nodes/%2e%2e")
    assert fake.requests[0].raw_path == "/api/v1/nodes/%2e%2e"


async def test_the_token_of_somebody_else_is_asked_for_each_time_and_once_more_after_a_401() -> None:
    given = iter(["one", "two", "two", "three"])
    fake = FakeApiServer(token="one")
    async with serving(fake) as url, ApiClient(Connection(url, token="mine"), token=lambda: next(given)) as client:
        await client.get(paths.nodes())
        fake.token = "three"
        with pytest.raises(ApiError, match="401"):
            await client.get(paths.nodes())
        await client.get(paths.nodes())
    shown = [request.headers["Authorization"] for request in fake.requests]
    assert shown == ["Bearer one", "Bearer two", "Bearer three"]


async def test_who_has_no_token_to_give_says_so_himself_and_nothing_is_sent() -> None:
    def none() -> str:
        raise Refused(Code.UNAVAILABLE, "tokens", "there is none yet")

    fake = FakeApiServer()
    async with serving(fake) as url, ApiClient(Connection(url, token="mine"), token=none) as client:
        with pytest.raises(Refused, match="none yet"):
            await client.get(paths.nodes())
    async with serving(fake) as url, ApiClient(Connection(url), token=lambda: "two\nlines") as client:
        with pytest.raises(Refused, match="not a token") as caught:
            await client.get(paths.nodes())
    assert "lines" not in str(caught.value)
    assert not fake.requests


def test_a_connection_for_tokens_of_others_proves_nothing_of_our_own(tmp_path: Path) -> None:
    file = tmp_path / "file"
    ours = Connection(
        "https://10.0.0.1:6443/prefix",
        ca_pem="ca",
        token_file=file,
        token="mine",
        client_certificate=file,
        client_key=file,
        server_name="kubernetes.default",
    )
    assert without_identity(ours) == Connection(
        "https://10.0.0.1:6443/prefix", ca_pem="ca", server_name="kubernetes.default"
    )
    inline = Connection("https://10.0.0.1", client_certificate_pem="certificate", client_key_pem="key")
    assert without_identity(inline) == Connection("https://10.0.0.1")


async def test_a_stream_asks_for_the_form_that_it_wants_and_others_for_json() -> None:
    fake = FakeApiServer()
    fake.on_watch.append(Fault.END)
    async with calling(fake) as client:
        await client.get(paths.nodes())
        query = {"watch": "true", "resourceVersion": "1"}
        async with client.stream(paths.nodes(), query, accept="application/json;as=Table") as chunks:
            assert [chunk async for chunk in chunks] == []
    assert [request.headers["Accept"] for request in fake.requests] == ["application/json", "application/json;as=Table"]


async def test_streams_hold_connections_and_the_bound_on_them_is_the_clients() -> None:
    fake = FakeApiServer()
    query = {"watch": "true", "resourceVersion": "0"}
    async with serving(fake) as url, ApiClient(Connection(url), connections=2) as client:
        async with client.stream(paths.nodes(), query), client.stream(paths.pods(), query):
            with pytest.raises(ApiError) as caught:
                await client.get(paths.nodes(), timeout_s=0.05)
            assert caught.value.reason == "Timeout"
        await client.get(paths.nodes())
