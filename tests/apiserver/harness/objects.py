"""Objects as users write them: the least that is valid, with what a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernelsecret.names import ANNOTATION_INJECT, API_VERSION, KIND_INTERCEPTOR, LABEL_INJECT, LABEL_INJECT_ENABLED

OPTED_IN: Mapping[str, str] = {LABEL_INJECT: LABEL_INJECT_ENABLED}
"""Labels of a namespace whose pods may opt in."""

OF_VAULT: Mapping[str, Any] = {
    "name": "db",
    "source": {"vault": {"path": "secret/data/db", "role": "shop"}},
    "files": [{"path": "password", "key": "password"}],
}
"""An entry of an interceptor's secrets, of a Vault."""


def interceptor(name: str, namespace: str = "nowhere", **spec: Any) -> dict[str, Any]:
    """A SecretInterceptor that selects all pods of one namespace; `spec` is added to its own."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    secret = {
        "name": "db",
        "source": {"file": {"path": "shop/db"}},
        "files": [{"path": "password", "key": "password"}],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND_INTERCEPTOR,
        "metadata": {"name": name},
        "spec": {"namespaceSelector": selector, "secrets": [secret], **spec},
    }


def pod(
    name: str = "app",
    inject: str | None = None,
    *,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    containers: Sequence[Mapping[str, Any]] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod; `inject` is its opt-in, `name` may end in '-' for generateName."""
    named = {"generateName": name} if name.endswith("-") else {"name": name}
    noted = ({ANNOTATION_INJECT: inject} if inject is not None else {}) | dict(annotations or {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**named, "annotations": noted, "labels": dict(labels or {})},
        "spec": {"containers": list(containers or [container("app")]), **spec},
    }


def container(name: str, **more: Any) -> dict[str, Any]:
    """A container."""
    return {"name": name, "image": f"example.com/{name}:1", **more}


def namespace(name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}


def account(name: str, namespace: str) -> dict[str, Any]:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
