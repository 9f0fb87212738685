"""A view over the fake API server: real HTTP, real watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any

from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.interceptor import SecretInterceptor
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.things import until
from tests.unit.contract.builders import example
from webhook.cluster.view import ClusterView

RESOURCE = "secretinterceptors"


async def put_interceptor(fake: FakeApiServer, name: str = "payments-db", **spec: Any) -> None:
    made = example()
    made["spec"].update(spec)
    meta = {"generation": 1, "uid": "u-1", **made["metadata"]}
    kept = fake.objects.get((RESOURCE, "", name), {})
    await fake.put(RESOURCE, name, **{**kept, **made, "metadata": {**meta, **kept.get("metadata", {})}})


async def put_node(fake: FakeApiServer, name: str = "node-1", **labels: str) -> None:
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.1"}]
    taints = [{"key": "gpu", "value": "", "effect": "NoSchedule", "timeAdded": None}]
    spec = {"podCIDR": "10.1.0.0/24", "taints": taints}
    await fake.put("nodes", name, metadata={"labels": labels}, spec=spec, status={"addresses": addresses})


async def put_namespace(fake: FakeApiServer, name: str = "payments", **labels: str) -> None:
    await fake.put("namespaces", name, metadata={"labels": labels})


@asynccontextmanager
async def running(job: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(job)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def watched(fake: FakeApiServer, *, watching: bool = True) -> AsyncIterator[tuple[ClusterView, ApiClient]]:
    """A view that has listed everything; with `watching` false it hears of nothing afterwards."""
    async with serving(fake) as url, ApiClient(Connection(url)) as client:
        view = ClusterView(client)
        async with running(view.run()):
            await until(lambda: not view.unsynced and fake.watches == 3)
            if watching:
                yield view, client
                return
        await until(lambda: fake.watches == 0)
        yield view, client


def known(view: ClusterView, name: str = "payments-db") -> SecretInterceptor | None:
    return view.interceptors.get(name)
