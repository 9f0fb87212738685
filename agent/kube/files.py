"""The cluster's view from files, for a node without an API server. Nobody but root can have written them.

    ROOT/pods/<namespace>.<name>.yaml       a Pod, as `kubectl get pod -o yaml` prints it
    ROOT/namespaces/<name>.yaml             a Namespace
    ROOT/interceptors/<name>.yaml           a SecretInterceptor
    ROOT/registrations/<pod uid>.yaml       a Registration

A file's name says whose object it is, so that a lookup reads one file and no object can be there twice; what the file
says must agree. A namespace has no dot in its name, so a pod's file has one meaning.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.kube.cluster import LivePod
from agent.kube.objects import Objects
from agent.kube.pod_object import live_pod, namespace_of
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.problems import quoted
from kernelsecret.registration import Registration, read_registration
from kernelsecret.validation import read_interceptor


class FileCluster:
    """Implements `agent.kube.cluster.Cluster`. Every call looks at the files; unchanged ones are not parsed."""

    def __init__(self, root: Path, *, owner_uid: int = 0) -> None:
        """`owner_uid` is who must own every folder and file: root, unless the agent itself runs as somebody else."""
        self._pods = Objects(root / "pods", owner_uid, "pod", _pod)
        self._namespaces = Objects(root / "namespaces", owner_uid, "namespace", namespace_of)
        self._interceptors = Objects(root / "interceptors", owner_uid, "interceptor", read_interceptor)
        self._registrations = Objects(root / "registrations", owner_uid, "registration", read_registration)

    async def pod(self, namespace: str, name: str) -> LivePod:
        """The pod of that name, with the labels of its namespace."""
        if "." in namespace:
            raise Refused(Code.INVALID_ARGUMENT, "namespace", f"{quoted(namespace)} is not a namespace's name")
        found = self._pods.get(f"{namespace}.{name}")
        _agree(f"pod {namespace}.{name}", "metadata.namespace", found.namespace, namespace)
        _agree(f"pod {namespace}.{name}", "metadata.name", found.name, name)
        own_name, labels = self._namespaces.get(namespace)
        _agree(f"namespace {namespace}", "metadata.name", own_name, namespace)
        return replace(found, namespace_labels=labels)

    async def interceptor(self, name: str) -> SecretInterceptor:
        """The interceptor, valid."""
        found = self._interceptors.get(name)
        _agree(f"interceptor {name}", "metadata.name", found.metadata.name, name)
        return found

    async def registration(self, pod_uid: str) -> Registration:
        """What was registered for the pod."""
        found = self._registrations.get(pod_uid)
        _agree(f"registration {pod_uid}", "podUid", found.pod_uid, pod_uid)
        return found


def _pod(thing: object) -> LivePod:
    return live_pod(thing, {}, trust_first_pid=True)


def _agree(where: str, field: str, said: str, wanted: str) -> None:
    if said != wanted:
        why = f"{field}: {quoted(said)} does not agree with the file's name"
        raise Refused(Code.FAILED_PRECONDITION, where, why)
