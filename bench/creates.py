"""Pods created through the API server, and what of the time our webhook took by the API server's own histograms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.connection import from_kubeconfig
from bench.reviews import TEAMS, pod, team
from bench.stats import median
from bench.webhook_world import WebhookWorld
from kernelsecret.names import ANNOTATION_CHOSEN_MODE

PLAIN_EVERY: Final = 10
"""One pod that does not ask for so many that do, to compare."""
ADMISSION: Final = "apiserver_admission_webhook_admission_duration_seconds"
OURS: Final = "pods.kernelsecret.io"


@dataclass(frozen=True, slots=True)
class Creates:
    """Of `pods` creations, in ms: means of what the API server timed, medians of what the client did; `plain` is of
    pods that did not ask.
    """

    pods: int
    mutate_ms: float
    validate_ms: float
    asked_ms: float
    plain_ms: float


class _Times(msgspec.Struct):
    seconds: float = 0.0
    count: float = 0.0


def create_pods(world: WebhookWorld, count: int) -> Creates:
    """Create `count` pods that ask and some that do not, one after the other: what is timed is a creation, not a queue.
    Raises RuntimeError where one is not treated as it asks for.
    """
    return asyncio.run(_create_pods(world, count))


async def _create_pods(world: WebhookWorld, count: int) -> Creates:
    async with ApiClient(from_kubeconfig(world.cluster.server.admin), user_agent="bench") as client:
        before = await _admission(client)
        asked: list[float] = []
        plain: list[float] = []
        for number in range(count):
            asked.append(await _create(client, number, asks=True))
            if number % PLAIN_EVERY == 0:
                plain.append(await _create(client, number, asks=False))
        after = await _admission(client)
    mutate_ms, mutated = _mean_ms(before, after, "admit")
    validate_ms, validated = _mean_ms(before, after, "validating")
    if (mutated, validated) != (count, count):
        raise RuntimeError(
            f"{count} pods that ask were created by {mutated:.0f} mutations, {validated:.0f} validations"
        )
    return Creates(count, mutate_ms, validate_ms, median(asked) * 1000, median(plain) * 1000)


async def _create(client: ApiClient, number: int, *, asks: bool) -> float:
    """Seconds that the creation of a pod took."""
    thing = _small(number)
    if not asks:
        thing["metadata"]["annotations"] = {}
    body = msgspec.json.encode(thing)
    began = time.perf_counter()
    answer = await client.create(paths.pods(team(number)), body, timeout_s=30)
    took = time.perf_counter() - began
    if asks != (ANNOTATION_CHOSEN_MODE.encode() in answer):
        raise RuntimeError(f"pod {number} was {'not ' if asks else ''}injected")
    return took


def _small(number: int) -> dict[str, Any]:
    """A pod as a user would send it; the API server adds the rest."""
    thing = pod(number % TEAMS, environment=20, containers=3)
    thing["spec"] = {
        key: value for key, value in thing["spec"].items() if key in ("containers", "nodeSelector", "affinity")
    }
    for container in thing["spec"]["containers"]:
        del container["volumeMounts"]
    return thing


async def _admission(client: ApiClient) -> Mapping[str, _Times]:
    """The API server's sums for our webhook, by type."""
    text = (await client.get("/metrics", timeout_s=30)).decode()
    ours = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(ADMISSION))
    found: dict[str, _Times] = {}
    for family in text_string_to_metric_families(ours):
        for sample in family.samples:
            if sample.labels.get("name") != OURS or sample.labels.get("operation") != "CREATE":
                continue
            times = found.setdefault(sample.labels["type"], _Times())
            if sample.name.endswith("_sum"):
                times.seconds += sample.value
            elif sample.name.endswith("_count"):
                times.count += sample.value
    return found


def _mean_ms(before: Mapping[str, _Times], after: Mapping[str, _Times], kind: str) -> tuple[float, float]:
    """Mean of what came in between, and how many."""
    began, ended = before.get(kind, _Times()), after.get(kind, _Times())
    count = ended.count - began.count
    return (ended.seconds - began.seconds) / count * 1000 if count else 0.0, count
