"""A pod in the mode `preload` on a node with a real agent: its volumes are published over its CSI socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from kernelsecret import names
from kernelsecret.cli.simulation.pod import Pod as Containers
from tests.agent.harness import Node
from tests.agent.preload import matrix
from tests.agent.preload.place import MOUNTED, NAME, Place
from tests.agent.preload.values import FILES, VALUE, digits
from tests.agent.tree import VOLUME, Pod, Tree
from tests.apiserver.harness.waiting import until

SECRET: Final = "shop/programs"
FILE_MODE: Final = "0400"  # psql takes no password file that others may read
SHOWN_WITHIN_S: Final = 20.0
TOLD_WITHIN_S: Final = 60.0
"""An agent looks twice as late after each look, and every half minute in the end."""
POLL_S: Final = 0.0005


def meet(node: Node, seconds: float) -> matrix.Outcome:
    """Let the programs run in a pod of this node, whose agent is started and shows one version after another."""
    node.interceptor(
        NAME,
        [
            {
                "name": NAME,
                "source": {"file": {"path": SECRET}},
                "files": [{"path": name, "key": name, "mode": FILE_MODE} for name in FILES],
            }
        ],
        access={"from": "any", "unenforced": "allow"},
        delivery={"modes": ["preload"]},
    )
    pod = Tree.pod(node, "web", NAME)
    shim = node.preload(pod)
    node.change_pod(pod, with_sub_path)
    with Containers(pod.ref.uid, pod.ref.namespace, pod.ref.name) as containers:
        tools = node.base / "tools"
        tools.mkdir()

        def make_place(files: Mapping[str, bytes]) -> Place:
            node.secret(SECRET, files)
            asyncio.run(node.publish(pod))
            asyncio.run(node.publish(shim))
            return Place(containers, {NAME: pod.target, f"{names.GROUP}/shim": shim.target}, tools)

        outcome = matrix.run(
            tools, make_place, lambda number, files: show(node, pod, number, files), lambda: told(node), seconds
        )
    for volume in (pod, shim):
        asyncio.run(node.unpublish(volume))
    return outcome


def with_sub_path(thing: dict[str, Any]) -> None:
    """One of the files is mounted by itself, too."""
    mount = {"name": VOLUME, "mountPath": MOUNTED, "subPath": VALUE, "readOnly": True}
    thing["spec"]["containers"][0]["volumeMounts"].append(mount)


def told(node: Node) -> dict[str, str]:
    """Which programs the shim does not reach, as the agent's status has it, and why; it waits until there is one."""
    found = until(
        lambda: node.status()["unaffected"], "the agent tells of a program without the shim", deadline_s=TOLD_WITHIN_S
    )
    return {program["path"]: program["why"] for pod in found for program in pod["programs"]}


def show(node: Node, pod: Pod, number: int, files: Mapping[str, bytes]) -> None:
    """Change the secret at its source, and wait until the pod's volume shows it."""
    node.secret(SECRET, files)
    wanted, end = digits(number).encode(), time.monotonic() + SHOWN_WITHIN_S
    while not (pod.target / VALUE).read_bytes().startswith(wanted):
        if time.monotonic() > end:
            raise RuntimeError(f"version {number} was not shown in {SHOWN_WITHIN_S:g} s")
        time.sleep(POLL_S)
