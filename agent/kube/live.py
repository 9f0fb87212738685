"""The cluster's view from the API server: what its watches hold, and a question of its own where that is not enough.

Only this node's pods are held. What is held is never believed to be missing or other without a question: an answer that
a watch has not brought yet must refuse nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from agent.kube.cluster import LiveNamespace, LivePod
from agent.kube.pod_object import live_pod, namespace_of
from agent.model import PodRef
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.reflector import Reflector
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import API_VERSION, KIND_INTERCEPTOR
from kernelsecret.problems import Invalid
from kernelsecret.registration import Registration
from kernelsecret.validation import read_interceptor

LOOK_S = 2.0
"""How often it is looked whether the watches still are current."""

T = TypeVar("T")
Ask = Callable[[PodRef], Awaitable[Registration]]


class ApiCluster:
    """Implements `agent.kube.cluster.Cluster`. `ask` has the registrations, `on_gone` hears the UID of a pod that has
    left the node."""

    def __init__(
        self, client: ApiClient, node: str, ask: Ask, on_gone: Callable[[str], None] = lambda uid: None
    ) -> None:
        self._client, self._ask, self._on_gone = client, ask, on_gone
        self._changed: Callable[[], None] = lambda: None
        mine = {"fieldSelector": f"spec.nodeName={node}"}
        self._pods = Reflector(
            client, paths.pods(), _pod, key=_key_of, selectors=mine, on_change=self._pod_changed, name="pods"
        )
        self._namespaces = Reflector(
            client, paths.namespaces(), _namespace, key=_name_of, on_change=self._other_changed, name="namespaces"
        )
        self._interceptors = Reflector(
            client,
            paths.interceptors(),
            _interceptor,
            key=_own_name,
            on_change=self._other_changed,
            name="interceptors",
        )

    async def pod(self, namespace: str, name: str, uid: str = "", *, fresh: bool = False) -> LivePod:
        """The pod of that name, with the labels of its namespace."""
        held = None if fresh or not self._pods.is_current else self._pods.items.get(f"{namespace}/{name}")
        if held is None or (uid and held.uid != uid):
            held = await self._asked(f"pod {namespace}/{name}", paths.pod(namespace, name), _pod)
        space = None if fresh or not self._namespaces.is_current else self._namespaces.items.get(namespace)
        if space is None:
            space = await self._asked(f"namespace {namespace}", paths.namespace(namespace), _namespace)
        return replace(held, namespace_labels=space.labels, least_poll_s=space.least_poll_s)

    async def interceptor(self, name: str, *, fresh: bool = False) -> SecretInterceptor:
        """The interceptor, valid."""
        held = self._interceptors.items.get(name)
        if not fresh and self._interceptors.is_current:
            if held is None and self._interceptors.unreadable == 0:
                raise _missing(f"interceptor {name}")
            if held is not None:
                return held
        return await self._asked(f"interceptor {name}", paths.interceptor(name), _interceptor)

    async def registration(self, pod: PodRef) -> Registration:
        """What admission registered for the pod."""
        return await self._ask(pod)

    async def wait_synced(self, timeout_s: float) -> bool:
        """Whether everything was listed once, after waiting for it so long at most."""
        return all(await asyncio.gather(*(one.wait_synced(timeout_s) for one in self._reflectors)))

    async def run(self, changed: Callable[[], None]) -> None:
        """Watch until cancelled. That watches break or go on is a change, too."""
        self._changed = changed
        changed()
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            group.create_task(self._look())

    @property
    def _reflectors(self) -> tuple[Reflector[LivePod], Reflector[LiveNamespace], Reflector[SecretInterceptor]]:
        return self._pods, self._namespaces, self._interceptors

    async def _look(self) -> None:
        before: list[bool] = []
        while True:
            now = [one.is_current for one in self._reflectors]
            if now != before:
                before = now
                self._changed()
            await asyncio.sleep(LOOK_S)

    def _pod_changed(self, _key: str, old: LivePod | None, new: LivePod | None) -> None:
        if old is not None and (new is None or new.uid != old.uid):
            self._on_gone(old.uid)
        self._changed()

    def _other_changed(self, _key: str, _old: object, _new: object) -> None:
        self._changed()

    async def _asked(self, what: str, path: str, decode: Callable[[bytes], T]) -> T:
        try:
            return decode(await self._client.get(path))
        except ApiError as error:
            if error.status == 404:
                raise _missing(what) from None
            fix = error.fix or "kubelet tries again by itself"
            raise Refused(Code.UNAVAILABLE, what, f"cannot be asked for: {error.why}", fix) from error
        except (Invalid, ValueError) as error:
            why = str(error) if isinstance(error, Invalid) else "the answer is not an object of this kind"
            raise Refused(Code.FAILED_PRECONDITION, what, why) from None


def _missing(what: str) -> Refused:
    return Refused(Code.NOT_FOUND, what, "there is none")


def _thing(raw: bytes, api_version: str, kind: str) -> dict[str, Any]:
    """The parts of a list say neither version nor kind: the list does."""
    return {"apiVersion": api_version, "kind": kind} | msgspec.json.decode(raw, type=dict[str, Any])


def _pod(raw: bytes) -> LivePod:
    return live_pod(_thing(raw, "v1", "Pod"), {}, trust_first_pid=False)


def _namespace(raw: bytes) -> LiveNamespace:
    return namespace_of(_thing(raw, "v1", "Namespace"))


def _interceptor(raw: bytes) -> SecretInterceptor:
    found = read_interceptor(_thing(raw, API_VERSION, KIND_INTERCEPTOR))
    # What others count and note in it is no change of what it says.
    meta = msgspec.structs.replace(found.metadata, resource_version="", finalizers=())
    return msgspec.structs.replace(found, status=None, metadata=meta)


def _key_of(pod: LivePod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _name_of(namespace: LiveNamespace) -> str:
    return namespace.name


def _own_name(interceptor: SecretInterceptor) -> str:
    return interceptor.metadata.name
