"""Programs that the shim does not reach, told by a real agent of a real pod: by name and reason, and no word more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelsecret import names
from kernelsecret.cli.render import event_line, status_lines
from kernelsecret.cli.simulation.pod import Pod as Containers
from tests.agent.harness import Node, until
from tests.agent.opening import opened
from tests.agent.tree import Tree, files_of
from tests.unit.preload.programs import build

CANARY = "environment-canary-9d1c"
SHIMMED = {names.ENV_PRELOAD: f"{names.SHIM_ROOT}/{names.SHIM_FILE}", "PASSWORD": CANARY}
WITHOUT = {"PASSWORD": CANARY}


@pytest.fixture
def programs() -> Iterator[Path]:
    """What containers find at /app."""
    folder = Path(tempfile.mkdtemp(prefix="kernelsecret-programs-"))
    folder.chmod(0o755)
    for kind in ("dynamic", "static"):
        build(folder, kind)
    yield folder
    shutil.rmtree(folder)


async def test_an_agent_tells_once_of_each_program_and_nothing_of_its_environment(programs: Path) -> None:
    with opened(Node) as node:
        node.secret("payments/db", {"password": b"secret-canary"})
        node.interceptor(
            "db",
            [files_of("payments/db", "password")],
            access={"from": "app", "unenforced": "allow"},
            delivery={"modes": ["preload"]},
        )
        pod = Tree.pod(node, "web", "db")
        with Containers(pod.ref.uid, pod.ref.namespace, pod.ref.name) as containers:
            shim = node.preload(pod)
            await node.started()
            await node.publish(shim)
            await node.publish(pod)
            volumes, binds = {"db": pod.target, f"{names.GROUP}/shim": shim.target}, {"/app": programs}
            for name, environment in (("dynamic", SHIMMED), ("static", SHIMMED), ("dynamic", WITHOUT)):
                containers.container(
                    f"{name}-{len(environment)}", [f"/app/{name}"], volumes, binds=binds, environment=environment
                )
            containers.container("uninjected", ["/app/static"], {}, binds=binds)
            await until(lambda: len(node.audited("program-unaffected")) == 2, "both programs are told", 40.0)
            told = {(one["program"], one["why"]) for one in node.audited("program-unaffected")}
            assert told == {("/app/dynamic", "environment"), ("/app/static", "static")}
            assert node.metric("kernelsecret_unaffected_programs", why="static") == 1
            assert node.metric("kernelsecret_unaffected_programs", why="not loaded") == 0
            status = node.status()
            [found] = status["unaffected"]
            assert (found["namespace"], found["pod"]) == (pod.ref.namespace, "web")
            words = "/app/dynamic: environment, /app/static: static"
            assert f"UNAFFECTED {pod.ref.namespace}/web: the shim does not reach {words}" in status_lines(status)
            lines = [event_line(one) for one in node.audited("program-unaffected")]
            assert any(line.endswith(f"UNAFFECTED {pod.ref.namespace}/web  /app/static: static") for line in lines)
        await node.unpublish(pod)
        await node.unpublish(shim)
        await until(lambda: node.status()["unaffected"] == [], "with the pod they are forgotten")
        node.assert_kept(b"secret-canary", CANARY.encode())
