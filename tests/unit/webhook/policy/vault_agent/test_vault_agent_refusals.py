from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kernelsecret.names import (
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_AGENT_INIT,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    CONTAINER_VAULT_AGENT,
    DRIVER_NAME,
    VOLUME_VAULT_AGENT,
)
from tests.unit.webhook.builders import MOUNT_PATH, mutated, mutation_refusal, pod, refusal, validation
from tests.unit.webhook.policy.vault_agent.given import secret, settings_in, view, wanted
from webhook.policy.vault_agent.refusals import MAX_SETTINGS, interceptor_problem


@pytest.mark.parametrize(
    ("secrets", "fields", "field"),
    [
        ([{**secret(), "source": {"kubernetes": {"name": "x"}}}], {}, "spec.secrets[0].source.kubernetes"),
        ([{**secret(), "source": {"file": {"path": "x"}}}], {}, "spec.secrets[0].source.file"),
        (
            [secret(role="", auth={"method": "appRole", "credential": "c"})],
            {},
            "spec.secrets[0].source.vault.auth.method",
        ),
        ([secret(), secret("b", role="other")], {}, "spec.secrets[1].source.vault.role"),
        ([secret(), secret("b", auth={"method": "jwt"})], {}, "spec.secrets[1].source.vault.auth.method"),
        ([secret(), secret("b", auth={"audience": "x"})], {}, "spec.secrets[1].source.vault.auth.audience"),
        ([secret(), secret("b", namespace="x")], {}, "spec.secrets[1].source.vault.namespace"),
        ([secret(parameters={"a": " b"})], {}, "spec.secrets[0].source.vault.parameters['a']"),
        ([secret(path="pki/issue/web ", parameters={"a": "b"})], {}, "spec.secrets[0].source.vault.path"),
        ([secret()], {"delivery": {"onUnavailable": "refuse"}}, "spec.delivery.onUnavailable"),
        (
            [secret("a", *({"path": f"f{n}", "template": "{{ a | json }}" * 60} for n in range(20)))],
            {},
            "spec.secrets",
        ),
    ],
)
def test_an_interceptor_that_no_pod_can_have_is_refused_by_its_field(
    secrets: list[dict[str, Any]], fields: dict[str, Any], field: str
) -> None:
    made = wanted(*secrets, **fields)
    found = interceptor_problem(made)
    assert found is not None
    assert found.field == field
    assert found.fix
    _, message = mutation_refusal(pod(), view(made))
    assert f"interceptor 'payments-db': {field}" in message


def test_an_interceptor_with_no_other_mode_is_refused_when_it_is_created() -> None:
    made = msgspec.to_builtins(wanted(secret(), secret("b", role="other")))
    answer = validation(made, view(), resource="secretinterceptors.kernelsecret.io")
    _, message = refusal(answer)
    assert "spec.secrets[1].source.vault.role" in message
    made["spec"]["delivery"]["modes"] = ["ebpf", "vault-agent"]
    assert validation(made, view(), resource="secretinterceptors.kernelsecret.io").outcome == "allowed"


def test_one_that_differs_only_in_how_it_is_written_is_taken() -> None:
    made = wanted(secret(auth={"mount": "kubernetes"}), secret("b", parameters={"a": "b c"}))
    assert interceptor_problem(made) is None


def test_without_the_webhooks_settings_there_is_no_such_mode() -> None:
    _, message = mutation_refusal(pod(), view(settings=None))
    assert "vault_address" in message
    assert "vault_agent_image" in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"volumes": [{"name": VOLUME_VAULT_AGENT, "emptyDir": {}}]}, "spec.volumes[0].name"),
        ({"containers": [{"name": CONTAINER_VAULT_AGENT, "image": "x"}]}, "spec.containers[0].name"),
        ({"securityContext": {"runAsUser": "root"}}, "spec.securityContext"),
    ],
)
def test_a_pod_in_whose_way_something_stands_is_refused(change: dict[str, Any], field: str) -> None:
    _, message = mutation_refusal(pod(**change), view())
    assert field in message


@pytest.mark.parametrize("attributes", [{ATTRIBUTE_INTERCEPTOR: "payments-db"}, {ATTRIBUTE_SHIM: "true"}])
def test_a_volume_of_our_driver_has_no_place_beside_the_agent(attributes: dict[str, str]) -> None:
    csi = {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": attributes}
    _, message = mutation_refusal(pod(volumes=[{"name": "own", "csi": csi}]), view())
    assert "spec.volumes[0].csi.driver" in message
    assert "remove the volume" in message


def test_a_file_for_its_owner_alone_needs_one_user() -> None:
    seen = view(wanted(secret("db", {"path": "key", "key": "key", "mode": "0400"})))
    _, message = mutation_refusal(pod(), seen)
    assert "spec.secrets[0].files[0].mode" in message
    made = mutated(pod(securityContext={"runAsUser": 7}), seen)
    assert made["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == 7


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.shareProcessNamespace"),
        ({"shareProcessNamespace": True}, "spec.securityContext.runAsUser"),
        ({"shareProcessNamespace": True, "securityContext": {"runAsUser": 0}}, "spec.securityContext.runAsUser"),
        ({"shareProcessNamespace": True, "securityContext": {"runAsUser": 7}}, "spec.securityContext.runAsGroup"),
    ],
)
def test_a_signal_needs_processes_in_common_and_one_user(spec: dict[str, Any], field: str) -> None:
    seen = view(wanted(rotation={"notify": {"signal": "SIGHUP"}}))
    _, message = mutation_refusal(pod(**spec), seen)
    assert f"{field}:" in message


def test_a_signal_is_sent_by_the_sidecar_alone_and_every_word_is_an_argument() -> None:
    seen = view(wanted(rotation={"notify": {"signal": "SIGUSR1", "process": "/usr/sbin/my $app"}}))
    both = {"runAsUser": 7, "runAsGroup": 8}
    made = mutated(pod(shareProcessNamespace=True, securityContext=both), seen)
    (template,) = settings_in(made)["template"]
    command = template["exec"]["command"]
    assert command[:2] == ["/bin/sh", "-c"]
    assert command[4:7] == ["USR1", "/usr/sbin/my $app", MOUNT_PATH]
    assert "my $app" not in command[2]
    assert "exec" not in settings_in(made, ANNOTATION_VAULT_AGENT_INIT)["template"][0]
    assert made["spec"]["initContainers"][1]["securityContext"]["runAsGroup"] == 8


def test_the_settings_of_many_files_have_room() -> None:
    files = [{"path": f"file-{number}", "key": f"key-{number}"} for number in range(64)]
    made = mutated(pod(), view(wanted(secret("a", *files))))
    assert sum(len(value.encode()) for value in made["metadata"]["annotations"].values()) < 256 << 10
    assert len(made["metadata"]["annotations"][ANNOTATION_VAULT_AGENT]) < MAX_SETTINGS
