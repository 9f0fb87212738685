from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.observe.conditions import Conditions, Reason
from agent.observe.health import HealthServer
from agent.observe.metrics import Metrics
from kernelsecret.errors import Refused
from tests.unit.conftest import LogLines
from tests.unit.observe.samples import CANARY


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def broken() -> bool:
    raise RuntimeError(CANARY)


async def stuck() -> bool:
    await asyncio.Event().wait()
    return True


@asynccontextmanager
async def serving(ready: Callable[[], Awaitable[bool]]) -> AsyncIterator[tuple[aiohttp.ClientSession, Conditions]]:
    metrics = Metrics()
    conditions = Conditions(metrics)
    server = HealthServer("127.0.0.1", 0, metrics, conditions, ready, ready_within_s=0.05)
    await server.start()
    host, port = server.address
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            yield client, conditions
    finally:
        await server.stop()
        await server.stop()


async def test_a_living_agent_says_so() -> None:
    async with serving(no) as (client, _), client.get("/healthz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(("ready", "status"), [(yes, 200), (no, 503), (broken, 503), (stuck, 503)])
async def test_ready_is_what_the_publisher_says_and_a_failure_is_a_no(
    ready: Callable[[], Awaitable[bool]], status: int, log_lines: LogLines
) -> None:
    async with serving(ready) as (client, _), client.get("/readyz") as answer:
        assert answer.status == status
        text = await answer.text()
    assert CANARY not in text + log_lines.text


async def test_a_degraded_agent_is_ready_and_says_why_in_a_word_without_names(log_lines: LogLines) -> None:
    async with serving(yes) as (client, conditions):
        conditions.hold(Reason.SOURCE_DOWN, "file:payments/db", "the folder is gone")
        async with client.get("/readyz") as answer:
            assert await answer.json() == {"ready": True, "degraded": ["source-down"]}


async def test_metrics_are_served_in_prometheus_format() -> None:
    async with serving(yes) as (client, _), client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        names = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert {"kernelsecret_degraded", "kernelsecret_rotations", "process_resident_memory_bytes"} <= names


async def test_an_address_that_is_taken_is_refused_with_the_variable_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        metrics = Metrics()
        server = HealthServer("127.0.0.1", taken.getsockname()[1], metrics, Conditions(metrics), yes)
        with pytest.raises(Refused, match=r"KERNELSECRET_HTTP_ADDRESS.*EADDRINUSE"):
            await server.start()


async def test_an_address_that_is_not_ours_is_refused() -> None:
    metrics = Metrics()
    server = HealthServer("203.0.113.1", 0, metrics, Conditions(metrics), yes)
    with pytest.raises(Refused, match="EADDRNOTAVAIL"):
        await server.start()
