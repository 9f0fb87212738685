"""Pods, reviews and a small cluster as plain data, for tests to change one thing in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import ANNOTATION_INJECT, LABEL_ENGINE, LABEL_INJECT
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import MISSING, example
from tests.unit.webhook.json_patch import apply
from webhook.admission.answer import Answer
from webhook.admission.mutate import mutate
from webhook.admission.validate import validate
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Node, Nodes
from webhook.policy.view import FixedView, View

NAMESPACE = "payments"
NAME = "payments-db"
MOUNT_PATH = "/var/run/secrets/payments-db"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
OPTED_IN = {LABEL_INJECT: "enabled", "kubernetes.io/metadata.name": NAMESPACE}
TOKEN_MOUNT = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}


def pod(annotations: Mapping[str, str] | None = None, **spec: Any) -> Any:
    """A pod that opts in, as the API server shows it to a mutating webhook; `spec` changes fields, MISSING removes."""
    made: dict[str, Any] = {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [TOKEN_MOUNT]}],
        "volumes": [{"name": "token", "projected": {"sources": []}}],
        "serviceAccountName": "api",
    }
    made.update(spec)
    wanted = {ANNOTATION_INJECT: "true"} if annotations is None else dict(annotations)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "api-",
            "namespace": NAMESPACE,
            "creationTimestamp": None,
            "labels": {"app": "api"},
            "annotations": wanted,
        },
        "spec": {key: value for key, value in made.items() if value is not MISSING},
    }


def interceptor(name: str = NAME, **fields: Any) -> SecretInterceptor:
    """The documented one; `fields` are parts of its spec by their names on the wire."""
    made = example()
    made["metadata"]["name"] = name
    made["spec"].update(fields)
    return read_interceptor(made)


def node(name: str = "node-1", engine: str = "iter", **more: Any) -> Node:
    """A node; an empty engine leaves the label out."""
    labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
    return Node(name=name, labels={**labels, LABEL_ENGINE: engine} if engine else labels, **more)


def view(
    *interceptors: SecretInterceptor,
    nodes: Iterable[Node] | None = None,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> FixedView:
    """One namespace that is opted in, one node that serves by `iter`, and the documented interceptor."""
    return FixedView(
        Nodes([node()] if nodes is None else nodes),
        Interceptors(interceptors or [interceptor()]),
        {NAMESPACE: OPTED_IN} if namespaces is None else namespaces,
    )


def review(thing: Any, *, old: Any = None, operation: str = "CREATE", resource: str = "pods", **more: Any) -> Any:
    """An AdmissionReview; a resource with a slash names a subresource, one with dots a group."""
    plain, _, sub = resource.partition("/")
    plain, _, group = plain.partition(".")
    request = {
        "uid": UID,
        "kind": {"group": group, "version": "v1", "kind": "Pod"},
        "resource": {"group": group, "version": "v1", "resource": plain},
        "name": "",
        "namespace": NAMESPACE,
        "operation": operation,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": []},
        "object": thing,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    if sub:
        request["subResource"] = sub
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {**request, **more}}


def body(thing: Any, **more: Any) -> bytes:
    """A review as it comes over the wire."""
    return json.dumps(review(thing, **more)).encode()


def response(answer: Answer) -> Any:
    """What the API server would read, after it was held to the shape that it needs."""
    said = json.loads(answer.body)
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert said["response"]["uid"] == answer.uid
    return said["response"]


def operations(answer: Answer) -> list[dict[str, Any]]:
    """The operations of an answer, which allows."""
    said = response(answer)
    assert said["allowed"], said
    if "patch" not in said:
        return []
    assert said["patchType"] == "JSONPatch"
    made: list[dict[str, Any]] = json.loads(base64.b64decode(said["patch"]))
    return made


def mutated(thing: Any, seen: View | None = None) -> Any:
    """The pod as the API server has it after `/mutate`."""
    return apply(thing, operations(mutate(body(thing), seen or view())))


def refusal(answer: Answer) -> tuple[str, str]:
    """The rule and the message of an answer that refuses."""
    said = response(answer)
    assert not said["allowed"]
    assert said["status"]["message"] == answer.message
    assert said["status"]["code"] == 403
    return answer.rule, answer.message


def mutation_refusal(thing: Any, seen: View | None = None) -> tuple[str, str]:
    """Why `/mutate` refuses a pod."""
    return refusal(mutate(body(thing), seen or view()))


def validation(thing: Any, seen: View | None = None, **more: Any) -> Answer:
    """What `/validate` says of something."""
    return validate(body(thing, **more), seen or view())
