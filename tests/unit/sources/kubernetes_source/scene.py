"""A Kubernetes source over the fake API server, with one account's token at hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.credentials import Credentials, PodToken
from agent.model import PodRef, SecretRef
from agent.sources.kubernetes.source import KubernetesSource
from apiclient.connection import Connection
from tests.unit.sources.helpers import Recorder
from tests.unit.sources.kubernetes_source.fake_secrets import FakeSecrets, serving

POD = PodRef("payments", "api-0", "uid-1", "api")
REF = SecretRef("kubernetes", "payments/db", "payments/api")
BY_AGENT = SecretRef("kubernetes", "payments/db")


@dataclass
class Scene:
    """What takes part."""

    fake: FakeSecrets
    source: KubernetesSource
    credentials: Credentials
    url: str
    hints: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """The kind of each read that failed."""
    pace: float = 0.1
    """Seconds between reads without a watch."""

    def give_token(self, token: str, *, lasts_s: float = 600.0, pod: PodRef = POD) -> None:
        """As kubelet brings it."""
        self.credentials.put(pod, {"": PodToken(token, time.time() + lasts_s)})


@asynccontextmanager
async def reading(
    fake: FakeSecrets | None = None, *, token: str = "token-1", most_watches: int = 8
) -> AsyncIterator[Scene]:
    """A source of the Secret `payments/db` with one key, unless `fake` is given."""
    if fake is None:
        fake = FakeSecrets()
        await fake.put(password=b"one")
    credentials = Credentials()
    async with serving(fake) as url:
        source = KubernetesSource(
            Connection(url, token="the-agents-own"),
            credentials,
            lambda ref: scene.pace,
            most_watches=most_watches,
            hint=lambda ref, text: scene.hints.append(text),
            count=lambda kind: scene.failures.append(kind),
        )
        scene = Scene(fake, source, credentials, url)
        if token:
            scene.give_token(token)
        try:
            yield scene
        finally:
            await source.close()


@asynccontextmanager
async def watching(scene: Scene, ref: SecretRef = REF) -> AsyncIterator[Recorder]:
    """An observer that has heard the state at the start."""
    heard = Recorder()
    stop = scene.source.watch(ref, heard)
    try:
        await heard.until(lambda: bool(heard.log))
        yield heard
    finally:
        stop()
