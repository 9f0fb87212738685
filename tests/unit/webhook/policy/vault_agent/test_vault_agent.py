from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_AGENT_INIT,
    ANNOTATION_VAULT_CA,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    VOLUME_NAME,
    VOLUME_VAULT_AGENT,
)
from tests.unit.webhook.builders import MOUNT_PATH, interceptor, mutated, mutation_refusal, pod, refusal, validation
from tests.unit.webhook.builders import view as any_view
from webhook.policy.pods import read_pod
from webhook.policy.vault_agent.forged import changed, leftovers
from webhook.policy.vault_agent.refusals import MAX_SETTINGS, interceptor_problem
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.view import FixedView

SETTINGS = VaultAgentSettings("https://vault.test:8200", "vault@sha256:0", ca_pem="-----BEGIN CERTIFICATE-----\n")
AUTH = {"method": "kubernetes"}


def secret(name: str = "db", *files: dict[str, Any], path: str = "secret/data/db", **source: Any) -> dict[str, Any]:
    shown = list(files) or [{"path": name, "key": "password"}]
    return {"name": name, "source": {"vault": {"path": path, "role": "app", **source}}, "files": shown}


def wanted(*secrets: dict[str, Any], **fields: Any) -> SecretInterceptor:
    delivery = {"modes": ["vault-agent"], **fields.pop("delivery", {})}
    return interceptor(
        secrets=list(secrets) or [secret()],
        delivery=delivery,
        access={"unenforced": "allow"},
        rotation={"pollInterval": "1s"} | fields.pop("rotation", {}),
        **fields,
    )


def view(*interceptors: SecretInterceptor, settings: VaultAgentSettings | None = SETTINGS) -> FixedView:
    return replace(any_view(*(interceptors or [wanted()]), nodes=[]), vault_agent=settings)


def settings_in(injected: Any, name: str = ANNOTATION_VAULT_AGENT) -> Any:
    return json.loads(injected["metadata"]["annotations"][name])


# The patch


def test_both_containers_come_first_and_the_application_mounts_what_they_write() -> None:
    given = pod(initContainers=[{"name": "migrate", "image": "app:1"}])
    made = mutated(given, view())
    assert [one["name"] for one in made["spec"]["initContainers"]] == [
        CONTAINER_VAULT_AGENT_INIT,
        CONTAINER_VAULT_AGENT,
        "migrate",
    ]
    init, sidecar, migrate = made["spec"]["initContainers"]
    assert "restartPolicy" not in init
    assert sidecar["restartPolicy"] == "Always"
    mount = {"name": VOLUME_NAME, "mountPath": MOUNT_PATH, "readOnly": True}
    assert mount in migrate["volumeMounts"]
    assert mount in made["spec"]["containers"][0]["volumeMounts"]
    volumes = {one["name"]: one for one in made["spec"]["volumes"]}
    assert volumes[VOLUME_NAME]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(1 << 20)}
    assert made["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "vault-agent"
    assert made["metadata"]["annotations"][ANNOTATION_INJECTED_CONTAINERS] == "app,migrate"


@pytest.mark.parametrize("index", [0, 1])
def test_each_container_fits_the_restricted_standard_and_is_small(index: int) -> None:
    made = mutated(pod(), view())["spec"]["initContainers"][index]
    assert made["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert made["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    assert made["image"] == SETTINGS.image
    assert made["command"][:2] == ["vault", "agent"]


def test_the_agent_reads_its_settings_from_annotations_and_the_pods_own_token() -> None:
    made = mutated(pod(), view(wanted(secret(auth={"audience": "my-vault"}))))
    (volume,) = (one for one in made["spec"]["volumes"] if one["name"] == VOLUME_VAULT_AGENT)
    downward, token = volume["projected"]["sources"]
    names = [item["fieldRef"]["fieldPath"] for item in downward["downwardAPI"]["items"]]
    assert names == [
        f"metadata.annotations['{name}']"
        for name in (ANNOTATION_VAULT_AGENT, ANNOTATION_VAULT_AGENT_INIT, ANNOTATION_VAULT_CA)
    ]
    assert token["serviceAccountToken"] == {"path": "token", "audience": "my-vault", "expirationSeconds": 600}


def test_without_an_authority_of_its_own_the_agent_trusts_those_of_its_image() -> None:
    made = mutated(pod(), view(settings=SETTINGS._replace(ca_pem="")))
    assert ANNOTATION_VAULT_CA not in made["metadata"]["annotations"]
    assert "ca_cert" not in settings_in(made)["vault"]


def test_a_pod_that_was_patched_is_valid_and_not_patched_again() -> None:
    for given in (pod(), pod(securityContext={}), pod(securityContext={"fsGroup": 5}), pod(volumes=[])):
        made = mutated(given, view())
        assert mutated(made, view()) == made
        assert validation(made, view()).outcome == "allowed"


@pytest.mark.parametrize(
    ("of_pod", "added"),
    [
        (None, [65532]),
        ({}, [65532]),
        ({"supplementalGroups": [7]}, [7, 65532]),
        ({"supplementalGroups": [65532]}, [65532]),
        ({"fsGroup": 7}, None),
        ({"runAsUser": 7}, None),
        ({"runAsUser": 0}, [65532]),
    ],
)
def test_a_group_is_added_only_where_the_application_could_not_read_otherwise(of_pod: Any, added: Any) -> None:
    given = pod() if of_pod is None else pod(securityContext=of_pod)
    found = mutated(given, view())["spec"].get("securityContext") or {}
    assert found.get("supplementalGroups") == added


def test_proxies_of_other_injectors_do_not_decide_who_the_agent_is() -> None:
    given = pod(
        securityContext={"runAsUser": 7},
        initContainers=[{"name": "istio-proxy", "image": "i", "securityContext": {"runAsUser": 1337}}],
    )
    assert mutated(given, view())["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == 7


# The settings


def test_the_settings_of_both_containers_differ_in_how_they_end() -> None:
    made = mutated(pod(), view())
    init, sidecar = settings_in(made, ANNOTATION_VAULT_AGENT_INIT), settings_in(made)
    assert (init["exit_after_auth"], sidecar["exit_after_auth"]) == (True, False)
    assert (init["template"][0]["error_fatal"], sidecar["template"][0]["error_fatal"]) == (True, False)
    assert (init["auto_auth"]["method"][0]["exit_on_err"], "exit_on_err" in sidecar["auto_auth"]["method"][0]) == (
        True,
        False,
    )


@pytest.mark.parametrize(
    ("rotation", "interval"),
    [
        ({"pollInterval": "100ms"}, "1s"),
        ({"pollInterval": "1500ms"}, "2s"),
        ({"pollInterval": "1m"}, "60s"),
        ({"pollInterval": "1s", "minInterval": "5s"}, "5s"),
    ],
)
def test_the_agent_looks_in_whole_seconds_and_never_without_a_pause(rotation: dict[str, str], interval: str) -> None:
    made = settings_in(mutated(pod(), view(wanted(rotation=rotation))))
    assert made["template_config"]["static_secret_render_interval"] == interval


def test_the_login_is_that_of_the_interceptor() -> None:
    auth = {"method": "jwt", "mount": "clusters/a"}
    made = settings_in(mutated(pod(), view(wanted(secret(auth=auth, namespace="admin/team")))))
    (method,) = made["auto_auth"]["method"]
    assert (method["type"], method["mount_path"], method["namespace"]) == ("jwt", "auth/clusters/a", "admin/team")
    assert method["config"]["role"] == "app"
    assert method["config"]["remove_jwt_after_reading"] is False
    assert "sinks" not in made["auto_auth"]


# Refusals


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


# Forged


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
