"""A node's files in one folder: secrets, the cluster's objects, kubelet's directory. Only what the agent reads."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.csi.client import target_path_of
from agent.model import PodRef
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECT,
    API_VERSION,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    ATTRIBUTE_SHIM_YES,
    DRIVER_NAME,
    VOLUME_SHIM,
)

NODE = "node1"
VOLUME, SECOND_VOLUME = "secrets", "more"
NAMESPACE = "shop"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as kubelet knows it, and the volume of ours that it has."""

    ref: PodRef
    interceptor: str | None
    """None for the volume of the shim."""
    target: Path
    volume_id: str = field(default_factory=lambda: f"csi-{uuid.uuid4().hex}{uuid.uuid4().hex}")

    def second(self) -> Pod:
        """The same pod's other volume."""
        target = self.target.parent.parent / SECOND_VOLUME / "mount"
        target.parent.mkdir(parents=True, exist_ok=True)
        return Pod(self.ref, self.interceptor, target)


class Tree:
    """Writes what an administrator, the API server and kubelet would have written."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.secrets, self.cluster, self.kubelet = base / "secrets", base / "cluster", base / "kubelet"
        self.run, self.audit = base / "run", base / "audit.jsonl"
        for kind in ("pods", "namespaces", "interceptors", "registrations"):
            (self.cluster / kind).mkdir(parents=True)
        self.secrets.mkdir()
        (self.kubelet / "plugins_registry").mkdir(parents=True)
        (self.kubelet / "pods").mkdir()
        self.namespace(NAMESPACE)
        self._versions = 0

    def namespace(self, name: str, inject: str = "enabled") -> None:
        """A namespace that opted in, or did not."""
        labels = {"kernelsecret.io/inject": inject}
        self._write("namespaces", name, {"apiVersion": "v1", "kind": "Namespace", "metadata": _named(name, labels)})

    def secret(self, path: str, values: Mapping[str, bytes]) -> None:
        """A new version of a secret, all keys in one step as kubelet's writer does it; older versions go."""
        folder = self.secrets / path
        folder.mkdir(parents=True, exist_ok=True)
        self._versions += 1
        version = folder / f"..{self._versions}"
        version.mkdir()
        for key, value in values.items():
            (version / key).write_bytes(value)
        previous = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else None
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")
        for key in values:
            if not (folder / key).is_symlink():
                (folder / key).symlink_to(f"..data/{key}")
        for link in folder.iterdir():
            if not link.name.startswith("..") and link.name not in values:
                link.unlink()
        if previous:
            for old in (folder / previous).iterdir():
                old.unlink()
            (folder / previous).rmdir()

    def interceptor(self, name: str, secrets: Sequence[Mapping[str, Any]], **spec: Any) -> None:
        """A SecretInterceptor that takes every pod; `spec` overrides fields of its spec."""
        whole = {
            "namespaceSelector": {},
            "podSelector": {},
            "access": {"from": "any"},
            "secrets": list(secrets),
            **spec,
        }
        thing = {"apiVersion": API_VERSION, "kind": "SecretInterceptor", "metadata": {"name": name}, "spec": whole}
        self._write("interceptors", name, thing)

    def no_interceptor(self, name: str) -> None:
        """It is deleted."""
        (self.cluster / "interceptors" / f"{name}.yaml").unlink()

    def annotate(self, pod: Pod, inject: str) -> None:
        """Another `inject` annotation on a pod that runs."""
        self.change_pod(pod, lambda thing: thing["metadata"]["annotations"].update({ANNOTATION_INJECT: inject}))

    def change_pod(self, pod: Pod, change: Callable[[dict[str, Any]], None]) -> None:
        """The pod's object, as if the API server had another one."""
        path = f"{pod.ref.namespace}.{pod.ref.name}"
        thing = json.loads((self.cluster / "pods" / f"{path}.yaml").read_text())
        change(thing)
        self._write("pods", path, thing)

    def preload(self, pod: Pod, mode: str = "preload") -> Pod:
        """What admission adds for the mode: the annotation, and the shim's volume, which is returned."""
        csi = {
            "driver": DRIVER_NAME,
            "readOnly": True,
            "volumeAttributes": {ATTRIBUTE_SHIM: ATTRIBUTE_SHIM_YES},
        }

        def change(thing: dict[str, Any]) -> None:
            thing["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] = mode
            thing["spec"]["volumes"].append({"name": VOLUME_SHIM, "csi": csi})

        self.change_pod(pod, change)
        target = target_path_of(self.kubelet, pod.ref.uid, VOLUME_SHIM)
        target.parent.mkdir(parents=True, exist_ok=True)
        return Pod(pod.ref, None, target)

    def pod(
        self, name: str, interceptor: str, *, namespace: str = NAMESPACE, account: str = "web", **registered: str
    ) -> Pod:
        """A pod with a volume (and room for a second), bound to this node; `registered` overrides its registration."""
        uid = str(uuid.uuid4())
        ref = PodRef(namespace, name, uid, account)
        csi = {
            "driver": "csi.kernelsecret.io",
            "readOnly": True,
            "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: interceptor},
        }
        volumes = (VOLUME, SECOND_VOLUME)
        mounts = [{"name": name, "mountPath": f"/var/run/secrets/{name}", "readOnly": True} for name in volumes]
        spec = {
            "serviceAccountName": account,
            "nodeName": NODE,
            "containers": [{"name": "app", "image": "x", "volumeMounts": mounts}],
            "volumes": [{"name": name, "csi": csi} for name in volumes],
        }
        metadata = {"namespace": namespace, "uid": uid, "annotations": {"kernelsecret.io/inject": "true"}}
        thing = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}
        self._write("pods", f"{namespace}.{name}", thing)
        registration = {
            "podUid": uid,
            "namespace": namespace,
            "name": name,
            "serviceAccount": account,
            "interceptor": interceptor,
            "node": NODE,
            "expiresAt": "2099-01-01T00:00:00Z",
            "nonce": "0123456789abcdef",
        }
        self._write("registrations", uid, registration | registered)
        target = target_path_of(self.kubelet, uid, VOLUME)
        target.parent.mkdir(parents=True)
        return Pod(ref, interceptor, target)

    def _write(self, kind: str, name: str, thing: Mapping[str, Any]) -> None:
        path = self.cluster / kind / f"{name}.yaml"
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(thing))
        unfinished.rename(path)


def files_of(secret: str, *keys: str, name: str = "db") -> dict[str, Any]:
    """An entry of `spec.secrets`: each key as a file of its own name."""
    return {
        "name": name,
        "source": {"file": {"path": secret}},
        "files": [{"path": key, "key": key} for key in keys],
    }


def _named(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": dict(labels)}
