"""The cluster's view from files, for a node without an API server. Nobody but root can have written them.

    ROOT/pods/<namespace>.<name>.yaml       a Pod, as `kubectl get pod -o yaml` prints it
    ROOT/namespaces/<name>.yaml             a Namespace
    ROOT/interceptors/<name>.yaml           a SecretInterceptor
    ROOT/registrations/<pod uid>.yaml       a Registration

A file's name says whose object it is, so that a lookup reads one file and no object can be there twice; what the file
says must agree. A namespace has no dot in its name, so a pod's file has one meaning.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.kube.cluster import LivePod
from agent.kube.objects import Objects
from agent.kube.pod_object import live_pod, namespace_of
from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.problems import quoted
from kernelsecret.registration import Registration, read_registration
from kernelsecret.validation import read_interceptor

LOOK_S = 0.25
"""How often the folders are looked at for what has changed."""

Stamp = tuple[str, int, int, int]


class FileCluster:
    """Implements `agent.kube.cluster.Cluster`. Every call looks at the files; unchanged ones are not parsed."""

    def __init__(self, root: Path, *, owner_uid: int = 0) -> None:
        """`owner_uid` is who must own every folder and file: root, unless the agent itself runs as somebody else."""
        self._root = root
        self._pods = Objects(root / "pods", owner_uid, "pod", _pod)
        self._namespaces = Objects(root / "namespaces", owner_uid, "namespace", namespace_of)
        self._interceptors = Objects(root / "interceptors", owner_uid, "interceptor", read_interceptor)
        self._registrations = Objects(root / "registrations", owner_uid, "registration", read_registration)

    async def pod(self, namespace: str, name: str, uid: str = "", *, fresh: bool = False) -> LivePod:
        """The pod of that name, with the labels of its namespace; files are always fresh."""
        if "." in namespace:
            raise Refused(Code.INVALID_ARGUMENT, "namespace", f"{quoted(namespace)} is not a namespace's name")
        found = self._pods.get(f"{namespace}.{name}")
        _agree(f"pod {namespace}.{name}", "metadata.namespace", found.namespace, namespace)
        _agree(f"pod {namespace}.{name}", "metadata.name", found.name, name)
        space = self._namespaces.get(namespace)
        _agree(f"namespace {namespace}", "metadata.name", space.name, namespace)
        return replace(found, namespace_labels=space.labels, least_poll_s=space.least_poll_s)

    async def interceptor(self, name: str, *, fresh: bool = False) -> SecretInterceptor:
        """The interceptor, valid."""
        found = self._interceptors.get(name)
        _agree(f"interceptor {name}", "metadata.name", found.metadata.name, name)
        return found

    async def registration(self, pod: PodRef) -> Registration:
        """What was registered for the pod."""
        found = self._registrations.get(pod.uid)
        _agree(f"registration {pod.uid}", "podUid", found.pod_uid, pod.uid)
        return found

    async def run(self, changed: Callable[[], None]) -> None:
        """Look at the folders a few times a second, until cancelled."""
        before = self._stamps()
        changed()
        while True:
            await asyncio.sleep(LOOK_S)
            if (now := self._stamps()) != before:
                before = now
                changed()

    def _stamps(self) -> set[Stamp]:
        """What differs whenever a file has been written, replaced, added or removed."""
        folders = (os.fspath(self._root / kind) for kind in ("pods", "namespaces", "interceptors"))
        return {stamp for folder in folders for stamp in _stamps_of(folder)}


def _stamps_of(folder: str) -> set[Stamp]:
    try:
        with os.scandir(folder) as entries:
            found = [(entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError:
        return set()  # it is not there, or changes just now: the next look will tell
    return {(path, one.st_ino, one.st_ctime_ns, one.st_size) for path, one in found}


def _pod(thing: object) -> LivePod:
    return live_pod(thing, {}, trust_first_pid=True)


def _agree(where: str, field: str, said: str, wanted: str) -> None:
    if said != wanted:
        why = f"{field}: {quoted(said)} does not agree with the file's name"
        raise Refused(Code.FAILED_PRECONDITION, where, why)
