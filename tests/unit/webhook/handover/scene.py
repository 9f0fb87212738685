"""The webhook's side on the loopback: an API server over real HTTP, the door for nodes over real TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from fastapi import Request

from apiclient.client import ApiClient
from apiclient.connection import Connection
from apiclient.reviews import EXTRA_NODE
from certs.authority import Authority
from certs.bundle import peer_hosts
from certs.leaf import issue_node_leaf, issue_server_leaf, node_csr
from certs.signing import SigningKey
from certs.tls import client_context, load_pair
from kernelsecret.names import HOST_WEBHOOK
from kernelsecret.node_api import PATH_IDENTITY, PATH_REGISTRATIONS
from kernelsecret.validation import read_interceptor
from tests.unit.apiclient.fake_server import FakeApiServer
from tests.unit.apiclient.fake_server import serving as serving_api
from tests.unit.contract.builders import example
from tests.unit.registrations import scene
from tests.unit.registrations.scene import DAY, NODE, UID, Clock
from tests.unit.webhook.server.serving import serving as serving_port
from webhook.handover.door import DoorParts, NodeDoor
from webhook.handover.issuer import Issuer
from webhook.handover.limits import Limiter
from webhook.handover.reviewing import AGENT_USER, TokenReviewer
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Node, Nodes
from webhook.policy.view import FixedView
from webhook.server.peer import peer_certificate
from webhook.server.tls import LiveTls, server_context

TOKEN = "canary-token-of-the-agent"
AUDIENCE = "kernelsecret.io/identity"
ASKED = {"podUid": UID, "namespace": "payments", "name": "api-0"}
NAMESPACE = {"kubernetes.io/metadata.name": "payments", "kernelsecret.io/inject": "enabled"}


def pod(**changed: Any) -> dict[str, Any]:
    """The example's pod as the API server has it after admission and binding; `spec__nodeName` changes a field."""
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "api-0",
            "namespace": "payments",
            "uid": UID,
            "labels": {"app": "api", "kernelsecret.io/injected": "true"},
            "annotations": {"kernelsecret.io/inject": "true", "kernelsecret.io/interceptor": "payments-db"},
        },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": "api",
            "containers": [{"name": "api"}],
            "volumes": [
                {
                    "name": "kernelsecret",
                    "csi": {
                        "driver": "csi.kernelsecret.io",
                        "readOnly": True,
                        "volumeAttributes": {"kernelsecret.io/interceptor": "payments-db"},
                    },
                }
            ],
        },
    }
    for path, value in changed.items():
        part, _, name = path.partition("__")
        made[part] = {**made[part], name: value} if name else value
    return made


class ApiServer(FakeApiServer):
    """The fake one, which reviews tokens too. `tokens` says of each token what a TokenReview's status says."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[str, dict[str, Any]] = {TOKEN: authenticated()}
        self.reviews: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/tokenreviews"):
            return await super().handle(request)
        if self.answer_delay is not None:
            await self.answer_delay.wait()
        review = await request.json()
        self.reviews.append(review)
        status = self.tokens.get(review["spec"]["token"], {"authenticated": False, "error": TOKEN})
        return web.json_response({**review, "status": status}, status=201)

    async def put_pod(self, **changed: Any) -> None:
        made = pod(**changed)
        await self.put("pods", made["metadata"]["name"], made["metadata"]["namespace"], **made)


def authenticated(node: str = NODE, user: str = AGENT_USER, audience: str = AUDIENCE) -> dict[str, Any]:
    """The status of a TokenReview."""
    return {
        "authenticated": True,
        "audiences": [audience],
        "user": {"username": user, "extra": {EXTRA_NODE: [node]}},
    }


def view(address: str = "127.0.0.1", **interceptor: Any) -> FixedView:
    made = example()
    made["metadata"] |= interceptor
    return FixedView(
        Nodes([Node(name=NODE, address=address)]),
        Interceptors([read_interceptor(made)]),
        {"payments": NAMESPACE},
    )


@dataclass
class Webhook:
    """The door for nodes and what stands behind it."""

    api: ApiServer
    client: ApiClient
    issuer: Issuer
    view: FixedView
    clock: Clock
    authority: Authority
    key: SigningKey
    tls: LiveTls
    port: int = 0
    refreshed: list[tuple[str, list[str]]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """Names of pods."""
    known: FixedView | None = None
    """Where set, what a refresh brings."""

    def show(self, authority: Authority, trusted: str = "") -> None:
        """Serve by a certificate of this authority, and believe clients of `trusted` (PEM)."""
        leaf = issue_server_leaf(authority, [HOST_WEBHOOK], datetime.now(UTC), DAY)
        context = server_context(asks_peer=True)
        context.load_verify_locations(cadata=trusted or authority.certificate_pem)
        load_pair(context, leaf.certificate_pem, leaf.key_pem)
        self.tls.use(context)

    async def refresh(self, namespace: str, interceptors: Sequence[str]) -> None:
        self.refreshed.append((namespace, list(interceptors)))
        if self.known is not None:
            assert isinstance(self.view.namespaces, dict)
            self.view.namespaces.update(self.known.namespaces)
            for one in self.known.interceptors:
                self.view.interceptors.put(one)


def hosts(request: Request) -> tuple[str, ...]:
    """As the service wires it."""
    certificate = peer_certificate(request.scope)
    return peer_hosts(certificate) if certificate else ()


@asynccontextmanager
async def standing(**given: Any) -> AsyncIterator[Webhook]:
    """A webhook without its port: API server, client and issuer."""
    api, clock, authority, key = ApiServer(), Clock(), scene.authority(), scene.key()
    async with serving_api(api) as url, ApiClient(Connection(url)) as client:
        seen = view(**given)
        made: Webhook

        async def refresh(namespace: str, interceptors: Sequence[str]) -> None:
            await made.refresh(namespace, interceptors)

        issuer = Issuer(client, seen, refresh, lambda: made.key, clock.now)
        made = Webhook(api, client, issuer, seen, clock, authority, key, LiveTls(asks_peer=True))
        yield made


@asynccontextmanager
async def webhook(identities: int = 100, registrations: int = 1000, callers: int = 1000) -> AsyncIterator[Webhook]:
    """A webhook that serves nodes."""
    async with standing() as made:
        made.show(made.authority)
        parts = DoorParts(
            issuer=made.issuer,
            reviewer=TokenReviewer(made.client),
            certify=lambda csr, node: issue_node_leaf(made.authority, csr, node, made.clock.now(), DAY),
            peer_hosts=hosts,
            callers=Limiter(callers, 1.0, made.clock.monotonic, what="address"),
            identities=Limiter(identities, 1.0, made.clock.monotonic),
            registrations=Limiter(registrations, 1.0, made.clock.monotonic),
            on_answer=made.answers.append,
            on_given=lambda pod: made.given.append(pod.display_name),
        )
        async with serving_port(NodeDoor(parts).app, made.tls) as port:
            made.port = port.address[1]
            yield made


async def post(
    to: Webhook,
    path: str,
    body: object,
    *,
    context: ssl.SSLContext | None = None,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """One request; without a context by a client that shows no certificate."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.request(
            method,
            f"https://127.0.0.1:{to.port}{path}",
            data=body if isinstance(body, bytes) else msgspec.json.encode(body),
            headers={"Content-Type": "application/json"} | (headers or {}),
            ssl=context or client_context(to.authority.certificate_pem),
            server_hostname=HOST_WEBHOOK,
        ) as response,
    ):
        return response.status, await response.read()


async def identify(to: Webhook, *, node: str = NODE, csr: str = "", token: str = TOKEN) -> tuple[int, bytes]:
    body = {"node": node, "csr": csr or node_csr(node)[1]}
    return await post(to, PATH_IDENTITY, body, headers={"Authorization": f"Bearer {token}"})


async def ask(to: Webhook, body: object = None, *, node: str = NODE) -> tuple[int, bytes]:
    return await post(to, PATH_REGISTRATIONS, body or ASKED, context=scene.node_context(to.authority, node))
