"""Other injectors before and after ours, and pods that are the pictures of static ones."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kernelsecret.names import ANNOTATION_INJECTED_CONTAINERS
from tests.apiserver.harness.injector import LABEL, SIDECAR, injector
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook
from tests.apiserver.test_injecting import created, mounts, our_volumes

NAMESPACE = "meshed"
PATH = "/var/run/secrets/mesh-db"
MESHED = {LABEL: "true"}


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace that may opt in."""
    webhook.cluster.kubectl.apply(
        interceptor("mesh-db", NAMESPACE),
        interceptor("mesh-app", NAMESPACE, delivery={"containers": ["app"]}),
    )
    return webhook.cluster.namespace(NAMESPACE, OPTED_IN)


@pytest.fixture(params=["before", "after"])
def meshed(request: pytest.FixtureRequest, webhook: Webhook, shop: Kubectl) -> Iterator[str]:
    """Another injector, called before ours or after it; which of them."""
    # The API server calls them in the order of the configurations' names, and ours is `kernelsecret`.
    with injector(webhook.cluster, f"{'a' if request.param == 'before' else 'z'}-mesh"):
        probe = pod("probe", labels=MESHED)
        until(lambda: len(created(shop, probe)["spec"]["containers"]) == 2, "the other injector is called")
        yield request.param


def test_the_sidecar_of_another_injector_does_not_take_our_files_from_the_application(
    meshed: str, shop: Kubectl
) -> None:
    kept = created(shop, pod("app", "mesh-db", labels=MESHED))
    found = mounts(kept)
    assert found["app"] == [PATH]
    assert [one["name"] for one in kept["spec"]["containers"]] == [SIDECAR, "app"]
    assert len(our_volumes(kept)) == 1


def test_a_container_that_was_added_after_us_gets_nothing(meshed: str, shop: Kubectl) -> None:
    """One that was added before us is like any other of the pod: only known proxies and the interceptor's list tell."""
    kept = created(shop, pod("app", "mesh-db", labels=MESHED))
    assert mounts(kept)[SIDECAR] == ([] if meshed == "after" else [PATH])
    told = kept["metadata"]["annotations"][ANNOTATION_INJECTED_CONTAINERS].split(",")
    assert told == (["app"] if meshed == "after" else ["app", SIDECAR])


def test_an_interceptor_that_lists_its_containers_gives_nothing_to_a_sidecar(meshed: str, shop: Kubectl) -> None:
    kept = created(shop, pod("app", "mesh-app", labels=MESHED))
    assert mounts(kept) == {"app": ["/var/run/secrets/mesh-app"], SIDECAR: []}


def test_a_pod_of_two_containers_keeps_its_mounts_where_their_places_shift(meshed: str, shop: Kubectl) -> None:
    """The other injector puts its container first, so that indexes change between its call and ours."""
    thing = pod("app", "mesh-db", labels=MESHED, containers=[container("app"), container("worker")])
    found = mounts(created(shop, thing))
    assert (found["app"], found["worker"]) == ([PATH], [PATH])


def test_the_picture_of_a_static_pod_is_left_as_kubelet_made_it(webhook: Webhook, shop: Kubectl) -> None:
    """kubelet runs it as its file says: a volume in the picture would be a lie, and a refusal would only hide it."""
    kubelet = webhook.cluster.user("system:node:iter-1", group="system:nodes").within(NAMESPACE)
    thing = pod("static", "mesh-db", annotations={"kubernetes.io/config.mirror": "0123456789abcdef"}, nodeName="iter-1")
    owner = webhook.cluster.core.read_node("iter-1").metadata.uid
    thing["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": "iter-1", "uid": owner, "controller": True}
    ]
    ran = kubelet.run("create", "-f-", "--dry-run=server", "-ojson", given=thing)
    assert ran.status == 0, ran.err
    assert "static pod" in ran.err
    kept = json.loads(ran.out)
    assert our_volumes(kept) == []
