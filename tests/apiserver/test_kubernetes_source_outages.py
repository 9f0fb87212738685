"""The API server goes away and comes back: the last good value stays, it is told, and what changed comes by itself."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.apiserver.harness.cluster import Cluster, lacks
from tests.apiserver.harness.nodes import agent_pod
from tests.apiserver.harness.product import install
from tests.apiserver.harness.sources import Reader, heard, reader, watched
from tests.needs import need

NODE = "outage-1"
BACK_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this module's own, as it is broken."""
    lack = lacks()
    need(lack is None, lack or "")
    folder: Path = tmp_path_factory.mktemp("outage")
    with Cluster.started(folder, scheduler=False) as started:
        install(started)
        started.node(NODE)
        agent_pod(started, NODE)
        yield started


@pytest.fixture
async def made(own: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Reader]:
    async with reader(own, f"outage-{abs(hash(request.node.name)) % 10**8}", NODE) as found:
        await found.create(password=b"one")
        await found.grant("read-as-pod")
        yield found


async def test_an_api_server_that_crashes_is_told_and_within_five_seconds_of_its_return_all_is_current(
    made: Reader,
) -> None:
    async with heard(made) as observer:
        await observer.value("password", b"one")
        own = made.cluster
        await asyncio.to_thread(own.server.process.kill)
        await observer.problem("Unreachable")
        assert observer.versions[-1][0].values["password"] == b"one"
        own.server.start()
        await asyncio.to_thread(own.server.wait_ready)
        back = time.monotonic()
        await made.put(password=b"two")
        took = await observer.value("password", b"two") - back
        sys.stdout.write(f"\nmeasured: from /readyz to the new value: {took:.2f} s\n")
        assert took < BACK_WITHIN_S
        await watched(made, made.ref)
        assert made.source.facts(made.ref).problem == ""  # type: ignore[union-attr]


async def test_a_watch_that_the_server_ends_in_its_time_is_opened_anew_and_nothing_is_lost(
    made: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.kubernetes.reading.WATCH_S", 1.0)
    async with heard(made) as observer:
        end = time.monotonic() + 5.0
        number = 0
        while time.monotonic() < end:
            number += 1
            await made.put(password=b"number-%d" % number)
            await observer.value("password", b"number-%d" % number)
        assert observer.problems == []
        assert number > 20


async def test_a_writer_without_a_pause_ends_with_its_last_value_and_few_reads(made: Reader) -> None:
    async with heard(made) as observer:
        before = len(observer.versions)
        for number in range(300):
            await made.put(password=b"number-%d" % number)
        await observer.value("password", b"number-299")
        seen = [int(version.values["password"].removeprefix(b"number-")) for version, _ in observer.versions[before:]]
        assert seen == sorted(seen)
        assert observer.problems == []
