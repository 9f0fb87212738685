"""A pod as the API server has stored it, run as kubelet and a runtime do: each volume of ours published by the name and
attributes that it has there, and real programs in containers with exactly the variables, mounts and users of its spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent.csi.client import target_path_of
from agent.model import PodRef
from kernelsecret.cli.simulation.pod import Container
from kernelsecret.cli.simulation.pod import Pod as Containers
from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, DRIVER_NAME
from tests.agent.tree import Pod
from tests.apiserver.harness.whole import WholeNode

_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class StoredPod:
    """`thing` is what the API server has; `volumes` are those of our driver by name. See `running`."""

    def __init__(self, node: WholeNode, name: str, containers: Containers, thing: dict[str, Any]) -> None:
        self.node, self.name, self.thing = node, name, thing
        self._containers = containers
        uid, account = thing["metadata"]["uid"], thing["spec"]["serviceAccountName"]
        ref = PodRef(node.name, name, uid, account)
        self._attributes: dict[str, dict[str, str]] = {
            one["name"]: one["csi"]["volumeAttributes"]
            for one in thing["spec"]["volumes"]
            if one.get("csi", {}).get("driver") == DRIVER_NAME
        }
        self.volumes = {
            volume: Pod(ref, attributes.get(ATTRIBUTE_INTERCEPTOR), target_path_of(node.kubelet, uid, volume))
            for volume, attributes in self._attributes.items()
        }

    @property
    def annotations(self) -> dict[str, str]:
        """As the API server has them now."""
        found: dict[str, str] = self.node.kubectl.get("pod", self.name)["metadata"]["annotations"]
        return found

    def told(self, reason: str) -> list[dict[str, Any]]:
        """The events of a reason about the pod."""
        return self.node.told(self.name, reason)

    async def publish(self) -> None:
        """All volumes, as kubelet does before any container starts."""
        for name, one in self.volumes.items():
            one.target.parent.mkdir(parents=True, exist_ok=True)
            await self.node.mounted(one, volume_context=self._attributes[name], fs_group=self._security.get("fsGroup"))

    @property
    def _security(self) -> dict[str, Any]:
        found: dict[str, Any] = self.thing["spec"].get("securityContext", {})
        return found

    async def unpublish(self) -> None:
        """All volumes, after the last program has ended."""
        self._containers.remove()
        for one in self.volumes.values():
            await self.node.unpublish(one)

    def start(self, name: str, argv: Sequence[str], image: Mapping[str, Path] | None = None) -> Container:
        """A program as the first of a container of the pod; `image` is what its image has beside the system's files."""
        [spec] = [one for one in self.thing["spec"]["containers"] if one["name"] == name]
        mounts = {
            mount["mountPath"]: self.volumes[mount["name"]].target / mount.get("subPath", "")
            for mount in spec["volumeMounts"]
            if mount["name"] in self.volumes
        }
        return self._containers.container(
            name,
            argv,
            binds={**(image or {}), **mounts},
            environment=self._environment(spec),
            uid=self._security.get("runAsUser", 0),
            gid=self._security.get("runAsGroup", 0),
            groups=[self._security["fsGroup"]] if "fsGroup" in self._security else [],
            stdin=True,
        )

    def _environment(self, spec: Mapping[str, Any]) -> dict[str, str]:
        """In kubelet's way: in order, each may name those before it."""
        made: dict[str, str] = {}
        for one in spec.get("env", []):
            value = self._value_from(one["valueFrom"]) if "valueFrom" in one else str(one.get("value", ""))
            made[one["name"]] = _REFERENCE.sub(lambda found: made.get(found[1], found[0]), value)
        return made

    def _value_from(self, source: Mapping[str, Any]) -> str:
        ref = source["configMapKeyRef"]
        return str(self.node.kubectl.get("configmap", ref["name"])["data"][ref["key"]])


@contextmanager
def running(node: WholeNode, name: str) -> Iterator[StoredPod]:
    """A pod that is bound to the node, with cgroups; all its programs end with the block."""
    thing = node.kubectl.get("pod", name)
    with Containers(thing["metadata"]["uid"], node.name, name) as containers:
        yield StoredPod(node, name, containers, thing)


def ask(container: Container) -> str:
    """A line for a line: what a program that answers each line of its input says now."""
    process = container.process
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, process.stderr.read()
    return answer.decode().rstrip("\n")
