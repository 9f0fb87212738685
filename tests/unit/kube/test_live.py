"""The view through the API server: what its watches hold, and what is asked for anew before it is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.kube.live import ApiCluster
from agent.model import PodRef
from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import Registration
from tests.unit.apiclient.fake_server import FakeApiServer, Fault, serving
from tests.unit.apiclient.things import until
from tests.unit.contract.builders import example

NODE = "node-1"
LABELS = {"kernelsecret.io/inject": "enabled"}


class Scene:
    """A view of a fake server, and what it told."""

    def __init__(self, fake: FakeApiServer, cluster: ApiCluster) -> None:
        self.fake, self.cluster = fake, cluster
        self.changes = 0
        self.gone: list[str] = []

    def changed(self) -> None:
        self.changes += 1

    def gets(self) -> list[str]:
        """The single objects that were asked for, oldest first."""
        plain = [one.path for one in self.fake.requests if one.method == "GET" and "limit" not in one.query]
        return [path for path in plain if not path.endswith(("/pods", "/namespaces", "/secretinterceptors"))]


async def never(pod: PodRef) -> Registration:
    raise AssertionError("nobody asks for a registration here")


def pod(uid: str = "uid-1", **spec: Any) -> dict[str, Any]:
    volume = {
        "name": "db",
        "csi": {
            "driver": "csi.kernelsecret.io",
            "volumeAttributes": {"kernelsecret.io/interceptor": "payments-db"},
        },
    }
    spec = {"nodeName": NODE, "containers": [{"name": "app"}], "volumes": [volume]} | spec
    return {"metadata": {"uid": uid, "annotations": {"kernelsecret.io/inject": "true"}}, "spec": spec}


@asynccontextmanager
async def looking(*, watches: bool = True) -> AsyncIterator[Scene]:
    fake = FakeApiServer()
    await fake.put("namespaces", "payments", metadata={"labels": LABELS})
    await fake.put("pods", "api-0", "payments", **pod())
    await fake.put("secretinterceptors", "payments-db", **_without_name(example()))
    async with serving(fake) as url, ApiClient(Connection(url)) as client:
        cluster = ApiCluster(client, NODE, never, lambda uid: scene.gone.append(uid))
        scene = Scene(fake, cluster)
        running = asyncio.create_task(cluster.run(scene.changed)) if watches else None
        try:
            if watches:
                assert await cluster.wait_synced(20)
                fake.requests.clear()
            yield scene
        finally:
            if running:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running


def _without_name(thing: dict[str, Any]) -> dict[str, Any]:
    return {"spec": thing["spec"], "metadata": {}}


async def test_what_the_watches_hold_is_answered_without_a_question() -> None:
    async with looking() as scene:
        found = await scene.cluster.pod("payments", "api-0", "uid-1")
        assert (found.uid, found.node, dict(found.namespace_labels)) == ("uid-1", NODE, LABELS)
        assert found.volumes["db"].interceptor == "payments-db"
        assert (await scene.cluster.interceptor("payments-db")).metadata.name == "payments-db"
        assert scene.gets() == []


async def test_a_namespaces_own_interval_is_held_and_followed() -> None:
    async with looking() as scene:
        annotations = {"kernelsecret.io/poll-interval": "30s"}
        await scene.fake.put("namespaces", "payments", metadata={"labels": LABELS, "annotations": annotations})
        await until(lambda: scene.cluster._namespaces.items["payments"].least_poll_s == 30.0)
        assert (await scene.cluster.pod("payments", "api-0")).least_poll_s == 30.0
        assert scene.gets() == []


async def test_only_the_nodes_own_pods_are_asked_for() -> None:
    async with looking() as scene:
        await scene.fake.cut_watches()
        await until(lambda: any(one.path == "/api/v1/pods" for one in scene.fake.requests))
        (request, *_) = [one for one in scene.fake.requests if one.path == "/api/v1/pods"]
        assert request.query["fieldSelector"] == f"spec.nodeName={NODE}"


async def test_a_pod_of_another_uid_than_the_one_meant_is_asked_for_anew() -> None:
    async with looking() as scene:
        await scene.cluster.pod("payments", "api-0", "uid-2")
        assert scene.gets() == ["/api/v1/namespaces/payments/pods/api-0"]


async def test_a_pod_that_no_watch_has_brought_yet_is_asked_for() -> None:
    async with looking() as scene:
        scene.fake.objects["pods", "payments", "new"] = {
            **pod("uid-9"),
            "metadata": {"uid": "uid-9", "name": "new", "namespace": "payments", "resourceVersion": "1"},
        }
        assert (await scene.cluster.pod("payments", "new", "uid-9")).uid == "uid-9"


async def test_without_watches_everything_is_asked_for() -> None:
    async with looking(watches=False) as scene:
        assert (await scene.cluster.pod("payments", "api-0", "uid-1")).uid == "uid-1"
        await scene.cluster.interceptor("payments-db")
        assert len(scene.gets()) == 3


async def test_fresh_means_asked_just_now() -> None:
    async with looking() as scene:
        await scene.cluster.pod("payments", "api-0", "uid-1", fresh=True)
        await scene.cluster.interceptor("payments-db", fresh=True)
        assert scene.gets() == [
            "/api/v1/namespaces/payments/pods/api-0",
            "/api/v1/namespaces/payments",
            "/apis/kernelsecret.io/v1alpha1/secretinterceptors/payments-db",
        ]


@pytest.mark.parametrize("fresh", [False, True])
async def test_what_is_not_there_is_named(fresh: bool) -> None:
    async with looking() as scene:
        for asked, what in (
            (scene.cluster.pod("payments", "none", fresh=fresh), "pod payments/none"),
            (scene.cluster.interceptor("none", fresh=fresh), "interceptor none"),
        ):
            with pytest.raises(Refused) as caught:
                await asked
            assert (caught.value.code, caught.value.field) == (Code.NOT_FOUND, what)


async def test_a_server_that_does_not_answer_is_told_and_nothing_is_taken_for_gone() -> None:
    async with looking(watches=False) as scene:
        scene.fake.token = "another"
        with pytest.raises(Refused) as caught:
            await scene.cluster.pod("payments", "api-0")
        assert caught.value.code is Code.UNAVAILABLE
        assert "401" in caught.value.why
        assert caught.value.fix


async def test_every_change_is_told_and_what_others_count_in_an_interceptor_is_none() -> None:
    async with looking() as scene:
        before = scene.changes
        await scene.fake.put("namespaces", "payments", metadata={"labels": {}})
        await until(lambda: scene.changes > before)
        assert not (await scene.cluster.pod("payments", "api-0")).namespace_labels
        before = scene.changes
        whole = _without_name(example())
        await scene.fake.put("secretinterceptors", "payments-db", **whole, status={"pods": 3, "volumes": 3})
        await scene.fake.put("secretinterceptors", "other", **whole)
        await until(lambda: scene.changes > before)
        assert scene.changes == before + 1
        await scene.fake.remove("secretinterceptors", "payments-db")
        await until(lambda: scene.changes > before + 1)
        with pytest.raises(Refused, match="there is none"):
            await scene.cluster.interceptor("payments-db")


async def test_an_interceptor_that_cannot_be_read_is_not_one_that_is_missing() -> None:
    async with looking() as scene:
        await scene.fake.put("secretinterceptors", "payments-db", spec={"nonsense": True}, metadata={})
        before = scene.changes
        await until(lambda: scene.changes > before or "payments-db" not in scene.cluster._interceptors.items)
        with pytest.raises(Refused) as caught:
            await scene.cluster.interceptor("payments-db")
        assert caught.value.code is Code.FAILED_PRECONDITION


async def test_a_pod_that_leaves_the_node_is_forgotten() -> None:
    async with looking() as scene:
        await scene.fake.put("pods", "api-0", "payments", **pod("uid-2"))
        await until(lambda: scene.gone == ["uid-1"])
        await scene.fake.remove("pods", "api-0", "payments")
        await until(lambda: scene.gone == ["uid-1", "uid-2"])


async def test_a_list_again_after_a_gap_finds_what_went_meanwhile() -> None:
    async with looking() as scene:
        scene.fake.on_watch.append(Fault.GONE)
        await scene.fake.remove("pods", "api-0", "payments")
        await scene.fake.cut_watches()
        await until(lambda: scene.gone == ["uid-1"])


async def test_the_first_pid_of_a_pod_is_not_taken_from_what_anybody_can_write() -> None:
    async with looking() as scene:
        thing = pod()
        thing["metadata"]["annotations"]["kernelsecret.io/first-pid"] = "1234"
        await scene.fake.put("pods", "api-0", "payments", **thing)
        assert (await scene.cluster.pod("payments", "api-0", fresh=True)).first_pid is None


async def test_registrations_are_the_askers() -> None:
    registered = Registration(
        pod_uid="u",
        namespace="n",
        name="p",
        service_account="s",
        interceptor="i",
        node=NODE,
        expires_at=datetime.now(UTC),
        nonce="0" * 16,
    )

    async def ask(one: PodRef) -> Registration:
        assert one.uid == "u"
        return registered

    async with ApiClient(Connection("http://127.0.0.1:1")) as client:
        assert await ApiCluster(client, NODE, ask).registration(PodRef("n", "p", "u", "s")) is registered
