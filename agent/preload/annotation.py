"""The annotation in which a pod's users find the programs that the shim does not reach. It is written through the pod's
status: that is all that the agent's account may change of pods.
"""

from __future__ import annotations

import msgspec

from agent.kube.cluster import Cluster
from agent.model import PodRef
from agent.preload.judging import Program, read_told
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ANNOTATION_UNAFFECTED, REPORTER

_ANOTHER = (404, 409, 422)
"""There is no such pod, or one of another UID."""


class PodAnnotation:
    """Implements `agent.preload.looking.Annotation`."""

    def __init__(self, client: ApiClient, cluster: Cluster) -> None:
        self._client, self._cluster = client, cluster

    async def read(self, pod: PodRef) -> set[Program]:
        """What is told already."""
        try:
            live = await self._cluster.pod(pod.namespace, pod.name, pod.uid)
        except Refused as refused:
            if refused.code is Code.NOT_FOUND:
                return set()
            raise
        return read_told(live.annotations.get(ANNOTATION_UNAFFECTED, "")) if live.uid == pod.uid else set()

    async def write(self, pod: PodRef, text: str) -> None:
        """Tell this instead; nothing where the pod is gone."""
        change = {"metadata": {"uid": pod.uid, "annotations": {ANNOTATION_UNAFFECTED: text}}}
        path = paths.pod_status(pod.namespace, pod.name)
        try:
            await self._client.patch(path, msgspec.json.encode(change), field_manager=REPORTER)
        except ApiError as error:
            if error.status not in _ANOTHER:
                raise
