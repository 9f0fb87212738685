"""The right of a running pod: what ends it, each named by its field, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.cluster import LivePod
from agent.model import OnUnavailable, VolumePlan
from agent.right import ended
from kernelsecret.errors import Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed
from tests.unit.decision.test_decide import INTERCEPTOR, POD, plan

PLAN = plan()


def why(
    pod: LivePod = POD,
    interceptor: SecretInterceptor | None = INTERCEPTOR,
    plan: VolumePlan = PLAN,
    enforces_access: bool = True,
) -> Refused | None:
    return ended(plan, pod, interceptor, ("file",), enforces_access=enforces_access)


def test_the_right_of_what_was_just_published_holds() -> None:
    assert why() is None


def test_a_pod_that_is_being_deleted_keeps_its_right() -> None:
    assert why(pod=replace(POD, deleted=True)) is None


@pytest.mark.parametrize(
    ("field", "pod"),
    [
        ("namespace.metadata.labels[kernelsecret.io/inject]", {"namespace_labels": {}}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {}}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {"kernelsecret.io/inject": "false"}}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {"kernelsecret.io/inject": "other"}}),
        (
            "interceptor payments-db: spec.namespaceSelector",
            {"namespace_labels": {"kernelsecret.io/inject": "enabled"}},
        ),
        ("interceptor payments-db: spec.podSelector", {"labels": {"app": "other"}}),
    ],
)
def test_a_pod_or_namespace_that_opted_out_ends_the_right(field: str, pod: dict[str, Any]) -> None:
    found = why(pod=replace(POD, **pod))
    assert found is not None
    assert (found.field, bool(found.why)) == (field, True)


@pytest.mark.parametrize(
    ("field", "path", "value"),
    [
        ("metadata.deletionTimestamp", "metadata.deletionTimestamp", "2026-01-01T00:00:00Z"),
        ("spec.secrets", "spec.secrets.0.source", {"file": {"path": "payments/other"}}),
        ("spec.secrets", "spec.secrets.0.files.0.key", "other"),
        ("spec.secrets", "spec.secrets.0.files.0.path", "other"),
        ("spec.secrets", "spec.secrets.0.files.0.mode", "0400"),
        ("spec.access", "spec.access.from", "main"),
        ("spec.access", "spec.access.action", "audit"),
    ],
)
def test_an_interceptor_that_gives_something_else_ends_the_right(field: str, path: str, value: Any) -> None:
    found = why(interceptor=read_interceptor(changed(path, value)))
    assert found is not None
    assert found.field == f"interceptor payments-db: {field}"


def test_a_waiver_counts_where_the_rule_is_not_held() -> None:
    waives = read_interceptor(changed("spec.access.unenforced", "allow"))
    holds = read_interceptor(changed("spec.access.unenforced", "refuse"))
    assert why(interceptor=waives, enforces_access=False) is None
    assert why(interceptor=holds) is None
    found = why(interceptor=holds, enforces_access=False)
    assert found is not None
    assert found.field == "interceptor payments-db: spec.access.unenforced"


def test_a_source_that_the_agent_lost_is_named() -> None:
    found = why(interceptor=read_interceptor(changed("spec.secrets.0.source", {"vault": {"path": "x", "role": "y"}})))
    assert found is not None
    assert found.field == "spec.secrets[0].source.vault"


def test_an_interceptor_that_is_gone_ends_the_right() -> None:
    found = why(interceptor=None)
    assert found is not None
    assert (found.field, found.why) == ("interceptor payments-db", "was deleted")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.rotation.minInterval", "1h"),
        ("spec.limits.openFiles", 7),
        ("spec.delivery.onUnavailable", "refuse"),
        ("spec.delivery.placement", "require"),
    ],
)
def test_what_is_not_about_what_the_volume_shows_leaves_the_right_alone(path: str, value: Any) -> None:
    assert why(interceptor=read_interceptor(changed(path, value))) is None


def test_a_file_that_came_to_the_interceptor_leaves_the_right_to_the_others_alone() -> None:
    assert why(plan=replace(PLAN, files=PLAN.files[:1])) is None


@given(st.dictionaries(st.sampled_from(["kernelsecret.io/inject", "other"]), st.text(max_size=6)))
def test_no_annotation_but_the_right_one_leaves_the_right(annotations: dict[str, str]) -> None:
    is_right = annotations.get("kernelsecret.io/inject") in ("true", "payments-db")
    assert (why(pod=replace(POD, annotations=annotations)) is None) is is_right


def test_the_policy_comes_from_the_interceptor() -> None:
    assert PLAN.on_unavailable is OnUnavailable.KEEP
    refusing = read_interceptor(changed("spec.delivery.onUnavailable", "refuse"))
    assert plan(interceptor=refusing).on_unavailable is OnUnavailable.REFUSE
