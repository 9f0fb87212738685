from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiclient import paths
from kernelsecret.errors import Refused


def test_paths_are_those_of_the_api() -> None:
    assert paths.pods() == "/api/v1/pods"
    assert paths.pods("ns") == "/api/v1/namespaces/ns/pods"
    assert paths.pod("ns", "web-0") == "/api/v1/namespaces/ns/pods/web-0"
    assert paths.node("ip-10-0-0-1.ec2.internal") == "/api/v1/nodes/ip-10-0-0-1.ec2.internal"
    assert paths.namespace("ns") == "/api/v1/namespaces/ns"
    assert paths.interceptor("db") == "/apis/kernelsecret.io/v1alpha1/secretinterceptors/db"
    assert paths.interceptor_status("db") == "/apis/kernelsecret.io/v1alpha1/secretinterceptors/db/status"
    assert paths.secret("ns", "s") == "/api/v1/namespaces/ns/secrets/s"
    assert paths.config_map("ns", "c") == "/api/v1/namespaces/ns/configmaps/c"
    assert paths.lease("ns", "l") == "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l"
    assert paths.deployment("ns", "a") == "/apis/apps/v1/namespaces/ns/deployments/a"
    assert paths.events("ns") == "/apis/events.k8s.io/v1/namespaces/ns/events"
    assert paths.event("ns", "a.1f") == "/apis/events.k8s.io/v1/namespaces/ns/events/a.1f"
    assert paths.token_reviews() == "/apis/authentication.k8s.io/v1/tokenreviews"
    group = "/apis/admissionregistration.k8s.io/v1"
    assert paths.mutating_configuration("k") == f"{group}/mutatingwebhookconfigurations/k"
    assert paths.validating_configuration("k") == f"{group}/validatingwebhookconfigurations/k"


def test_one_object_of_a_collection_is_asked_for_by_its_name() -> None:
    assert paths.only("a.b") == {"fieldSelector": "metadata.name=a.b"}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a/../b", "a%2fb", "a?x=y", "a#b", "a\n", "A", "a b", "ü", "-a", "x" * 254]
)
def test_what_is_no_name_makes_no_path(name: str) -> None:
    for path in (paths.node, paths.namespace, paths.interceptor, paths.only):
        with pytest.raises(Refused, match="is not the name of an object"):
            path(name)
    with pytest.raises(Refused):
        paths.pod("ns", name)
    with pytest.raises(Refused):
        paths.pod(name, "pod")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_name_can_reach_another_resource(namespace: str, name: str) -> None:
    try:
        path = paths.pod(namespace, name)
    except Refused:
        return
    parts = path.split("/")
    assert parts[:4] + parts[5:6] == ["", "api", "v1", "namespaces", "pods"]
    assert len(parts) == 7
    assert not {".", "..", ""} & set(parts[1:])
