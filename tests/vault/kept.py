"""Secrets in KV v2, each with a right of its own, and a pod that shows them all."""

from __future__ import annotations

from dataclasses import dataclass

from tests.agent.tree import Pod
from tests.vault.doors import SUBJECT
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from tests.vault.nodes import VaultNode, as_pod


def value(name: str, number: int) -> str:
    """As the reader in the pod takes it for whole, whichever of them it meets."""
    return f"steady:{name}-{number}:end"


@dataclass
class Kept:
    """Secrets in KV v2, each with a policy and a role of its own and its own name, shown by one pod."""

    vault: VaultServer
    jwt: JwtAuth
    kv: str
    policies: dict[str, str]

    @classmethod
    def of(cls, vault: VaultServer, *names: str) -> Kept:
        kv, jwt = vault.enable("kv", version="2"), JwtAuth(vault)
        kept = cls(vault, jwt, kv, {name: vault.policy() for name in names})
        for name in names:
            kept.write(name, 1)
            kept.allow(name)
            kept.admit(name)
        return kept

    def write(self, name: str, number: int) -> None:
        self.vault.write(f"{self.kv}/data/{name}", data={"value": value(name, number)})

    def allow(self, name: str) -> None:
        rules = (f"{self.kv}/{kind}/{name}: read" for kind in ("data", "metadata"))
        self.vault.set_policy(self.policies[name], *rules)

    def admit(self, name: str) -> None:
        """Tokens of the role `removed` end every two seconds, so that it is missed soon."""
        life = {"token_ttl": "2s", "token_max_ttl": "2s"} if name == "removed" else {}
        self.jwt.add_role(name, SUBJECT, self.policies[name], **life)

    async def shown_by(self, node: VaultNode) -> Pod:
        secrets = [
            {
                "name": name,
                "source": {"vault": as_pod(self.jwt, f"{self.kv}/data/{name}", name)},
                "files": [{"path": name, "key": "value"}],
            }
            for name in self.policies
        ]
        node.interceptor("all", secrets)
        pod = node.pod("all", "all")
        await node.publish_as(pod, self.jwt)
        return pod
