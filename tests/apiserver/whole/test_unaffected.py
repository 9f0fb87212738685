"""From a static program in a pod in mode `preload` to what its owner reads in `kubectl describe pod`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.csi.client import target_path_of
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_UNAFFECTED,
    ENV_PRELOAD,
    SHIM_FILE,
    SHIM_ROOT,
    VOLUME_SHIM,
)
from tests.agent.tree import Pod
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.whole import WholeNode
from tests.unit.preload.programs import build

CONTAINER = """
echo $$ > "$1/cgroup.procs"
mount -t tmpfs tmpfs /run
mkdir -p "$3"
mount --bind "$2" "$3"
exec env "$4" "$5"
"""
"""Cgroup, the shim's volume, where it goes, a variable, the program: in a mount namespace of its own."""
MODES = {"access": {"unenforced": "allow"}, "delivery": {"modes": ["preload"]}}


@contextmanager
def running(node: WholeNode, pod: Pod, shim: Path, program: Path) -> Iterator[None]:
    """The program in the pod's container."""
    variable = f"{ENV_PRELOAD}={SHIM_ROOT}/{SHIM_FILE}"
    words = [str(node.container(pod)), str(shim), SHIM_ROOT, variable, str(program)]
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", CONTAINER, "sh", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"\n", "the program runs"
            yield
        finally:
            process.kill()


async def test_the_owner_of_a_pod_reads_which_program_the_shim_does_not_reach(node: WholeNode, tmp_path: Path) -> None:
    node.secret("shop/db", {"password": b"canary"})
    node.of.kubectl.apply(interceptor("reached", node.name, **MODES))
    await node.joined()
    empty = node.footprint()
    pod = node.applied("web", "reached")
    await node.mounted(pod)
    target = target_path_of(node.kubelet, pod.ref.uid, VOLUME_SHIM)
    target.parent.mkdir(parents=True)
    shim = Pod(pod.ref, None, target)
    await node.publish(shim)

    def annotations() -> dict[str, str]:
        found: dict[str, str] = node.of.core.read_namespaced_pod("web", node.name).metadata.annotations
        return found

    assert annotations()[ANNOTATION_CHOSEN_MODE] == "preload"
    program = build(tmp_path, "static")
    with running(node, pod, target, program):
        until(lambda: ANNOTATION_UNAFFECTED in annotations(), "the program is told", explain=node.said, deadline_s=40.0)
        assert f"{program}: static" in annotations()[ANNOTATION_UNAFFECTED]
        until(
            lambda: "ProgramUnaffected" in node.kubectl("describe", "pod", "web"),
            "the event is there",
            explain=node.said,
        )
        told = len(node.audited("program-unaffected"))
        # An agent that starts again knows from the annotation what is told.
        assert node.stop() == 0
        await node.started()
        until(lambda: node.status()["unaffected"], "it is known again", explain=node.said, deadline_s=40.0)
        assert len(node.audited("program-unaffected")) == told
    await node.unpublish(shim)
    await node.unpublish(pod)
    await node.settled(empty)
