"""Which pod may have the shim: one that opted in and was given the mode, and has a volume that asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.kube.cluster import CsiVolume
from agent.model import ShimRequest
from agent.shim_decision import shim_agrees, shim_allowed
from kernelsecret.errors import Code, Refused
from tests.unit.decision.test_decide import NODE, POD, REF, REQUEST

SHIM = ShimRequest("csi-2", Path(str(REQUEST.target_path).replace("/db/", "/shim/")), REF)
GIVEN = replace(
    POD,
    annotations={"kernelsecret.io/inject": "true", "kernelsecret.io/chosen-mode": "preload"},
    volumes={"db": CsiVolume("payments-db"), "shim": CsiVolume(None, is_shim=True)},
)
WHOSE: list[tuple[str, dict[str, Any]]] = [
    ("volume_context[csi.storage.k8s.io/pod.uid]", {"uid": "uid-2"}),
    ("volume_context[csi.storage.k8s.io/pod.namespace]", {"namespace": "other"}),
    ("volume_context[csi.storage.k8s.io/pod.name]", {"name": "api-1"}),
    ("volume_context[csi.storage.k8s.io/serviceAccount.name]", {"service_account": "default"}),
    ("spec.nodeName", {"node": "node-2"}),
    ("spec.volumes", {"volumes": {}}),
    ("spec.volumes[shim].csi.volumeAttributes", {"volumes": {"shim": CsiVolume("payments-db")}}),
]
RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("namespace.metadata.labels[kernelsecret.io/inject]", {"namespace_labels": {}}),
    ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {"kernelsecret.io/chosen-mode": "preload"}}),
    (
        "metadata.annotations[kernelsecret.io/inject]",
        {"annotations": {"kernelsecret.io/inject": "false", "kernelsecret.io/chosen-mode": "preload"}},
    ),
    ("metadata.annotations[kernelsecret.io/chosen-mode]", {"annotations": {"kernelsecret.io/inject": "true"}}),
    (
        "metadata.annotations[kernelsecret.io/chosen-mode]",
        {"annotations": {"kernelsecret.io/inject": "true", "kernelsecret.io/chosen-mode": "ebpf"}},
    ),
]


def test_a_pod_that_was_given_the_mode_may_have_it() -> None:
    shim_allowed(SHIM, GIVEN, NODE)


@pytest.mark.parametrize(("field", "pod"), [*WHOSE, *RIGHT])
def test_a_new_one_is_refused_to_every_other_pod_by_the_field(field: str, pod: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        shim_allowed(SHIM, replace(GIVEN, **pod), NODE)
    assert (refused.value.code, refused.value.field) == (Code.PERMISSION_DENIED, field)
    assert refused.value.why


def test_a_pod_that_is_being_deleted_gets_no_new_one() -> None:
    with pytest.raises(Refused) as refused:
        shim_allowed(SHIM, replace(GIVEN, deleted=True), NODE)
    assert refused.value.field == "metadata.deletionTimestamp"


@pytest.mark.parametrize(("field", "pod"), WHOSE)
def test_one_that_is_published_is_not_another_pods(field: str, pod: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        shim_agrees(SHIM, replace(GIVEN, **pod), NODE)
    assert refused.value.field == field


@pytest.mark.parametrize("pod", [*(pod for _, pod in RIGHT), {"deleted": True}])
def test_one_that_is_published_stays_whatever_became_of_the_opt_in(pod: dict[str, Any]) -> None:
    shim_agrees(SHIM, replace(GIVEN, **pod), NODE)
