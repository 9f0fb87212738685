"""Replicas of the webhook's door for pushes over one API server, senders with keys, and time that a test moves."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.names import NOTICES_OBJECT, PUSH_KEYS_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import (
    FIELD_NOTICES,
    HEADER_NONCE,
    HEADER_SENDER,
    HEADER_SIGNATURE,
    HEADER_TIME,
    PATH_PUSH,
    PushedSecret,
    signature,
)
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.things import until
from tests.unit.webhook.cluster.scene import running
from tests.unit.webhook.server.asgi import Said, ask
from webhook.handover.limits import Limiter
from webhook.observe.records import Pushed
from webhook.push.committing import Committer
from webhook.push.door import PushDoor, PushParts
from webhook.push.keys import SenderKeys
from webhook.push.telling import Teller

KEY = b"canary-key-of-the-sender-ci-0123456789"
OTHER_KEY = b"canary-key-of-the-sender-vault-0123456"
NOW_NS = 1_800_000_000_000_000_000
DB = PushedSecret("vault", "secret/data/payments/db")
API = PushedSecret("vault", "secret/data/payments/api")
NAMED = frozenset({DB, API, PushedSecret("file", "payments/db")})
_numbers = itertools.count()


def body_of(*secrets: PushedSecret) -> bytes:
    return json.dumps({"secrets": [{"source": one.source, "path": one.path} for one in secrets or (DB,)]}).encode()


def signed(
    body: bytes,
    *,
    sender: str = "ci",
    key: bytes = KEY,
    time: int | str = NOW_NS,
    nonce: str = "",
    **changed: str,
) -> list[tuple[bytes, bytes]]:
    """Headers of a push. `changed` replaces what they say after they were signed."""
    nonce = nonce or f"nonce-of-a-test-{next(_numbers):08}"
    said = {"sender": sender, "time": str(time), "nonce": nonce}
    said["signature"] = signature(key, sender, str(time), nonce, body)
    said |= changed
    names = {"sender": HEADER_SENDER, "time": HEADER_TIME, "nonce": HEADER_NONCE, "signature": HEADER_SIGNATURE}
    return [(names[name].lower().encode(), value.encode()) for name, value in said.items() if value != "(none)"]


class Replica:
    """One replica's door."""

    def __init__(self, scene: Scene, client: ApiClient, every_s: float, sender: tuple[int, float]) -> None:
        self.scene = scene
        self.outcomes: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.records: list[Pushed] = []
        self.keys = SenderKeys(client, SYSTEM_NAMESPACE)
        self.committer = Committer(
            client, SYSTEM_NAMESPACE, on_write=self._wrote, now_ns=lambda: scene.now_ns, every_s=every_s
        )
        self.teller = Teller(self.records.append, self._count, wall_clock_ns=lambda: scene.now_ns)
        parts = PushParts(
            self.keys,
            self.committer,
            lambda: scene.named,
            self.teller,
            Limiter(*sender, lambda: scene.now_ns / 1e9, what="sender"),
            now_ns=lambda: scene.now_ns,
        )
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        PushDoor(parts).add_to(self.app)

    def _wrote(self, result: str) -> None:
        self.writes[result] += 1

    def _count(self, outcome: str, _seconds: float | None) -> None:
        self.outcomes[outcome] += 1

    async def push(self, *secrets: PushedSecret, **given: Any) -> Said:
        """A push that is signed as it should be, but for what is given."""
        body = body_of(*secrets)
        return await self.send(body, signed(body, **given))

    async def send(self, body: bytes, headers: Sequence[tuple[bytes, bytes]], **given: Any) -> Said:
        return await ask(self.app, PATH_PUSH, body, headers=headers, **given)


class Scene:
    """`named` is what interceptors name; time stands still."""

    def __init__(self, fake: FakeApiServer) -> None:
        self.fake = fake
        self.now_ns = NOW_NS
        self.named: frozenset[PushedSecret] | None = NAMED
        self.replicas: list[Replica] = []

    @property
    def one(self) -> Replica:
        return self.replicas[0]

    async def put_keys(self, keys: Mapping[str, bytes]) -> None:
        data = {name: base64.b64encode(key).decode() for name, key in keys.items()}
        await self.fake.put("secrets", PUSH_KEYS_OBJECT, SYSTEM_NAMESPACE, data=data)

    def stored(self) -> dict[str, Any]:
        """The board, as it is in the cluster."""
        found = self.fake.objects.get(("configmaps", SYSTEM_NAMESPACE, NOTICES_OBJECT), {"data": {}})
        board: dict[str, Any] = json.loads(found["data"].get(FIELD_NOTICES, '{"notices": [], "floors": {}}'))
        return board

    def told(self) -> list[str]:
        return [f"{one['source']}:{one['path']}" for one in self.stored()["notices"]]


@asynccontextmanager
async def pushing(
    replicas: int = 1, *, every_s: float = 0.0, sender: tuple[int, float] = (100_000, 1.0), keys: bool = True
) -> AsyncIterator[Scene]:
    """Replicas that know the keys of two senders, `ci` and `vault`."""
    scene = Scene(FakeApiServer())
    if keys:
        await scene.put_keys({"ci": KEY, "vault": OTHER_KEY})
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(scene.fake))
        for _ in range(replicas):
            client = await stack.enter_async_context(ApiClient(Connection(url)))
            replica = Replica(scene, client, every_s, sender)
            scene.replicas.append(replica)
            stack.callback(replica.teller.flush)
            await stack.enter_async_context(running(replica.keys.run()))
            await stack.enter_async_context(running(replica.committer.run()))
        await until(lambda: scene.fake.watches == replicas)
        yield scene


def refusal(said: Said) -> dict[str, str]:
    found: dict[str, str] = json.loads(said.body)
    assert set(found) == {"code", "field", "why", "fix"}
    return found


async def gathered(*pushes: Any) -> list[Said]:
    return list(await asyncio.gather(*pushes))
