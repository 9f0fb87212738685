"""Admission reviews as an API server sends them, of pods as a deployment's controller makes them. Pure.

A review has what real ones have: defaults filled in, environment, probes, managed fields, the service-account volume.
What makes it large is what makes real pods large: containers with much environment.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kernelsecret.names import ANNOTATION_INJECT, ANNOTATION_INJECT_ANY

UID: Final = "00000000-0000-4000-8000-000000000000"
"""The load generator puts a number of its own into the last twelve digits."""
TEAMS: Final = 200
ZONES: Final = ("a", "b", "c")
CONTAINERS: Final = {5: 1, 20: 3, 50: 6}
"""Of a pod whose review has so many KB."""

_PROBE = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10}
_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]


def team(number: int) -> str:
    """A namespace, the label of it, and the interceptor that selects it."""
    return f"team-{number % TEAMS:03}"


def pod(number: int, environment: int, containers: int) -> dict[str, Any]:
    """A pod that asks: every other one by the interceptor's name; a third each has a node selector, an affinity, none.
    `environment` is the number of variables in each container.
    """
    name = team(number)
    spec: dict[str, Any] = {
        "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"sources": _ACCOUNT, "defaultMode": 420}}],
        "containers": [_container(f"c{place}", environment) for place in range(containers)],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
        "schedulerName": "default-scheduler",
        "tolerations": _TOLERATIONS,
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    zone = ZONES[number // 3 % len(ZONES)]
    if number % 3 == 0:
        spec["nodeSelector"] = {"topology.kubernetes.io/zone": zone}
    elif number % 3 == 1:
        term = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"web-{number}-5d4f8c7b9-",
            "namespace": name,
            "labels": {"app.kubernetes.io/name": "web", "pod-template-hash": "5d4f8c7b9"},
            "annotations": {ANNOTATION_INJECT: name if number % 2 else ANNOTATION_INJECT_ANY},
        },
        "spec": spec,
    }


_ACCOUNT = [
    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]


def _container(name: str, environment: int) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.com/shop/{name}:1.27.4",
        "env": [
            {"name": f"SETTING_{number:03}", "value": f"value-{number}-{'v' * 24}"} for number in range(environment)
        ],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [
            {
                "name": "kube-api-access-x7k2p",
                "readOnly": True,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            }
        ],
        "livenessProbe": _PROBE,
        "readinessProbe": _PROBE,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
    }


def _managed(thing: Mapping[str, Any]) -> dict[str, Any]:
    """Who set which field, as the API server notes it for every field of the spec."""
    containers = {}
    for container in thing["spec"]["containers"]:
        fields: dict[str, Any] = {f"f:{field}": {} for field in container}
        fields["f:env"] = {
            f'k:{{"name":"{variable["name"]}"}}': {".": {}, "f:name": {}} for variable in container["env"]
        }
        containers[f'k:{{"name":"{container["name"]}"}}'] = fields
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:generateName": {}}, "f:spec": {"f:containers": containers}},
    }


def review(thing: Mapping[str, Any]) -> bytes:
    """The review of a pod's creation."""
    metadata = {**thing["metadata"], "managedFields": [_managed(thing)]}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": UID,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "namespace": thing["metadata"]["namespace"],
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        },
        "object": {**thing, "metadata": metadata, "status": {}},
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    document = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(document, separators=(",", ":")).encode()


def reviews(kb: int, count: int = TEAMS) -> list[bytes]:
    """Reviews of nearly `kb` KB (of 1,000 bytes), one for each team in turn."""
    containers = CONTAINERS[kb]
    least = len(review(pod(0, 0, containers)))
    each = (len(review(pod(0, 40, containers))) - least) / 40
    environment = max(0, round((kb * 1000 - least) / each))
    return [review(pod(number, environment, containers)) for number in range(count)]


def packed(bodies: Iterable[bytes]) -> bytes:
    """As bench/c/reviews.c reads them."""
    return b"".join(struct.pack("<I", len(body)) + body for body in bodies)
