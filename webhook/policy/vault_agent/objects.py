"""What mode `vault-agent` puts into a pod: two containers, two volumes and the annotations that carry the settings.

Both containers fit the Pod Security Standard `restricted`; neither has a secret or a token in its arguments or its
environment. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import (
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_AGENT_INIT,
    ANNOTATION_VAULT_CA,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    VOLUME_NAME,
    VOLUME_VAULT_AGENT,
)
from kernelsecret.quantities import size
from webhook.policy.vault_agent.configuration import configuration
from webhook.policy.vault_agent.ownership import Ownership
from webhook.policy.vault_agent.paths import CA_FILE, FILES, OWN, SETTINGS_FILE, SETTINGS_FILE_INIT, TOKEN_FILE
from webhook.policy.vault_agent.settings import VaultAgentSettings

TOKEN_LIVES_S: Final = 600
"""kubelet brings another before it ends; the agent reads it anew for each login."""
_FILE_MODE: Final = 0o444


def settings_annotations(interceptor: SecretInterceptor, settings: VaultAgentSettings, path: str) -> dict[str, str]:
    """The settings of both containers, and the certificates that Vault is trusted by where there are own ones."""
    made = {
        ANNOTATION_VAULT_AGENT: configuration(interceptor.spec, settings, path, init=False),
        ANNOTATION_VAULT_AGENT_INIT: configuration(interceptor.spec, settings, path, init=True),
    }
    return made | ({ANNOTATION_VAULT_CA: settings.ca_pem} if settings.ca_pem else {})


def files_volume(interceptor: SecretInterceptor) -> dict[str, Any]:
    """Where the files are: in memory, and no larger than the interceptor allows."""
    most = size(interceptor.spec.limits.pod.bytes_)
    return {"name": VOLUME_NAME, "emptyDir": {"medium": "Memory", "sizeLimit": str(most)}}


def agent_volume(interceptor: SecretInterceptor, settings: VaultAgentSettings) -> dict[str, Any]:
    """What the agent reads: its settings out of the pod's annotations, and the pod's token for Vault."""
    source = interceptor.spec.secrets[0].source.vault
    assert source is not None
    shown = {SETTINGS_FILE: ANNOTATION_VAULT_AGENT, SETTINGS_FILE_INIT: ANNOTATION_VAULT_AGENT_INIT}
    if settings.ca_pem:
        shown[_name(CA_FILE)] = ANNOTATION_VAULT_CA
    items = [
        {"path": name, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{annotation}']"}}
        for name, annotation in shown.items()
    ]
    token = {"path": _name(TOKEN_FILE), "audience": source.auth.audience, "expirationSeconds": TOKEN_LIVES_S}
    sources = [{"downwardAPI": {"items": items}}, {"serviceAccountToken": token}]
    return {"name": VOLUME_VAULT_AGENT, "projected": {"defaultMode": _FILE_MODE, "sources": sources}}


def containers(settings: VaultAgentSettings, owner: Ownership) -> tuple[dict[str, Any], dict[str, Any]]:
    """The init container that renders once and ends, and the sidecar (an init container that is always restarted)."""
    init = _container(CONTAINER_VAULT_AGENT_INIT, SETTINGS_FILE_INIT, settings, owner)
    sidecar = _container(CONTAINER_VAULT_AGENT, SETTINGS_FILE, settings, owner) | {"restartPolicy": "Always"}
    return init, sidecar


def _container(name: str, file: str, settings: VaultAgentSettings, owner: Ownership) -> dict[str, Any]:
    security: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": owner.user,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if owner.group is not None:
        security["runAsGroup"] = owner.group
    return {
        "name": name,
        "image": settings.image,
        "command": ["vault", "agent", f"-config={OWN}/{file}", "-log-level=info"],
        # The program ends where it cannot tell its home, though nothing of it is read.
        "env": [{"name": "HOME", "value": OWN}],
        "resources": {
            "requests": {"cpu": settings.cpu_request, "memory": settings.memory_request},
            "limits": {"memory": settings.memory_limit},
        },
        "securityContext": security,
        # What it said last is in the pod's status, where it ends with an error.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": VOLUME_NAME, "mountPath": FILES},
            {"name": VOLUME_VAULT_AGENT, "mountPath": OWN, "readOnly": True},
        ],
    }


def _name(path: str) -> str:
    return path.rpartition("/")[2]
