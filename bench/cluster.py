"""The cluster's objects that a scenario needs, as files for the agent's file-backed view. Pure but for `write`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.model import PodRef
from kernelsecret.interceptor import Mode
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECT,
    API_VERSION,
    ATTRIBUTE_INTERCEPTOR,
    DRIVER_NAME,
    KIND_INTERCEPTOR,
    LABEL_INJECT,
    LABEL_INJECT_ENABLED,
)

NODE = "bench"
NAMESPACE = "bench"
FOLDERS = ("pods", "namespaces", "interceptors", "registrations")
Files = Mapping[str, Sequence[tuple[str, str]]]
"""Secret's path -> (file's name, key) of each file that shows it."""
MakeSource = Callable[[str], dict[str, Any]]
"""Secret's path -> where it comes from, as an interceptor says it."""


def namespace() -> dict[str, Any]:
    """The one namespace, opted in."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {LABEL_INJECT: LABEL_INJECT_ENABLED}},
    }


def file_source(path: str) -> dict[str, Any]:
    """A secret of the agent's own folder."""
    return {"file": {"path": path}}


def interceptor(
    name: str, files: Files, access: Mapping[str, Any], mode: str, source: MakeSource = file_source
) -> dict[str, Any]:
    """Shows these files to every pod that asks for it."""
    secrets = [
        {
            "name": f"s{number}",
            "source": source(path),
            "files": [{"path": file, "key": key, "mode": mode} for file, key in shown],
        }
        for number, (path, shown) in enumerate(files.items())
    ]
    return {
        "apiVersion": API_VERSION,
        "kind": KIND_INTERCEPTOR,
        "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {},
            "podSelector": {},
            "delivery": {"modes": [Mode.EBPF, Mode.PRELOAD]},
            "access": dict(access),
            "secrets": secrets,
        },
    }


def pod_object(pod: PodRef, uses: str, mode: Mode = Mode.EBPF) -> dict[str, Any]:
    """A pod with one inline volume."""
    attributes = {ATTRIBUTE_INTERCEPTOR: uses}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "annotations": {ANNOTATION_INJECT: "true", ANNOTATION_CHOSEN_MODE: mode},
        },
        "spec": {
            "serviceAccountName": pod.service_account,
            "nodeName": NODE,
            "containers": [
                {
                    "name": "app",
                    "image": "bench",
                    "volumeMounts": [{"name": "secrets", "mountPath": "/var/run/secrets/bench", "readOnly": True}],
                }
            ],
            "volumes": [
                {"name": "secrets", "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": attributes}}
            ],
        },
    }


def registration(pod: PodRef, uses: str) -> dict[str, Any]:
    """What admission would have said of the pod."""
    return {
        "podUid": pod.uid,
        "namespace": pod.namespace,
        "name": pod.name,
        "serviceAccount": pod.service_account,
        "interceptor": uses,
        "node": NODE,
        "expiresAt": "2100-01-01T00:00:00Z",
        "nonce": "0123456789abcdef",
    }


def write(root: Path, kind: str, name: str, thing: Mapping[str, Any]) -> None:
    """JSON is YAML too."""
    (root / kind / f"{name}.yaml").write_text(json.dumps(thing))
