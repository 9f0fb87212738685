from __future__ import annotations

from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.interceptor import Mode
from tests.unit.apiclient.fake_server import FakeApiServer
from tests.unit.apiclient.things import until
from tests.unit.webhook.builders import body, pod, response
from tests.unit.webhook.cluster.scene import RESOURCE, known, put_interceptor, put_namespace, put_node, watched
from webhook.admission.mutate import mutate
from webhook.cluster.view import ClusterView

ENGINE = {"kernelsecret.io/engine": "iter"}
LABELS = {"kernelsecret.io/inject": "enabled", "kubernetes.io/metadata.name": "payments"}


async def test_a_pod_is_injected_by_what_the_api_server_has() -> None:
    fake = FakeApiServer()
    await put_node(fake, **ENGINE)
    await put_namespace(fake, **LABELS)
    await put_interceptor(fake)
    async with watched(fake) as (view, _):
        said = response(mutate(body(pod(tolerations=[{"operator": "Exists"}])), view))
        assert said["allowed"], said
        node = view.nodes.get("node-1")
        assert node is not None
        assert (node.address, node.engine, node.taints[0].key) == ("10.0.0.1", "iter", "gpu")
        assert view.unsynced == view.stale == []
        await until(lambda: view.age_s == 0.0)


async def test_changes_come_without_being_asked_for() -> None:
    fake = FakeApiServer()
    async with watched(fake) as (view, _):
        told = 0

        def changed() -> None:
            nonlocal told
            told += 1

        view.on_change = changed
        await put_namespace(fake, **LABELS)
        await until(lambda: view.namespace_labels("payments") == LABELS)
        await put_namespace(fake)
        await until(lambda: view.namespace_labels("payments") == {})
        await fake.remove("namespaces", "payments")
        await until(lambda: view.namespace_labels("payments") is None)
        await put_node(fake)
        await until(lambda: len(view.nodes) == 1)
        await fake.remove("nodes", "node-1")
        await until(lambda: len(view.nodes) == 0)
        assert told == 5


async def test_an_interceptor_that_cannot_work_is_kept_apart_with_its_reason() -> None:
    fake = FakeApiServer()
    await put_interceptor(fake)
    async with watched(fake) as (view, _):
        assert known(view) is not None
        await put_interceptor(fake, secrets=[])
        await until(lambda: known(view) is None)
        assert "spec.secrets: empty" in view.invalid["payments-db"].why
        await put_interceptor(fake)
        await until(lambda: known(view) is not None)
        assert view.invalid == {}
        await put_interceptor(fake, delivery={"modes": "ebpf"})
        await until(lambda: "spec.delivery.modes" in str(view.invalid.get("payments-db")))
        await fake.remove(RESOURCE, "payments-db")
        await until(lambda: not view.invalid)


async def test_a_new_status_or_finalizer_makes_nothing_be_decided_anew() -> None:
    fake = FakeApiServer()
    await put_interceptor(fake)
    async with watched(fake) as (view, _):
        generation = view.interceptors.generation
        [(key, stored)] = fake.objects.items()
        meta = {**stored["metadata"], "finalizers": ["kernelsecret.io/in-use"]}
        await fake.put(RESOURCE, key[2], **{**stored, "metadata": meta, "status": {"pods": 7}})
        kept = view.interceptor_reflector.items
        await until(lambda: bool(kept["payments-db"].metadata.finalizers))
        assert view.interceptors.generation == generation
        await put_interceptor(fake, delivery={"modes": ["ebpf", "preload"]})
        await until(lambda: view.interceptors.generation > generation)
        found = known(view)
        assert found is not None
        assert found.spec.delivery.modes == (Mode.EBPF, Mode.PRELOAD)


async def test_before_the_first_list_it_says_so() -> None:
    async with ApiClient(Connection("http://127.0.0.1:1")) as client:
        view = ClusterView(client)
        assert view.unsynced == view.stale == ["nodes", "namespaces", "interceptors"]
        assert view.age_s == float("inf")


async def test_known_policy_goes_on_being_applied_while_the_api_server_is_away() -> None:
    fake = FakeApiServer()
    await put_node(fake, **ENGINE)
    await put_namespace(fake, **LABELS)
    await put_interceptor(fake)
    async with watched(fake, watching=False) as (view, _):
        assert view.age_s > 0
        assert view.unsynced == []
        said = response(mutate(body(pod(tolerations=[{"operator": "Exists"}])), view))
        assert said["allowed"], said
