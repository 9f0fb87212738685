"""Interceptors and pods in mode `vault-agent` for tests, patched as admission does it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import VOLUME_NAME
from kernelsecret.validation import read_interceptor
from tests.needs import need
from tests.unit.webhook.json_patch import apply
from tests.vault.harness.agent_pod import AgentPod
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from webhook.policy.pods import read_pod
from webhook.policy.vault_agent.patch import operations
from webhook.policy.vault_agent.refusals import problem
from webhook.policy.vault_agent.settings import VaultAgentSettings

NAME: Final = "payments-db"
PATH: Final = f"/var/run/secrets/{NAME}"
SUBJECT: Final = "system:serviceaccount:payments:api"
ROLE: Final = "app"
USER: Final = 1000


def secret(jwt: JwtAuth, path: str, *files: dict[str, Any], name: str = "db", **source: Any) -> dict[str, Any]:
    """One of `spec.secrets`, read as ROLE."""
    auth = {"method": "jwt", "mount": jwt.mount}
    return {
        "name": name,
        "source": {"vault": {"path": path, "role": ROLE, "auth": auth, **source}},
        "files": list(files),
    }


def interceptor(*secrets: dict[str, Any], **spec: Any) -> SecretInterceptor:
    """One whose only mode is `vault-agent`."""
    made: dict[str, Any] = {
        "namespaceSelector": {},
        "secrets": list(secrets),
        "delivery": {"modes": ["vault-agent"]},
        "access": {"unenforced": "allow"},
    }
    return read_interceptor(
        {
            "apiVersion": "kernelsecret.io/v1alpha1",
            "kind": "SecretInterceptor",
            "metadata": {"name": NAME},
            "spec": made | spec,
        }
    )


def pod(**spec: Any) -> dict[str, Any]:
    """One container that has the files mounted, as admission leaves it; USER runs it unless `spec` says otherwise."""
    mount = {"name": VOLUME_NAME, "mountPath": PATH, "readOnly": True}
    made: dict[str, Any] = {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [mount]}],
        "securityContext": {"runAsUser": USER, "runAsGroup": USER},
    }
    return {"metadata": {"name": "api-1", "namespace": "payments", "annotations": {}}, "spec": made | spec}


def settings_of(vault: VaultServer, **changes: Any) -> VaultAgentSettings:
    """What the webhook is told of a Vault."""
    made = VaultAgentSettings(address=vault.url, image="vault:test", ca_pem=vault.ca_file.read_text())
    return made._replace(**changes)


def patched(given: dict[str, Any], wanted: SecretInterceptor, settings: VaultAgentSettings) -> dict[str, Any]:
    """The pod with all that the mode adds."""
    read = read_pod(msgspec.json.encode(given))
    assert problem(read, wanted, settings) is None
    made: dict[str, Any] = apply(given, msgspec.to_builtins(operations(read, wanted, settings, PATH)))
    return made


@contextmanager
def running(
    folder: Path,
    vault: VaultServer,
    token: str,
    wanted: SecretInterceptor,
    *,
    given: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[AgentPod]:
    """A pod whose containers are not started yet; all that were end with the block."""
    need(os.geteuid() == 0, "root, for mount namespaces")
    made = AgentPod(folder, patched(given or pod(), wanted, settings_of(vault, **settings)), token)
    try:
        yield made
    finally:
        made.close()


def may(vault: VaultServer, jwt: JwtAuth, *rules: str, **settings: Any) -> str:
    """A token of the pod's account, which ROLE gives these rights."""
    jwt.add_role(ROLE, SUBJECT, vault.policy(*rules), **settings)
    return jwt.token(SUBJECT)


def rotate(vault: VaultServer, kv: str, **data: Any) -> None:
    """Write the secret `db` anew."""
    vault.write(f"{kv}/data/db", data=data)


def file(path: str, key: str = "", **more: Any) -> dict[str, Any]:
    """One of `files`; without more it shows the key of its own name."""
    return {"path": path, **({} if "template" in more else {"key": key or path}), **more}


def files(*names: str) -> Sequence[dict[str, Any]]:
    """Files that show the keys of their names."""
    return [file(name) for name in names]
