"""Many Secrets at once: an API server that is away is asked seldom, and is not run over when it is back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from agent.credentials import Credentials, PodToken
from agent.model import PodRef, SecretRef
from agent.sources.kubernetes import shared, tracker
from agent.sources.kubernetes.source import KubernetesSource
from apiclient.connection import Connection
from tests.unit.sources.helpers import Recorder
from tests.unit.sources.kubernetes_source.fake_secrets import FakeSecrets, serving

MANY = 200


async def test_an_outage_of_many_secrets_is_few_questions_and_over_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "SPREAD_S", 0.2)
    monkeypatch.setattr(tracker, "LONGEST_WAIT_S", 0.2)
    fake = FakeSecrets()
    await fake.put(password=b"one")
    credentials, failures = Credentials(), list[str]()
    refs = [SecretRef("kubernetes", "payments/db", f"payments/api-{number}") for number in range(MANY)]
    for number in range(MANY):
        pod = PodRef("payments", "pod", "uid", f"api-{number}")
        credentials.put(pod, {"": PodToken("token-1", time.time() + 600)})
    async with AsyncExitStack() as running:
        first = AsyncExitStack()
        url = await first.enter_async_context(serving(fake))
        # Half of them are watched.
        source = KubernetesSource(
            Connection(url), credentials, lambda ref: 60.0, most_watches=MANY // 2, count=failures.append
        )
        running.push_async_callback(source.close)
        heard = [Recorder() for _ in refs]
        for ref, observer in zip(refs, heard, strict=True):
            running.callback(source.watch(ref, observer))
        for observer in heard:
            await observer.value("password", b"one")
        async with asyncio.timeout(5):
            while fake.watches < MANY // 2:  # noqa: ASYNC110 - the fake's state has no event of its own
                await asyncio.sleep(0.01)

        await first.aclose()
        source.nudge("db")
        for observer in heard:
            await observer.failure("Unreachable")
        assert set(failures) == {"unavailable"}
        await asyncio.sleep(0.5)
        assert len(failures) <= 3 * MANY  # by the watch that broke, by the nudge, and by itself
        failures.clear()
        await asyncio.sleep(1.0)
        assert len(failures) < 3 * shared.ASKED_AWAY_PER_S  # where each for itself would make 1,000

        await fake.put(password=b"two")
        began = time.monotonic()
        await running.enter_async_context(serving(fake, urlsplit(url).port or 0))
        for observer in heard:
            await observer.value("password", b"two")
        assert time.monotonic() - began < 5.0
        assert all([version.values["password"] for version in one.versions] == [b"one", b"two"] for one in heard)
