"""A node whose agents die, a bystander that reads without end, and a pod to publish for."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.agent.crashes import Mortal
from tests.agent.harness import Node, until
from tests.agent.leaks import Footprint
from tests.agent.pods import Program
from tests.agent.tree import Pod, files_of

SHORT, LONG = 40, 70_000
KEYS = ("username", "password")
OWN_KEYS = ("password", "tls.crt")
"""What the pod that comes and goes shows: one key that the bystander shows too, and one of its own."""


def version(tag: str, size: int = SHORT) -> dict[str, bytes]:
    """Values as pod_program.py knows them, all of one version."""
    return {key: tag.encode() + b":" + b"x" * size + b":end" for key in (*KEYS, "tls.crt")}


@dataclass(slots=True)
class Scene:
    """A node with a bystander that reads without end, and a pod to publish for."""

    node: Node
    mortal: Mortal
    bystander: Pod
    pod: Pod
    reader: Program
    program: Program
    before: Footprint

    async def revived(self) -> None:
        """A new agent takes over."""
        self.mortal.start()
        await self.node.ready()
        assert self.reader.is_running()

    def seen(self) -> list[bytes | int]:
        """What the pod reads now."""
        return self.program.read(*(self.pod.target / key for key in OWN_KEYS))

    def whole_or_absent(self, values: dict[str, bytes]) -> bool:
        """Whether the pod's volume is there as a whole (True) or not at all (False); else AssertionError."""
        seen = self.seen()
        if seen == [errno.ENOENT] * len(OWN_KEYS):
            return False
        assert seen == [values[key] for key in OWN_KEYS]
        return True

    async def rotated(self, values: dict[str, bytes]) -> None:
        """A new version, shown."""
        self.node.secret("payments/db", values)
        wanted = [values[key] for key in OWN_KEYS]
        await until(lambda: self.seen() == wanted, "the new version is shown")

    async def back(self, settled: Footprint, tag: str) -> None:
        """Short values again in a fresh volume, so that a longer one has to make room anew; all else is freed."""
        await self.rotated(version(tag))
        await self.node.unpublish(self.pod)
        await self.node.publish(self.pod)
        await self.node.settled(settled)


@asynccontextmanager
async def opened(node: Node, mortal: Mortal, engine: str) -> AsyncIterator[Scene]:
    """A scene, and afterwards the judgement of what the bystander met."""
    node.env["KERNELSECRET_ENGINE"] = engine
    node.secret("payments/db", version("1"))
    access = {"from": "any", "unenforced": "allow"}
    node.interceptor("bystander", [files_of("payments/db", *KEYS)], access=access)
    node.interceptor("payments", [files_of("payments/db", *OWN_KEYS)], access=access)
    bystander, pod = node.pod("bystander", "bystander"), node.pod("web", "payments")
    mortal.start()
    await node.ready()
    await node.publish(bystander)
    # Only the kernel engine keeps a reader of two files in one version.
    reader = node.reader(bystander, *KEYS if engine == "iter" else KEYS[:1])
    made = Scene(node, mortal, bystander, pod, reader, node.program(pod), node.footprint())
    yield made
    await node.unpublish(pod)
    await node.settled(made.before)
    seen = reader.finish()
    assert seen.faults == []
    assert seen.rounds > 100
    assert [int(tag) for tag in seen.versions] == sorted({int(tag) for tag in seen.versions})
    await node.unpublish(bystander)
