"""Senders of pushes, and what an agent hears of them: over real TLS, with the rights of the agent's account."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from agent.notices import Notices
from apiclient.client import ApiClient
from apiclient.connection import from_kubeconfig
from kernelsecret.names import ACCOUNT_AGENT, HOST_WEBHOOK, NOTICES_OBJECT, PUSH_KEYS_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import FIELD_NOTICES, PATH_PUSH, signed_headers
from kernelsecret.trust import FIELD_AUTHORITIES
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.keys import published
from tests.apiserver.harness.nodes import eventually
from tests.apiserver.harness.webhook import Replica


class Sender:
    """Somebody with a key. `put` gives it to the webhook; several senders are given at once."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.key = os.urandom(32)
        self.key_file = cluster.folder / f"{name}.key"
        self.key_file.touch(0o600)
        self.key_file.write_bytes(self.key)
        self.ca_file: Path = cluster.folder / f"{name}-ca.pem"
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Trust what the webhook has published."""
        self.ca_file.write_text(await asyncio.to_thread(lambda: published(self.cluster)[FIELD_AUTHORITIES]))
        context = ssl.create_default_context(cafile=str(self.ca_file))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=256))

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()

    def signed(self, *paths: str, time_ns: int = 0, source: str = "vault") -> tuple[bytes, dict[str, str]]:
        """Body and headers of a push of now."""
        body = json.dumps({"secrets": [{"source": source, "path": path} for path in paths]}).encode()
        return body, signed_headers(self.key, self.name, time_ns or time.time_ns(), secrets.token_urlsafe(18), body)

    async def push(self, replica: Replica, *paths: str, **given: Any) -> int:
        """The status of a push of now."""
        return (await self.send(replica, *self.signed(*paths, **given)))[0]

    async def send(self, replica: Replica, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and document."""
        assert self._session is not None
        url = f"https://127.0.0.1:{replica.port}{PATH_PUSH}"
        async with self._session.post(url, data=body, headers=headers, server_hostname=HOST_WEBHOOK) as answer:
            return answer.status, await answer.json()


async def give_keys(senders: Sequence[Sender], replicas: Sequence[Replica], **more: bytes) -> None:
    """The Secret has these keys and no others; returns once every replica knows it."""
    keys = {sender.name: sender.key for sender in senders} | more
    data = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    metadata = {"name": PUSH_KEYS_OBJECT, "namespace": SYSTEM_NAMESPACE}
    kubectl = senders[0].cluster.kubectl
    await asyncio.to_thread(kubectl.apply, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def known() -> bool:
        name = "kernelsecret_webhook_push_keys"
        return all(
            sum(one.metric(name, state=state) for state in ("usable", "refused")) == len(keys) for one in replicas
        )

    end = time.monotonic() + 60
    while not await asyncio.to_thread(known):
        assert time.monotonic() < end, "the replicas know the keys"
        await asyncio.sleep(0.02)


class Heard:
    """What an agent's watch told: each nudge with the moment that it came."""

    def __init__(self) -> None:
        self.nudges: list[tuple[str, float]] = []

    def nudge(self, source: str, path: str) -> int:
        self.nudges.append((f"{source}:{path}", time.monotonic()))
        return 1

    def of(self, path: str) -> list[float]:
        """When a secret of Vault was nudged."""
        return [at for named, at in self.nudges if named == f"vault:{path}"]


@asynccontextmanager
async def hearing(cluster: Cluster, name: str) -> AsyncIterator[Heard]:
    """An agent that listens already."""
    kubeconfig = await asyncio.to_thread(
        cluster.kubeconfig_of, SYSTEM_NAMESPACE, ACCOUNT_AGENT, file=f"hearing-{name}.json"
    )
    heard = Heard()
    async with ApiClient(from_kubeconfig(kubeconfig)) as client:
        notices = Notices(client, heard.nudge)
        running = asyncio.create_task(notices.run())
        try:
            await eventually(lambda: notices._reflector.is_current and notices.synced, "the agent listens")
            yield heard
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def board(cluster: Cluster) -> dict[str, Any]:
    """The notices, as a cluster admin sees them."""
    found = cluster.kubectl.within(SYSTEM_NAMESPACE).get(f"configmap/{NOTICES_OBJECT}")
    told: dict[str, Any] = json.loads(found["data"][FIELD_NOTICES])
    return told
