from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.tls import client_context
from kernelsecret.node_api import MAX_BODY, PATH_IDENTITY, PATH_REGISTRATIONS
from tests.unit.registrations import scene as nodes
from tests.unit.registrations.scene import UID, said
from tests.unit.webhook.handover.scene import TOKEN, ask, post, webhook


@pytest.mark.parametrize("path", [PATH_IDENTITY, PATH_REGISTRATIONS])
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"\xff", {}, 400),
        (b"[" * 10_000, {}, 400),
        (b'{"node": "a", "csr": "b", "podUid": "c"}', {}, 400),
        (b" " * (MAX_BODY + 1), {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_what_is_not_a_request_is_a_clear_4xx(
    path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with webhook() as door:
        context = nodes.node_context(door.authority)
        given = {"Authorization": f"Bearer {TOKEN}"} | headers
        found, answer = await post(door, path, body, context=context, headers=given)
        assert (found, said(answer).code) == (status, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH_IDENTITY, 405),
        ("POST", "/", 404),
        ("POST", "/mutate", 404),
        ("GET", "/docs", 404),
        ("POST", "/v1/identity/", 404),
    ],
)
async def test_nothing_else_is_answered_here(method: str, path: str, status: int) -> None:
    async with webhook() as door:
        found, answer = await post(door, path, b"", method=method)
        assert (found, said(answer).field) == (status, "request")


async def test_an_object_that_is_no_pod_is_a_503_that_says_so() -> None:
    async with webhook() as door:
        await door.api.put_pod(metadata={"uid": 7, "name": "api-0", "namespace": "payments"})
        status, answer = await ask(door)
        assert (status, said(answer).code) == (503, "UNAVAILABLE")


BODIES = st.one_of(
    st.binary(max_size=200),
    st.fixed_dictionaries(
        {"podUid": st.text(max_size=20), "namespace": st.text(max_size=20), "name": st.text(max_size=20)}
    ).map(msgspec.json.encode),
    st.fixed_dictionaries({"node": st.text(max_size=20), "csr": st.text(max_size=200)}).map(msgspec.json.encode),
    st.fixed_dictionaries(
        {
            "podUid": st.just(UID),
            "namespace": st.sampled_from(["payments", "..", "a/b", "%2e%2e"]),
            "name": st.sampled_from(["api-0", "", "api-0/../../secrets/x", "api-0?watch=1"]),
        }
    ).map(msgspec.json.encode),
)


def test_nothing_that_is_sent_makes_a_500() -> None:
    with asyncio.Runner() as runner:
        context = webhook()
        door = runner.run(context.__aenter__())
        runner.run(door.api.put_pod())
        node = nodes.node_context(door.authority)
        nobody = client_context(door.authority.certificate_pem)
        proof = {"Authorization": f"Bearer {TOKEN}"}

        @settings(max_examples=150)
        @given(
            path=st.sampled_from([PATH_IDENTITY, PATH_REGISTRATIONS, "/x"]),
            method=st.sampled_from(["POST", "POST", "PUT"]),
            body=BODIES,
            shows=st.booleans(),
        )
        def send(path: str, method: str, body: bytes, shows: bool) -> None:
            context = node if shows else nobody
            status, answer = runner.run(post(door, path, body, method=method, context=context, headers=proof))
            assert status == 200 or (400 <= status < 500 and said(answer).why)

        send()
        # Whatever names came, only the one pod was looked at, or another of its kind.
        paths = {request.path for request in door.api.requests}
        assert all(path.startswith("/api/v1/namespaces/") and "/pods/" in path for path in paths)
        runner.run(context.__aexit__(None, None, None))
