"""A node whose agent reads from a real Vault, and pods whose tokens Vault believes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.csi.tokens import TOKENS_KEY
from tests.agent.harness import Node
from tests.agent.tokens import brought, claims
from tests.agent.tree import Pod
from tests.vault.harness.logins import AppRoleAuth, JwtAuth
from tests.vault.harness.server import VaultServer

CREDENTIAL = "node"
"""Of the agent's AppRole."""


class VaultNode(Node):
    """As Node. `reads_from` a Vault; pods are of the account `shop/web` unless another one is named."""

    def reads_from(self, vault: VaultServer, *, url: str = "") -> None:
        """The agent's settings name this Vault."""
        self.env |= {
            "KERNELSECRET_VAULT_ADDRESS": url or vault.url,
            "KERNELSECRET_VAULT_CA_FILE": str(vault.ca_file),
        }

    def has_approle(self, auth: AppRoleAuth, role: str, role_id: str) -> None:
        """The agent has a credential of its own."""
        folder = self.base / "approles"
        (folder / CREDENTIAL).mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
        for name, text in (("role-id", role_id), ("secret-id", auth.secret_id(role))):
            path = folder / CREDENTIAL / name
            path.touch(mode=0o600)
            path.write_text(text)
        self.env["KERNELSECRET_VAULT_APPROLE_DIR"] = str(folder)

    def pod_of(self, name: str, source: Mapping[str, Any], *keys: str, account: str = "web", **spec: Any) -> Pod:
        """A pod whose interceptor shows these keys of a secret of Vault."""
        files = [{"path": key, "key": key} for key in keys]
        self.interceptor(name, [{"name": name, "source": {"vault": source}, "files": files}], **spec)
        return self.pod(name, name, account=account)

    async def publish_as(self, pod: Pod, jwt: JwtAuth, **changed: Any) -> None:
        """NodePublishVolume with the pod's own token for Vault."""
        await self.publish(pod, volume_context=self.token(pod, jwt, **changed))

    def token(self, pod: Pod, jwt: JwtAuth, **changed: Any) -> dict[str, str]:
        """The pod's own token for Vault, as kubelet brings it in a volume's context."""
        return {TOKENS_KEY: brought({"vault": token_of(pod, jwt, **changed)})}

    def served(self) -> Sequence[Mapping[str, Any]]:
        """What the status says of secrets."""
        found: Sequence[Mapping[str, Any]] = self.status()["secrets"]
        return found

    def troubles(self) -> dict[str, str]:
        """What is wrong with sources and secrets: subject -> why; the subject `vault` is Vault as a whole."""
        found = self.status()["conditions"]
        return {one["subject"]: one["why"] for one in found if one["reason"] in ("source-down", "rotation-failed")}

    def read(self, pod: Pod, *names: str) -> list[bytes | int]:
        """As a program of the pod."""
        return self.program(pod).read(*(pod.target / name for name in names))


def token_of(pod: Pod, jwt: JwtAuth, **changed: Any) -> str:
    """The pod's own token, signed by whom Vault trusts."""
    said = claims(pod.ref) | changed
    subject = str(said.pop("sub"))
    return jwt.token(subject, **json.loads(json.dumps(said)))


def as_pod(jwt: JwtAuth, path: str, role: str, **more: Any) -> dict[str, Any]:
    """A source that is read as the pod."""
    return {"path": path, "role": role, "auth": {"method": "jwt", "mount": jwt.mount}, **more}


def as_agent(auth: AppRoleAuth, path: str, **more: Any) -> dict[str, Any]:
    """A source that is read with the agent's AppRole."""
    return {"path": path, "auth": {"method": "appRole", "mount": auth.mount, "credential": CREDENTIAL}, **more}
