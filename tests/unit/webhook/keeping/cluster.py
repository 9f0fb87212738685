"""Keepers over a fake API server, with a clock that is set by hand, and TLS peers of theirs on loopback."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from apiclient.client import ApiClient
from apiclient.connection import Connection
from certs.document import state_of
from certs.keys import KeyState
from certs.rotation import Policy
from kernelsecret.names import HOST_WEBHOOK, KEYS_OBJECT, SYSTEM_NAMESPACE, TRUST_OBJECT, WEBHOOK_CONFIGURATION
from kernelsecret.trust import RegistrationKey
from tests.unit.apiclient.fake_server import FakeApiServer, Object, serving
from tests.unit.apiclient.things import until
from tests.unit.webhook.cluster.scene import running
from webhook.keeping.keeper import Keeper
from webhook.keeping.leading import Leading

DAY = timedelta(days=1)
POLICY = Policy(hosts=(HOST_WEBHOOK, "127.0.0.1"))
SECRET = ("secrets", SYSTEM_NAMESPACE, KEYS_OBJECT)
TRUST = ("configmaps", SYSTEM_NAMESPACE, TRUST_OBJECT)
MUTATING = ("mutatingwebhookconfigurations", "", WEBHOOK_CONFIGURATION)
VALIDATING = ("validatingwebhookconfigurations", "", WEBHOOK_CONFIGURATION)


class Gated(FakeApiServer):
    """May refuse writes, and may hold back the first readings of the keys until so many have come together."""

    def __init__(self, *, read_together: int = 0) -> None:
        super().__init__()
        self.is_read_only = False
        self._awaited = read_together
        self._together = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.is_read_only and request.method != "GET":
            return web.json_response({"kind": "Status", "code": 403, "reason": "Forbidden"}, status=403)
        answer = await super().handle(request)
        if request.method == "GET" and request.path.endswith(KEYS_OBJECT) and self._awaited > 0:
            self._awaited -= 1
            if self._awaited == 0:
                self._together.set()
            await self._together.wait()
        return answer


class Cluster:
    """The API server's objects, and the keepers that look at them."""

    def __init__(self, fake: FakeApiServer, stack: AsyncExitStack, url: str, policy: Policy) -> None:
        self.fake = fake
        self.policy = policy
        self._stack = stack
        self._url = url
        self.now = datetime.now(UTC)

    async def configurations(self, *names: str) -> None:
        """Both configurations, with a webhook of each name."""
        webhooks = [
            {"name": name, "clientConfig": {"service": {"name": "kernelsecret-webhook"}}, "timeoutSeconds": 5}
            for name in names
        ]
        for resource, _, name in (MUTATING, VALIDATING):
            await self.fake.put(resource, name, webhooks=webhooks, apiVersion="admissionregistration.k8s.io/v1")

    async def keeper(self) -> Keeper:
        """A replica that runs, and does not lead."""
        client = await self._stack.enter_async_context(ApiClient(Connection(self._url)))
        keeper = Keeper(client, self.policy, clock=lambda: self.now)
        await self._stack.enter_async_context(running(keeper.run()))
        return keeper

    async def leader(self) -> Keeper:
        """A replica that leads."""
        keeper = await self.keeper()
        await self._stack.enter_async_context(running(keeper.lead()))
        return keeper

    async def term(self) -> Leading:
        """A term of leadership whose rounds the test does itself."""
        client = await self._stack.enter_async_context(ApiClient(Connection(self._url)))
        return Leading(client, SYSTEM_NAMESPACE, WEBHOOK_CONFIGURATION, self.policy, lambda: self.now, asyncio.Event())

    async def led(self) -> Keeper:
        """A leader that has made and published everything."""
        await self.configurations("pods.kernelsecret.io", "interceptors.kernelsecret.io")
        keeper = await self.leader()
        await until(lambda: self.is_at_rest(keeper))
        return keeper

    def is_at_rest(self, keeper: Keeper) -> bool:
        """Whether the keeper has what the Secret has, that has been seen published, and if it leads it awaits news."""
        if keeper._leading is not None and not keeper._leading.is_resting:
            return False
        if not keeper.is_ready or SECRET not in self.fake.objects or keeper.current() != self.kept():
            return False
        state = keeper.current()
        seen = [kept.published_at for kept in state.authorities] + [kept.published_at for kept in state.signing_keys]
        return None not in seen

    def kept(self) -> KeyState:
        """What the Secret has."""
        return state_in(self.fake.objects[SECRET])

    def bundles(self) -> set[str]:
        """What is published at the agents' place and at every webhook."""
        return {
            self.fake.objects[TRUST]["data"]["ca.crt"],
            *bundles_in(self.fake.objects[MUTATING]),
            *bundles_in(self.fake.objects[VALIDATING]),
        }

    def registration_keys(self) -> list[RegistrationKey]:
        """The keys of registrations that are published."""
        return keys_in(self.fake.objects[TRUST])

    def writes(self, *keys: tuple[str, str, str]) -> int:
        """How often these objects were written."""
        return sum(key in keys for _, _, key, _ in self.fake.history)


async def settled(term: Leading) -> None:
    """All rounds that change something, which are not without end."""
    for _ in range(6):
        if not await term.round():
            return
    raise AssertionError("it does not come to rest")


def state_in(secret: Object) -> KeyState:
    """The keys of a Secret."""
    return state_of({key: base64.b64decode(value) for key, value in secret["data"].items()})


def bundles_in(configuration: Object) -> list[str]:
    """The bundle of each of its webhooks."""
    return [
        base64.b64decode(webhook.get("clientConfig", {}).get("caBundle", "")).decode()
        for webhook in configuration["webhooks"]
    ]


def keys_in(trust: Object) -> list[RegistrationKey]:
    """The keys in the agents' ConfigMap."""
    return msgspec.json.decode(trust["data"]["registration-keys.json"], type=list[RegistrationKey])


@asynccontextmanager
async def cluster(fake: FakeApiServer | None = None, policy: Policy = POLICY) -> AsyncIterator[Cluster]:
    """An empty one."""
    fake = fake or FakeApiServer()
    async with serving(fake) as url, AsyncExitStack() as stack:
        yield Cluster(fake, stack, url, policy)


class Greeter:
    """A TLS server that tells each client who it was, and echoes lines; connections stay open."""

    def __init__(self, listener: ssl.SSLContext) -> None:
        self._listener = listener
        self.port = 0

    async def __aenter__(self) -> Greeter:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._listener)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown: Any = writer.get_extra_info("ssl_object").getpeercert()
        names = [value for _, value in (shown or {}).get("subjectAltName", ())]
        with suppress(OSError):
            writer.write(f"{','.join(names)}\n".encode())
            while line := await reader.readline():
                writer.write(line)
            writer.close()


class Caller:
    """One connection to a Greeter. `name` is who it said we are, `certificate` (DER) what it showed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.name = ""

    async def echo(self, text: str) -> str:
        """The text, if the connection lives."""
        self._writer.write(f"{text}\n".encode())
        return (await self._reader.readline()).decode().strip()

    @property
    def has_ticket(self) -> bool:
        """Whether the server gave what a later connection could resume by."""
        session = self._writer.get_extra_info("ssl_object").session
        return session is not None and bool(session.has_ticket)

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    @classmethod
    async def to(cls, port: int, context: ssl.SSLContext, host: str | None = HOST_WEBHOOK) -> Caller:
        """Raises ssl.SSLError or ConnectionError where either side does not believe the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        caller = cls(reader, writer)
        try:
            line = await reader.readline()
        except OSError:
            writer.close()
            raise
        if not line:
            writer.close()
            raise ConnectionResetError("closed")
        caller.name = line.decode().strip()
        return caller
