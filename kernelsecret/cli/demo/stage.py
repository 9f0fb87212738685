"""What the demonstration plays on: one folder with all that an agent needs, objects of a cluster, and a secret."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.csi.client import target_path_of
from agent.model import PodRef
from agent.settings import Settings
from kernelsecret.names import (
    ANNOTATION_INJECT,
    ANNOTATION_INJECT_ANY,
    API_VERSION,
    ATTRIBUTE_INTERCEPTOR,
    DRIVER_NAME,
    KIND_INTERCEPTOR,
    LABEL_INJECT,
    LABEL_INJECT_ENABLED,
)

NODE = "demo"
NAMESPACE = "shop"
SECRET = "shop/database"  # noqa: S105 (its name)
VOLUME = "database"
FILES = ("username", "password")
UID_BEGINS = "de30de30"
"""So do all pod UIDs of a demonstration: its cgroups can be told from others on a busy node."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod that may read the secret, and its volume. `access` is the rule that its interceptor sets."""

    pod: PodRef
    access: str
    volume_id: str
    target: Path

    @property
    def interceptor(self) -> str:
        """The name of the tenant's interceptor."""
        return f"database-{self.access}"


def new_uid() -> str:
    """A pod's UID."""
    return UID_BEGINS + str(uuid.uuid4())[len(UID_BEGINS) :]


class Stage:
    """The folder. `strike` removes it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="kernelsecret-demo-"))
        self.payments = self._tenant("payments", "app")
        self.orders = self._tenant("orders", "main")
        self._version = 0
        self._secret = self.root / "secrets" / SECRET
        self._secret.mkdir(mode=0o700, parents=True)
        for kind in ("pods", "namespaces", "interceptors", "registrations"):
            (self.root / "cluster" / kind).mkdir(mode=0o700, parents=True)
        for tenant in (self.payments, self.orders):
            tenant.target.parent.mkdir(mode=0o750, parents=True)

    def flags(self, engine: str) -> dict[str, str]:
        """The agent's settings, all of them in this folder."""
        return {
            "node": NODE,
            "run_dir": str(self.root / "run"),
            "kubelet_dir": str(self.root / "kubelet"),
            "file_source_dir": str(self.root / "secrets"),
            "cluster": "files",
            "cluster_dir": str(self.root / "cluster"),
            "audit_log": str(self.root / "audit.jsonl"),
            "http_address": "127.0.0.1:0",
            "engine": engine,
        }

    def settings(self, engine: str) -> Settings:
        """As the agent will understand its flags; nothing of the caller's environment is in it."""
        return Settings.load({}, self.flags(engine))

    def write_cluster(self, *, unenforced: bool) -> None:
        """The objects that admission would have made; `unenforced` waives the access rule in writing."""
        meta = {"name": NAMESPACE, "labels": {LABEL_INJECT: LABEL_INJECT_ENABLED}}
        self._write("namespaces", NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        for tenant in (self.payments, self.orders):
            self._write("pods", f"{NAMESPACE}.{tenant.pod.name}", _pod(tenant))
            self._write("interceptors", tenant.interceptor, _interceptor(tenant, unenforced=unenforced))
            self._write("registrations", tenant.pod.uid, _registration(tenant))

    def write_secret(self) -> str:
        """A new version of the secret, both keys at once, as kubelet's own writer does it; the user's name in it."""
        self._version += 1
        user = f"payments-{self._version:04}"
        folder = self._secret / f"..{self._version}"
        folder.mkdir(mode=0o700)
        (folder / "username").write_text(f"{user}\n")
        (folder / "password").write_text(f"{self._version:04}-{secrets.token_hex(12)}\n")
        pointer = self._secret / "..data_tmp"
        pointer.symlink_to(folder.name)
        pointer.rename(self._secret / "..data")
        for name in FILES:
            if not (self._secret / name).is_symlink():
                (self._secret / name).symlink_to(f"..data/{name}")
        shutil.rmtree(self._secret / f"..{self._version - 1}", ignore_errors=True)
        return user

    def strike(self) -> list[str]:
        """Remove the folder; what could not be removed."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        left = [point for line in mounts if (point := line.split()[4]).startswith(f"{self.root}/")]
        if not left:
            shutil.rmtree(self.root, ignore_errors=True)
        return left or ([str(self.root)] if self.root.exists() else [])

    def _tenant(self, name: str, access: str) -> Tenant:
        pod = PodRef(NAMESPACE, f"{name}-0", new_uid(), name)
        target = target_path_of(self.root / "kubelet", pod.uid, VOLUME)
        return Tenant(pod, access, f"csi-{secrets.token_hex(32)}", target)

    def _write(self, kind: str, name: str, thing: dict[str, Any]) -> None:
        path = self.root / "cluster" / kind / f"{name}.yaml"
        path.write_text(json.dumps(thing))
        path.chmod(0o600)


def _pod(tenant: Tenant) -> dict[str, Any]:
    attributes = {ATTRIBUTE_INTERCEPTOR: tenant.interceptor}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": tenant.pod.name,
            "namespace": tenant.pod.namespace,
            "uid": tenant.pod.uid,
            "annotations": {ANNOTATION_INJECT: ANNOTATION_INJECT_ANY},
        },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": tenant.pod.service_account,
            "containers": [{"name": "app"}],
            "volumes": [{"name": VOLUME, "csi": {"driver": DRIVER_NAME, "volumeAttributes": attributes}}],
        },
    }


def _interceptor(tenant: Tenant, *, unenforced: bool) -> dict[str, Any]:
    files = [{"path": name, "key": name} for name in FILES]
    return {
        "apiVersion": API_VERSION,
        "kind": KIND_INTERCEPTOR,
        "metadata": {"name": tenant.interceptor},
        "spec": {
            "namespaceSelector": {"matchLabels": {LABEL_INJECT: LABEL_INJECT_ENABLED}},
            "secrets": [{"name": "db", "source": {"file": {"path": SECRET}}, "files": files}],
            "access": {"from": tenant.access, "unenforced": "allow" if unenforced else "refuse"},
        },
    }


def _registration(tenant: Tenant) -> dict[str, Any]:
    return {
        "podUid": tenant.pod.uid,
        "namespace": tenant.pod.namespace,
        "name": tenant.pod.name,
        "serviceAccount": tenant.pod.service_account,
        "interceptor": tenant.interceptor,
        "node": NODE,
        "expiresAt": (datetime.now(UTC) + timedelta(minutes=10)).isoformat(),
        "nonce": secrets.token_hex(16),
    }
