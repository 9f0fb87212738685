"""A real API server takes pods in mode `vault-agent` where the strictest standard is enforced, and keeps them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.apiserver.harness.cluster import Cluster
from tests.vault.agent_pods import PATH, file, interceptor, patched, pod, secret
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer, new_path
from webhook.policy.pods import read_pod
from webhook.policy.vault_agent.forged import changed, differences
from webhook.policy.vault_agent.patch import operations
from webhook.policy.vault_agent.refusals import problem
from webhook.policy.vault_agent.settings import VaultAgentSettings

SETTINGS = VaultAgentSettings("https://vault.test:8200", "vault:1.21.4", ca_pem="-----BEGIN CERTIFICATE-----\n")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"securityContext": None},
        {"securityContext": {"fsGroup": 7}, "initContainers": [{"name": "first", "image": "x:1"}]},
        {"shareProcessNamespace": True},
        {"restartPolicy": "Never"},
    ],
    ids=["one-user", "no-user", "fs-group", "signal", "job"],
)
def test_a_patched_pod_is_taken_where_the_restricted_standard_is_enforced_and_stays_what_it_is(
    cluster: Cluster, vault: VaultServer, jwt: JwtAuth, spec: dict[str, Any]
) -> None:
    namespace = new_path("payments")
    kubectl = cluster.namespace(namespace, {"pod-security.kubernetes.io/enforce": "restricted"})
    cluster.account(namespace, "api")
    notify = {"rotation": {"notify": {"signal": "SIGHUP"}}} if "shareProcessNamespace" in spec else {}
    files = [file("password"), file("config", "config", jsonPointer="/a~1b/0")]
    wanted = interceptor(secret(jwt, "secret/data/db", *files), **notify)
    given = pod(**spec)
    if given["spec"]["securityContext"] is None:
        del given["spec"]["securityContext"]
    given = {"apiVersion": "v1", "kind": "Pod", **given}
    given["metadata"]["namespace"] = namespace
    given["spec"]["serviceAccountName"] = "api"
    for one in (*given["spec"].get("initContainers", ()), *given["spec"]["containers"]):
        one["securityContext"] = RESTRICTED
    kubectl.apply(patched(given, wanted, SETTINGS))
    stored = kubectl.get("pod", "api-1")
    first, second = stored["spec"]["initContainers"][:2]
    assert (first.get("restartPolicy"), second["restartPolicy"]) == (None, "Always")
    read = read_pod(msgspec.json.encode(stored))
    assert problem(read, wanted, SETTINGS) is None
    assert operations(read, wanted, SETTINGS, PATH) == []
    assert differences(read, wanted, SETTINGS, PATH) == []
    kubectl("set", "image", "pod/api-1", f"{second['name']}=evil:1")
    after = read_pod(msgspec.json.encode(kubectl.get("pod", "api-1")))
    (found,) = changed(read, after)
    assert found.field == "spec.initContainers[1].image"
