from __future__ import annotations

import json
from typing import Any

import pytest

from kernelsecret.names import (
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_CA,
)
from tests.unit.webhook.builders import mutated, pod, refusal, validation
from tests.unit.webhook.policy.vault_agent.given import view
from webhook.policy.pods import read_pod
from webhook.policy.vault_agent.forged import changed, leftovers


def change(made: Any, where: str, value: Any) -> Any:
    at = made
    *way, last = where.split("/")
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[int(last) if isinstance(at, list) else last] = value
    return made


@pytest.mark.parametrize(
    ("where", "value", "field"),
    [
        ("initContainers/0/image", "evil", "spec.initContainers[0].image"),
        ("initContainers/1/image", "evil", "spec.initContainers[1].image"),
        ("initContainers/1/command", ["sh"], "spec.initContainers[1].command"),
        ("initContainers/1/args", ["-config=/x"], "spec.initContainers[1].args"),
        ("initContainers/1/securityContext/runAsUser", 0, "spec.initContainers[1].securityContext"),
        (
            "initContainers/1/securityContext/capabilities",
            {"drop": ["ALL"], "add": ["X"]},
            "spec.initContainers[1].securityContext",
        ),
        ("initContainers/1/envFrom", [{"configMapRef": {"name": "x"}}], "spec.initContainers[1].envFrom"),
        ("initContainers/1/env", [{"name": "VAULT_ADDR", "value": "x"}], "spec.initContainers[1].env[0].name"),
        ("initContainers/1/env", [{"name": "POD_IP", "value": "x"}], None),
        ("initContainers/1/terminationMessagePath", "/dev/termination-log", None),
        ("initContainers/1/volumeMounts/0/mountPath", "/x", "spec.initContainers[1].volumeMounts"),
    ],
)
def test_a_container_of_ours_that_was_changed_is_told_from_one_that_was_only_completed(
    where: str, value: Any, field: str | None
) -> None:
    made = change(mutated(pod(), view()), f"spec/{where}", value)
    answer = validation(made, view())
    if field is None:
        assert answer.outcome == "allowed", answer.message
    else:
        _, message = refusal(answer)
        assert field in message


def test_settings_that_somebody_wrote_are_refused() -> None:
    made = mutated(pod(), view())
    made["metadata"]["annotations"][ANNOTATION_VAULT_AGENT] = "{}"
    _, message = refusal(validation(made, view()))
    assert ANNOTATION_VAULT_AGENT in message


def test_what_is_called_ours_in_another_pod_is_found() -> None:
    made = mutated(pod(), view())
    found = [problem.field for problem in leftovers(read_pod(json.dumps(made).encode()))]
    assert f"metadata.annotations[{ANNOTATION_VAULT_AGENT}]" in found
    assert "spec.initContainers[0].name" in found
    assert any(field.startswith("spec.volumes") for field in found)
    assert leftovers(read_pod(json.dumps(pod()).encode())) == []


def test_an_update_may_not_change_the_image_or_the_settings() -> None:
    made = mutated(pod(), view())
    before = read_pod(json.dumps(made).encode())
    assert changed(before, before) == []
    change(made, "spec/initContainers/1/image", "evil")
    change(made, "spec/containers/0/image", "app:2")
    made["metadata"]["annotations"].pop(ANNOTATION_VAULT_CA)
    found = [problem.field for problem in changed(before, read_pod(json.dumps(made).encode()))]
    assert found == ["spec.initContainers[1].image", f"metadata.annotations[{ANNOTATION_VAULT_CA}]"]
