"""A node whose secrets come from a real Vault, by an AppRole of the agent's: no API server is needed for it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.world import Pod, World
from tests.vault.harness.logins import AppRoleAuth
from tests.vault.harness.programs import lacks_vault
from tests.vault.harness.server import VaultServer

CREDENTIAL: Final = "bench"


class VaultWorld:
    """See `started`."""

    def __init__(self, folder: Path, vault: VaultServer) -> None:
        self.vault = vault
        self.kv = vault.enable("kv", version="2")
        self.rules = [f"{self.kv}/data/*: read", f"{self.kv}/metadata/*: read", "sys/leases/revoke: update"]
        self.policy = vault.policy(*self.rules)
        self.login = AppRoleAuth(vault)
        self.role_id = self.login.add_role("agent", self.policy)
        self._folder = folder / "approle" / CREDENTIAL
        self._folder.mkdir(parents=True, mode=0o700)
        self._folder.parent.chmod(0o700)
        for name, text in (("role-id", self.role_id), ("secret-id", self.login.secret_id("agent"))):
            file = self._folder / name
            file.touch(mode=0o600)
            file.write_text(text)
        self.world = World(
            {
                "VAULT_ADDRESS": vault.url,
                "VAULT_CA_FILE": vault.ca_file,
                "VAULT_APPROLE_DIR": self._folder.parent,
            }
        )

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[VaultWorld]:
        """A Vault, and a node without an agent yet."""
        if lack := lacks_vault():
            raise RuntimeError(f"measured with a real Vault: {lack}")
        with tempfile.TemporaryDirectory(prefix="kernelsecret-bench-vault-") as name:
            folder = Path(name)
            (folder / "vault").mkdir()
            with VaultServer.started(folder / "vault") as vault:
                made = cls(folder, vault)
                with made.world:
                    yield made

    def allow(self, *rules: str) -> None:
        """Let the agent do more in Vault."""
        self.rules += rules
        self.vault.set_policy(self.policy, *self.rules)

    def source(self, path: str) -> dict[str, Any]:
        """A secret of the API path, read with the AppRole."""
        auth = {"method": "appRole", "mount": self.login.mount, "credential": CREDENTIAL}
        return {"vault": {"path": path, "auth": auth}}

    def data(self, name: str) -> str:
        """The API path of a secret in the KV engine."""
        return f"{self.kv}/data/{name}"

    def put(self, name: str, value: bytes) -> int:
        """Write the key `key` of a secret in KV; CLOCK_MONOTONIC ns just before."""
        before = time.monotonic_ns()
        self.vault.write(self.data(name), data={"key": value.decode()})
        return before

    def shown(self, interceptor: str, *names: str) -> Pod:
        """A pod with a published volume of these KV secrets, each one a file of its name."""
        self.world.interceptor(interceptor, {self.data(name): [(name, "key")] for name in names}, source=self.source)
        pod = self.world.add_pod(interceptor)
        self.world.publish(pod)
        return pod
