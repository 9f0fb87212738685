"""Paths of the API server. Names come from requests that others wrote, so each is checked before it becomes a part."""

from __future__ import annotations

import re

from kernelsecret.errors import Code, Refused
from kernelsecret.names import API_VERSION
from kernelsecret.problems import quoted

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def _part(name: str, field: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(Code.INVALID_ARGUMENT, field, f"{quoted(name)} is not the name of an object")
    return name


def _in(group: str, namespace: str, resource: str) -> str:
    return f"{group}/namespaces/{_part(namespace, 'namespace')}/{resource}"


def only(name: str) -> dict[str, str]:
    """The query that makes a collection one object: what a watch of it asks for, where a right may name that object."""
    return {"fieldSelector": f"metadata.name={_part(name, 'name')}"}


def pods(namespace: str = "") -> str:
    """Every pod, or those of one namespace."""
    return _in("/api/v1", namespace, "pods") if namespace else "/api/v1/pods"


def pod(namespace: str, name: str) -> str:
    """One pod."""
    return f"{_in('/api/v1', namespace, 'pods')}/{_part(name, 'name')}"


def pod_status(namespace: str, name: str) -> str:
    """One pod's status, through which its annotations can be changed as well."""
    return f"{pod(namespace, name)}/status"


def nodes() -> str:
    """Every node."""
    return "/api/v1/nodes"


def node(name: str) -> str:
    """One node."""
    return f"{nodes()}/{_part(name, 'name')}"


def namespaces() -> str:
    """Every namespace."""
    return "/api/v1/namespaces"


def namespace(name: str) -> str:
    """One namespace."""
    return f"{namespaces()}/{_part(name, 'name')}"


def interceptors() -> str:
    """Every SecretInterceptor."""
    return f"/apis/{API_VERSION}/secretinterceptors"


def interceptor(name: str) -> str:
    """One SecretInterceptor."""
    return f"{interceptors()}/{_part(name, 'name')}"


def interceptor_status(name: str) -> str:
    """The status of one SecretInterceptor."""
    return f"{interceptor(name)}/status"


def deployment(namespace: str, name: str) -> str:
    """One Deployment."""
    return f"{_in('/apis/apps/v1', namespace, 'deployments')}/{_part(name, 'name')}"


def secrets(namespace: str) -> str:
    """The Secrets of a namespace."""
    return _in("/api/v1", namespace, "secrets")


def secret(namespace: str, name: str) -> str:
    """One Secret."""
    return f"{secrets(namespace)}/{_part(name, 'name')}"


def config_maps(namespace: str) -> str:
    """The ConfigMaps of a namespace."""
    return _in("/api/v1", namespace, "configmaps")


def config_map(namespace: str, name: str) -> str:
    """One ConfigMap."""
    return f"{config_maps(namespace)}/{_part(name, 'name')}"


def events(namespace: str) -> str:
    """The Events of a namespace (events.k8s.io)."""
    return _in("/apis/events.k8s.io/v1", namespace, "events")


def event(namespace: str, name: str) -> str:
    """One Event."""
    return f"{events(namespace)}/{_part(name, 'name')}"


def leases(namespace: str) -> str:
    """The Leases of a namespace."""
    return _in("/apis/coordination.k8s.io/v1", namespace, "leases")


def lease(namespace: str, name: str) -> str:
    """One Lease."""
    return f"{leases(namespace)}/{_part(name, 'name')}"


def token_reviews() -> str:
    """Where a token is judged (create only)."""
    return "/apis/authentication.k8s.io/v1/tokenreviews"


def mutating_configuration(name: str) -> str:
    """One MutatingWebhookConfiguration."""
    return f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{_part(name, 'name')}"


def validating_configuration(name: str) -> str:
    """One ValidatingWebhookConfiguration."""
    return f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{_part(name, 'name')}"
