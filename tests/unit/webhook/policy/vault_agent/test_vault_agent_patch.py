from __future__ import annotations

from typing import Any

import pytest

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
from tests.unit.webhook.builders import MOUNT_PATH, mutated, pod, validation
from tests.unit.webhook.policy.vault_agent.given import SETTINGS, secret, settings_in, view, wanted


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
