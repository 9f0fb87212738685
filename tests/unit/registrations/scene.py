"""One node's side of the registrations on the loopback: real certificates, real TLS, a clock that the test moves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from agent.registrations.book import RegistrationBook
from agent.registrations.contexts import NodeContexts
from agent.registrations.door import DoorEvents, RegistrationDoor
from agent.registrations.listener import TlsListener
from certs.authority import Authority, create_authority
from certs.leaf import issue_node_leaf, issue_server_leaf, node_csr
from certs.signing import SigningKey, new_signing_key, sign_registration
from certs.tls import client_context, load_pair
from kernelsecret.errors import Refused
from kernelsecret.names import HOST_WEBHOOK
from kernelsecret.node_api import PATH_REGISTRATIONS, Refusal, ServedSecret, node_host
from kernelsecret.registration import Registration, SignedRegistration

NODE = "node-1"
UID = "0b1f5a52-9d2c-4a53-8f4e-2f1f3c6c7d11"
DAY = timedelta(days=1)


@dataclass
class Clock:
    """Wall clock and monotonic clock in one; sleeping moves both."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)


def authority() -> Authority:
    return create_authority(datetime.now(UTC), 30 * DAY)


def key() -> SigningKey:
    return new_signing_key(datetime.now(UTC) + 30 * DAY)


def webhook_context(issuer: Authority, trusted: Authority | str = "", host: str = HOST_WEBHOOK) -> ssl.SSLContext:
    """The client context of a webhook whose certificate is by `issuer`, and that trusts `trusted` (also PEM)."""
    leaf = issue_server_leaf(issuer, [host], datetime.now(UTC), DAY)
    pem = trusted if isinstance(trusted, str) else trusted.certificate_pem
    return client_context(pem or issuer.certificate_pem, leaf.certificate_pem, leaf.key_pem)


def node_pair(issuer: Authority, node: str = NODE) -> tuple[str, str]:
    """Certificate and key of a node's agent."""
    key_pem, csr = node_csr(node)
    return issue_node_leaf(issuer, csr, node, datetime.now(UTC), DAY), key_pem


def node_context(issuer: Authority, node: str = NODE) -> ssl.SSLContext:
    """The client context of a node's agent."""
    return client_context(issuer.certificate_pem, *node_pair(issuer, node))


def node_contexts(issuer: Authority, node: str = NODE) -> NodeContexts:
    contexts = NodeContexts()
    contexts.trust(issuer.certificate_pem)
    contexts.identify(*node_pair(issuer, node))
    return contexts


def server_context(issuer: Authority, host: str) -> ssl.SSLContext:
    """A server that asks for no client certificate."""
    leaf = issue_server_leaf(issuer, [host], datetime.now(UTC), DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, leaf.certificate_pem, leaf.key_pem)
    return context


def registration(clock: Clock, **changed: Any) -> Registration:
    made: dict[str, Any] = {
        "pod_uid": UID,
        "namespace": "payments",
        "name": "api-0",
        "service_account": "api",
        "interceptor": "payments-db",
        "node": NODE,
        "expires_at": clock.now() + timedelta(minutes=10),
        "nonce": "0123456789abcdef0123456789abcdef",
    }
    return Registration(**(made | changed))


@dataclass
class AgentDoor:
    """An agent's door as the webhook meets it, and what it told the agent."""

    door: RegistrationDoor
    book: RegistrationBook
    contexts: NodeContexts
    clock: Clock
    issuer: Authority
    keys: list[SigningKey]
    registered: list[Registration] = field(default_factory=list)
    refused: list[tuple[str, Refused]] = field(default_factory=list)
    served: list[ServedSecret] = field(default_factory=list)

    @property
    def listener(self) -> TlsListener:
        assert self.door._listener is not None
        return self.door._listener

    def sign(self, **changed: Any) -> SignedRegistration:
        return sign_registration(self.keys[0], registration(self.clock, **changed))

    async def request(
        self,
        body: bytes | SignedRegistration = b"",
        *,
        method: str = "PUT",
        path: str = f"{PATH_REGISTRATIONS}/{UID}",
        context: ssl.SSLContext | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        host, port = self.door.address
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                method,
                f"https://{host}:{port}{path}",
                data=data,
                headers={"Content-Type": content_type},
                ssl=context or webhook_context(self.issuer),
                server_hostname=node_host(NODE),
            ) as response,
        ):
            return response.status, await response.read()


@asynccontextmanager
async def agent_door(on_registered: Callable[[Registration], None] | None = None) -> AsyncIterator[AgentDoor]:
    clock, issuer, keys = Clock(), authority(), [key()]
    contexts, book = node_contexts(issuer), RegistrationBook(clock.now)
    registered: list[Registration] = []
    refused: list[tuple[str, Refused]] = []
    served: list[ServedSecret] = []
    events = DoorEvents(
        on_registered or registered.append, lambda uid, why: refused.append((uid, why)), served=lambda: served
    )
    door = RegistrationDoor(
        NODE, "127.0.0.1", 0, contexts, lambda: [one.public for one in keys], book, clock.now, events
    )
    await door.start()
    try:
        yield AgentDoor(door, book, contexts, clock, issuer, keys, registered, refused, served)
    finally:
        await door.stop()


def said(body: bytes) -> Refusal:
    return msgspec.json.decode(body, type=Refusal)
