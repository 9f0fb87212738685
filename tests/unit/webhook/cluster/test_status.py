from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.unit.apiclient.fake_server import FakeApiServer
from tests.unit.apiclient.things import until
from tests.unit.webhook.builders import OPTED_IN
from tests.unit.webhook.cluster.scene import RESOURCE, put_interceptor, put_namespace, put_node, running, watched
from tests.unit.webhook.cluster.test_usage import injected_pod
from webhook.cluster.status import LINGER_S, StatusController
from webhook.cluster.view import ClusterView

FINALIZER = "kernelsecret.io/in-use"


class Scene:
    """A leader over the fake API server; time stands still unless a test moves it."""

    def __init__(self, fake: FakeApiServer) -> None:
        self.fake = fake
        self.now = 100.0
        self.results: Counter[str] = Counter()
        self.view: ClusterView

    def stored(self, name: str = "payments-db") -> Any:
        return self.fake.objects.get((RESOURCE, "", name), {"metadata": {}})

    def finalizers(self) -> list[str]:
        found: list[str] = self.stored()["metadata"].get("finalizers", [])
        return found

    def condition(self, kind: str) -> tuple[str, str] | None:
        found = self.stored().get("status", {}).get("conditions", [])
        return next(((one["status"], one["reason"]) for one in found if one["type"] == kind), None)

    def count(self, result: str) -> None:
        self.results[result] += 1

    async def put_pod(self, name: str = "api-0", **changed: Any) -> None:
        made = injected_pod(**changed)
        await self.fake.put("pods", name, "payments", **{**made, "metadata": {**made["metadata"], "name": name}})


@asynccontextmanager
async def leading(fake: FakeApiServer | None = None) -> AsyncIterator[Scene]:
    fake = fake or FakeApiServer()
    await put_node(fake, **{"kernelsecret.io/engine": "iter"})
    await put_namespace(fake, **OPTED_IN)
    await put_interceptor(fake)
    scene = Scene(fake)
    async with watched(fake) as (view, client):
        scene.view = view
        controller = StatusController(client, view, on_write=scene.count, quiet_s=0.001, clock=lambda: scene.now)
        async with running(controller.lead()):
            yield scene


async def test_a_new_interceptor_gets_its_conditions() -> None:
    async with leading() as scene:
        await until(lambda: scene.condition("Accepted") == ("True", "Valid"))
        assert scene.condition("Ready") == ("True", "NodesCanServe")
        assert scene.condition("InUse") == ("False", "NoPods")
        assert scene.finalizers() == []


async def test_nothing_is_written_where_nothing_differs() -> None:
    async with leading() as scene:
        await until(lambda: scene.condition("Accepted") is not None)
        version = scene.fake.version
        await put_namespace(scene.fake, "other")
        rounds = scene.fake.version
        await until(lambda: scene.view.namespace_labels("other") is not None)
        await put_interceptor(scene.fake, "second")
        await until(lambda: "status" in scene.stored("second"))
        assert scene.stored()["metadata"]["resourceVersion"] <= str(version)
        assert rounds == version + 1


async def test_pods_are_counted_and_hold_the_interceptor_back_from_going() -> None:
    async with leading() as scene:
        for number in range(300):
            await scene.put_pod(f"api-{number}")
        await until(lambda: scene.stored().get("status", {}).get("pods") == 300)
        assert scene.stored()["status"]["volumes"] == 300
        assert scene.condition("InUse") == ("True", "PodsHoldIt")
        assert scene.finalizers() == [FINALIZER]


async def test_the_finalizers_of_others_are_left_alone() -> None:
    fake = FakeApiServer()
    await put_interceptor(fake)
    fake.objects[RESOURCE, "", "payments-db"]["metadata"]["finalizers"] = ["example.com/other"]
    async with leading(fake) as scene:
        await scene.put_pod()
        await until(lambda: scene.finalizers() == ["example.com/other", FINALIZER])
        await scene.fake.remove("pods", "api-0", "payments")
        await until(lambda: scene.condition("InUse") == ("False", "NoPods"))
        scene.now += LINGER_S
        await until(lambda: scene.finalizers() == ["example.com/other"])


async def test_an_interceptor_keeps_its_finalizer_for_a_while_after_its_last_pod() -> None:
    async with leading() as scene:
        await scene.put_pod()
        await until(lambda: scene.finalizers() == [FINALIZER])
        await scene.put_pod(status__phase="Succeeded")
        await until(lambda: scene.condition("InUse") == ("False", "NoPods"))
        assert scene.finalizers() == [FINALIZER]
        scene.now += LINGER_S
        await until(lambda: scene.finalizers() == [])


async def test_a_deleted_interceptor_is_seen_until_its_last_pod_ends_and_then_goes_at_once() -> None:
    async with leading() as scene:
        await scene.put_pod()
        await until(lambda: scene.finalizers() == [FINALIZER])
        stored = scene.stored()
        meta = {**stored["metadata"], "deletionTimestamp": "2026-11-21T10:00:00Z"}
        await scene.fake.put(RESOURCE, "payments-db", **{**stored, "metadata": meta})
        await until(lambda: scene.condition("PodsUnselected") == ("True", "KeepsLastValue"))
        assert scene.condition("Ready") == ("False", "BeingDeleted")
        assert scene.finalizers() == [FINALIZER]
        await scene.fake.remove("pods", "api-0", "payments")
        await until(lambda: scene.finalizers() == [])


async def test_what_is_being_deleted_gets_no_finalizer() -> None:
    fake = FakeApiServer()
    await put_interceptor(fake)
    fake.objects[RESOURCE, "", "payments-db"]["metadata"] |= {
        "deletionTimestamp": "2026-11-21T10:00:00Z",
        "finalizers": ["example.com/other"],
    }
    async with leading(fake) as scene:
        await scene.put_pod()
        await until(lambda: scene.condition("InUse") == ("True", "PodsHoldIt"))
        assert scene.finalizers() == ["example.com/other"]


async def test_a_namespace_whose_label_is_taken_away_shows_in_the_conditions_and_back() -> None:
    async with leading() as scene:
        await scene.put_pod()
        await until(lambda: scene.condition("PodsUnselected") == ("False", "AllGiven"))
        await put_namespace(scene.fake)
        await until(lambda: scene.condition("PodsUnselected") == ("True", "KeepsLastValue"))
        await put_namespace(scene.fake, **OPTED_IN)
        await until(lambda: scene.condition("PodsUnselected") == ("False", "AllGiven"))


async def test_an_interceptor_that_cannot_work_is_told_so_in_its_status() -> None:
    async with leading() as scene:
        await put_interceptor(scene.fake, secrets=[])
        await until(lambda: scene.condition("Accepted") == ("False", "Invalid"))


async def test_a_node_that_can_serve_makes_it_ready() -> None:
    async with leading() as scene:
        await put_node(scene.fake)
        await until(lambda: scene.condition("Ready") == ("False", "NoNodeCanServe"))
        await put_node(scene.fake, "node-2", **{"kernelsecret.io/engine": "rewrite"})
        await until(lambda: scene.condition("Ready") == ("True", "NodesCanServe"))


async def test_a_conflict_is_tried_again_with_what_is_there_now() -> None:
    async with leading() as scene:
        await until(lambda: scene.condition("Accepted") is not None)
        # Another writes at the same moment, and the view has not heard of it.
        key = (RESOURCE, "", "payments-db")
        meta = scene.fake.objects[key]["metadata"]
        scene.fake.objects[key] = {**scene.stored(), "metadata": {**meta, "resourceVersion": "9999"}}
        await scene.put_pod()
        await until(lambda: scene.results["failed"] > 0)
        assert scene.finalizers() == []
        await put_interceptor(scene.fake)
        await until(lambda: scene.finalizers() == [FINALIZER])


async def test_a_new_leader_begins_from_what_is_there() -> None:
    fake = FakeApiServer()
    async with leading(fake) as scene:
        await scene.put_pod()
        await until(lambda: scene.finalizers() == [FINALIZER])
    async with leading(fake) as scene:
        await scene.fake.remove("pods", "api-0", "payments")
        await until(lambda: scene.condition("InUse") == ("False", "NoPods"))


async def test_labels_that_no_pod_shares_do_not_fill_the_memory() -> None:
    fake = FakeApiServer()
    await put_interceptor(fake, podSelector={"matchLabels": {"app": "api"}})
    async with watched(fake) as (view, client):
        controller = StatusController(client, view)

        def read(**labels: str) -> Mapping[str, str]:
            made = injected_pod()
            thing = {**made, "metadata": {**made["metadata"], "name": "a", "labels": labels}}
            pod = controller._read(json.dumps(thing).encode())
            assert pod is not None
            return pod.labels

        assert read(app="api") is read(app="api")
        for number in range(3000):
            assert read(app="api", job=str(number)) == {"app": "api", "job": str(number)}
        assert len(controller._labels) <= 1024
        # Of a pod with thousands of labels only those that decide are kept.
        assert read(app="api", **{f"k{number}": "v" for number in range(5000)}) == {"app": "api"}
