from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest

from certs.leaf import issue_server_leaf
from certs.signing import open_registration
from certs.tls import client_context
from kernelsecret.node_api import PATH_REGISTRATIONS, node_host
from kernelsecret.registration import LIFETIME_S, SignedRegistration
from tests.unit.registrations import scene as nodes
from tests.unit.registrations.scene import NODE, UID, said
from tests.unit.webhook.handover.scene import ASKED, ask, post, webhook

FIELD = "metadata.annotations[kernelsecret.io/interceptor]"


async def test_a_node_gets_the_registration_of_a_pod_of_its_own() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        status, body = await ask(door)
        assert status == 200
        signed = msgspec.json.decode(body, type=SignedRegistration)
        found = open_registration(signed, [door.key.public], door.clock.now())
        assert (found.pod_uid, found.namespace, found.name, found.node) == (UID, "payments", "api-0", NODE)
        assert (found.service_account, found.interceptor) == ("api", "payments-db")
        assert (found.expires_at - door.clock.now()).total_seconds() == LIFETIME_S
        assert len(bytes.fromhex(found.nonce)) == 16
        assert (door.answers, door.given) == (["registration-ok"], ["api-0"])


async def test_every_registration_has_a_nonce_of_its_own() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        nonces = set()
        for _ in range(3):
            signed = msgspec.json.decode((await ask(door))[1], type=SignedRegistration)
            nonces.add(open_registration(signed, [door.key.public], door.clock.now()).nonce)
        assert len(nonces) == 3


async def test_of_a_pod_elsewhere_a_node_learns_as_little_as_of_one_that_is_not_there() -> None:
    async with webhook() as door:
        missing = await ask(door)
        await door.api.put_pod()
        elsewhere = await ask(door, node="node-2")
        replaced = await ask(door, ASKED | {"podUid": "another"})
        await door.api.put_pod(spec__nodeName=None)
        unbound = await ask(door)
        assert missing == elsewhere == replaced == unbound
        assert missing[0] == 404


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"metadata__labels": {"app": "api"}}, FIELD),
        ({"metadata__annotations": {"kernelsecret.io/inject": "true"}}, FIELD),
        ({"spec__volumes": []}, FIELD),
        ({"metadata__deletionTimestamp": "2026-01-01T00:00:00Z"}, "metadata.deletionTimestamp"),
        (
            {
                "metadata__annotations": {
                    "kernelsecret.io/inject": "false",
                    "kernelsecret.io/interceptor": "payments-db",
                }
            },
            "metadata.annotations[kernelsecret.io/inject]",
        ),
    ],
)
async def test_a_pod_that_was_not_injected_or_is_ending_has_none(changed: dict[str, Any], field: str) -> None:
    async with webhook() as door:
        await door.api.put_pod(**changed)
        status, body = await ask(door)
        assert (status, said(body).field) == (412, field)
        assert door.given == []


async def test_a_pod_that_policy_does_not_give_it_any_more_has_none_and_that_was_looked_up_anew() -> None:
    async with webhook() as door:
        await door.api.put_pod(metadata__labels={"app": "other", "kernelsecret.io/injected": "true"})
        status, body = await ask(door)
        assert status == 403
        assert "podSelector" in said(body).field
        assert door.refreshed == [("payments", ["payments-db"])]


async def test_where_the_api_server_refuses_us_a_node_is_told_to_come_again() -> None:
    async with webhook() as door:
        door.api.token = "another than ours"
        status, body = await ask(door)
        assert (status, said(body).code) == (503, "UNAVAILABLE")
        assert "401" in said(body).why


async def test_a_client_without_a_certificate_may_not_ask() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        status, body = await post(door, PATH_REGISTRATIONS, ASKED)
        assert (status, said(body).field) == (403, "client certificate")


async def test_a_certificate_that_is_not_of_a_node_may_not_ask() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        status, body = await post(door, PATH_REGISTRATIONS, ASKED, context=nodes.webhook_context(door.authority))
        assert (status, said(body).field) == (403, "client certificate")


async def test_a_certificate_by_another_authority_gets_no_answer() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        stranger = nodes.authority()
        context = client_context(door.authority.certificate_pem, *nodes.node_pair(stranger))
        with pytest.raises(aiohttp.ClientError):
            await post(door, PATH_REGISTRATIONS, ASKED, context=context)
        assert door.answers == []


async def test_a_node_that_asks_for_too_many_is_slowed_down() -> None:
    async with webhook(registrations=3) as door:
        await door.api.put_pod()
        assert [(await ask(door))[0] for _ in range(4)] == [200, 200, 200, 429]


async def test_a_certificate_for_more_than_one_node_is_for_none() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        both = issue_server_leaf(door.authority, [node_host(NODE), node_host("node-2")], door.clock.now(), nodes.DAY)
        context = client_context(door.authority.certificate_pem, both.certificate_pem, both.key_pem)
        status, body = await post(door, PATH_REGISTRATIONS, ASKED, context=context)
        assert (status, said(body).field) == (403, "client certificate")


async def test_another_object_than_was_asked_for_is_not_taken_for_the_pod() -> None:
    async with webhook() as door:
        await door.api.put_pod()
        door.api.objects["pods", "payments", "api-0"]["metadata"]["namespace"] = "other"
        status, body = await ask(door)
        assert (status, said(body).why) == (503, "the API server sent another object")
