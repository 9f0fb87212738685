"""The whole product around one node: API server, webhook, agent, and a Vault in which pods log in as themselves."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent.csi.client import KubeletClient, publish_message
from bench.tools import Tools
from kernelsecret.names import PUSH_KEYS_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import PATH_PUSH, signed_headers
from tests.agent.tree import Pod
from tests.apiserver.harness import product
from tests.apiserver.harness.cluster import Cluster, lacks
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook, serving
from tests.apiserver.harness.whole import WholeNode
from tests.vault.harness.logins import KubernetesAuth
from tests.vault.harness.programs import lacks_vault
from tests.vault.harness.server import VaultServer

NODE: Final = "bench"
SENDER: Final = "bench"
ROLE: Final = "bench"
ACCOUNT: Final = "default"
AUDIENCES: Final = ("", "vault")


class Pusher:
    """One connection of a sender, kept alive."""

    def __init__(self, port: int, key: bytes) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        self._key = key

    def connect(self) -> None:
        """Now, not with the first push."""
        self._connection.connect()

    def push(self, path: str) -> int:
        """Say that a secret of Vault has changed; the status."""
        body = json.dumps({"secrets": [{"source": "vault", "path": path}]}).encode()
        headers = signed_headers(self._key, SENDER, time.time_ns(), secrets.token_hex(16), body)
        self._connection.request("POST", PATH_PUSH, body, {"Content-Type": "application/json", **headers})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


class PushedWorld:
    """See `started`."""

    def __init__(self, folder: Path, webhook: Webhook, vault: VaultServer) -> None:
        self.webhook, self.vault = webhook, vault
        self.cluster = webhook.cluster
        self.kv = vault.enable("kv", version="2")
        self.key = secrets.token_bytes(32)
        self._tools = Tools(folder / "tools")
        self._readers: list[subprocess.Popen[bytes]] = []
        self.node = WholeNode(webhook, NODE)
        self.login = KubernetesAuth(vault, self.cluster)
        policy = vault.policy(f"{self.kv}/data/*: read", f"{self.kv}/metadata/*: read")
        self.login.add_role(ROLE, NODE, ACCOUNT, policy)
        self.cluster.kubectl.apply(_secret(SYSTEM_NAMESPACE, PUSH_KEYS_OBJECT, {SENDER: self.key}), *_may_read())

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[PushedWorld]:
        """All of it, the agent ready."""
        if lack := lacks() or lacks_vault():
            raise RuntimeError(f"measured in a real cluster: {lack}")
        with tempfile.TemporaryDirectory(prefix="kernelsecret-bench-") as name:
            folder = Path(name)
            for part in ("cluster", "vault"):
                (folder / part).mkdir()
            with Cluster.started(folder / "cluster") as cluster, VaultServer.started(folder / "vault") as vault:
                product.install(cluster)
                with serving(cluster, "webhook-a", agent_port=str(free_port())) as webhook:
                    made = cls(folder, webhook, vault)
                    try:
                        made.node.start(vault_address=vault.url, vault_ca_file=str(vault.ca_file))
                        until(made.node.is_ready, "the agent is ready", explain=made.node.said)
                        until(made.node.label, "the node says its engine", explain=made.node.said)
                        made.node.identified()
                        yield made
                    finally:
                        made.close()

    def path(self, name: str) -> str:
        """The API path of a secret in Vault."""
        return f"{self.kv}/data/{name}"

    def put(self, name: str, value: bytes) -> int:
        """Write the key `key` of a secret in Vault; CLOCK_MONOTONIC ns just before."""
        before = time.monotonic_ns()
        self.vault.write(self.path(name), data={"key": value.decode()})
        return before

    def put_object(self, name: str, value: bytes) -> int:
        """Write the key `key` of a Kubernetes Secret in the pod's namespace; CLOCK_MONOTONIC ns just before."""
        body = _secret(NODE, name, {"key": value})
        before = time.monotonic_ns()
        self.cluster.core.replace_namespaced_secret(name, NODE, body)
        return before

    def create_object(self, name: str, value: bytes) -> None:
        """The Secret for the first time."""
        self.cluster.kubectl.apply(_secret(NODE, name, {"key": value}))

    def source(self, name: str) -> dict[str, Any]:
        """A secret of Vault, read as the pod."""
        return {"vault": {"path": self.path(name), "role": ROLE, "auth": {"mount": self.login.mount}}}

    async def shown(self, name: str, source: dict[str, Any]) -> Pod:
        """A pod that shows the key in the file `value`, and hears of changes by being told, not by polls."""
        secret = {"name": "one", "source": source, "files": [{"path": "value", "key": "key"}]}
        spec = {"secrets": [secret], "rotation": {"pollInterval": "1h"}}
        self.cluster.kubectl.apply(interceptor(name, NODE, **spec))
        pod = self.node.applied(name, name)
        message = publish_message(
            pod.volume_id, pod.target, pod.ref, pod.interceptor, tokens_json=self._tokens(pod.ref.name)
        )
        async with KubeletClient(self.node.csi_socket) as kubelet:
            await kubelet.publish(message)
        return pod

    def reader(self, pod: Pod) -> subprocess.Popen[bytes]:
        """A program in the pod that reads all the time, and tells when it first saw each value."""
        procs = self.node.container(pod) / "cgroup.procs"
        command = [self._tools.path("launch"), procs, "0", self._tools.path("first"), pod.target / "value"]
        self._readers.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, bufsize=0))
        return self._readers[-1]

    def pusher(self) -> Pusher:
        """A connection straight to the replica."""
        [replica] = self.webhook.replicas.values()
        return Pusher(replica.port, self.key)

    def _tokens(self, pod: str) -> str:
        made = {audience: self.cluster.token(NODE, ACCOUNT, audience=audience, pod=pod) for audience in AUDIENCES}
        ends = "2100-01-01T00:00:00Z"
        return json.dumps({name: {"token": token, "expirationTimestamp": ends} for name, token in made.items()})

    def close(self) -> None:
        """End readers and node. Idempotent."""
        for reader in self._readers:
            reader.kill()
            reader.wait()
            if reader.stdout:
                reader.stdout.close()
        self._readers.clear()
        self.node.close()


def _secret(namespace: str, name: str, data: dict[str, bytes]) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": encoded}


def _may_read() -> list[dict[str, Any]]:
    rbac, meta = "rbac.authorization.k8s.io", {"name": "reads-secrets", "namespace": NODE}
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NODE}
    role = {"apiGroup": rbac, "kind": "Role", "name": "reads-secrets"}
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": [subject]},
    ]
