"""Which programs the shim does not reach: real ones, in containers that have its mount, and beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.delivery import cgroups
from agent.delivery.shims import Shims
from agent.model import PodRef, ShimRequest
from agent.preload.judging import Program, Why
from agent.preload.scanning import Image, Verdicts, look, look_at_pod
from kernelsecret.names import SHIM_FILE, SHIM_ROOT
from tests.kernel.harness.node import Node
from tests.kernel.harness.pods import Pod
from tests.kernel.harness.waiting import wait_until
from tests.unit.preload.programs import build, build_32, build_shim, running

PRELOAD = f"LD_PRELOAD={SHIM_ROOT}/{SHIM_FILE}"
PROGRAMS = "/app"
NOTHING: Verdicts = {}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once: they only wait."""
    folder = tmp_path_factory.mktemp("programs")
    folder.chmod(0o755)
    for kind in ("dynamic", "static", "static-pie"):
        build(folder, kind)
    elevated = folder / "elevated"
    elevated.write_bytes((folder / "dynamic").read_bytes())
    elevated.chmod(0o4755)
    build_shim(folder)
    return folder


class Scene:
    """A pod whose container `app` has the shim, and whose container `plain` has not."""

    def __init__(self, node: Node, programs: Path, folder: Path) -> None:
        assert node.facts.cgroup is not None
        self.node, self.programs, self.root = node, programs, node.facts.cgroup.root
        self.pod: Pod = node.pod()
        self.shims = Shims(folder / "run", folder / "state", programs / SHIM_FILE)
        self.target = folder / "target"
        for made in (folder / "run", self.target):
            made.mkdir()
        self.shims.publish(ShimRequest("csi-shim", self.target, PodRef("shop", "web", self.pod.uid, "web")))

    def start(self, *argv: str, container: str = "app", uid: int = 0) -> None:
        """Start a container with `argv`."""
        mounts = [(self.programs, PROGRAMS)] + ([(self.target, SHIM_ROOT)] if container == "app" else [])
        self.pod.start(container, argv=list(argv), mounts=tuple(mounts), uid=uid)

    def runs(self, name: str) -> Image:
        """The program of that name, once it runs in the pod."""
        found: list[Image] = []

        def is_there() -> bool:
            found[:] = [image for image in self.look() if image.path == f"{PROGRAMS}/{name}"]
            return bool(found)

        wait_until(is_there, f"{name} runs")
        return found[0]

    def look(self, known: Verdicts = NOTHING) -> Mapping[Image, Program | None]:
        return look_at_pod(self.root, self.pod.uid, known)

    def settles(self, name: str, verdict: Program | None) -> None:
        """The program gets that verdict, and keeps it."""
        image = self.runs(name)
        wait_until(lambda: self.look()[image] == verdict, lambda: f"{name} is {verdict}, not {self.look()[image]}")


@pytest.fixture
def scene(node: Node, programs: Path, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(node, programs, tmp_path / "scene")
    yield made
    made.pod.end_processes()
    made.shims.unpublish("csi-shim")


def test_what_the_shim_is_loaded_in_is_reached_and_what_is_static_is_not(scene: Scene) -> None:
    for kind in ("dynamic", "static", "static-pie"):
        scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/{kind}")
    scene.settles("dynamic", None)
    scene.settles("static", Program("/app/static", Why.STATIC))
    scene.settles("static-pie", Program("/app/static-pie", Why.STATIC))
    assert scene.look(scene.look()) == scene.look()


def test_a_program_without_the_variable_is_named_with_that_reason(scene: Scene) -> None:
    scene.start("/usr/bin/env", "LD_PRELOAD=/opt/other.so", f"{PROGRAMS}/dynamic")
    scene.settles("dynamic", Program("/app/dynamic", Why.ENVIRONMENT))


def test_a_program_that_gains_rights_at_its_exec_loads_nothing(scene: Scene) -> None:
    scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/elevated", uid=1000)
    scene.settles("elevated", Program("/app/elevated", Why.SETUID))


def test_a_shim_that_its_linker_could_not_load_is_told_as_that(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / SHIM_FILE).write_bytes((scene.programs / SHIM_FILE).read_bytes()[:100])
    broken = Shims(tmp_path / "other", tmp_path / "other-state", tmp_path / SHIM_FILE)
    (tmp_path / "other").mkdir()
    (tmp_path / "shown").mkdir()
    broken.publish(ShimRequest("csi-broken", tmp_path / "shown", PodRef("shop", "web", "uid", "web")))
    scene.target, working = tmp_path / "shown", scene.target
    try:
        scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/dynamic")
        scene.settles("dynamic", Program("/app/dynamic", Why.NOT_LOADED))
    finally:
        scene.target = working
        scene.pod.end_processes()
        broken.unpublish("csi-broken")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit programs are made for x86 here")
def test_a_32_bit_program_is_told_as_that(scene: Scene, tmp_path: Path) -> None:
    made = build_32(tmp_path, linker=True)
    with running(made):
        pass  # or it is skipped: this kernel executes no such program
    scene.pod.volumes.append((tmp_path, str(tmp_path)))  # where its linker is
    scene.start("/usr/bin/env", PRELOAD, str(made))
    wait_until(
        lambda: Program(str(made), Why.BITS_32) in scene.look().values(), lambda: f"told as 32-bit: {scene.look()}"
    )


def test_containers_without_the_shim_are_not_judged(scene: Scene) -> None:
    scene.start(f"{PROGRAMS}/static", container="plain")
    scene.settles("static", None)


def test_a_runtime_on_its_way_into_a_container_is_not_taken_for_a_program_of_it(scene: Scene) -> None:
    scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/dynamic")
    app = scene.runs("dynamic")
    inside = (
        "import ctypes, os\n"
        f"open({str(scene.pod.cgroup_of('app') / 'cgroup.procs')!r}, 'w').write('0')\n"
        f"assert ctypes.CDLL(None).setns(os.open('/proc/{app.pid}/ns/mnt', os.O_RDONLY), 0x20000) == 0\n"
        "print(flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as runtime:
        try:
            assert runtime.stdout
            assert runtime.stdin
            assert runtime.stdout.readline() == b"\n"
            (found,) = [image for image in scene.look() if image.pid == runtime.pid]
            assert found.namespace == app.namespace
            assert scene.look()[found] is None
            # Its own cgroup is the node's again, so that the pod's can go.
            (scene.root / "cgroup.procs").write_text(str(runtime.pid))
        finally:
            runtime.communicate(b"\n")


def test_what_executes_another_program_is_judged_anew_and_what_ends_is_passed_over(scene: Scene) -> None:
    shell = f"until [ -e {PROGRAMS}/go ]; do :; done; exec {PROGRAMS}/static"
    scene.start("/usr/bin/env", PRELOAD, "/bin/sh", "-c", shell)
    wait_until(lambda: any("sh" in image.path for image in scene.look()), "the shell runs")
    before = scene.look()
    (scene.programs / "go").touch()
    static = scene.runs("static")
    assert static.pid in {image.pid for image in before}
    assert scene.look(before)[static] == Program("/app/static", Why.STATIC)
    known = scene.look()
    assert known[static] == Program("/app/static", Why.STATIC)
    scene.pod.end_processes()
    assert scene.look(known) == {}
    assert look([static.pid, 2**22 + 1, 0, 2], known) == {}


def test_a_number_that_is_another_pods_by_now_is_not_told_of(
    scene: Scene, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/static")
    scene.settles("static", Program("/app/static", Why.STATIC))
    pids = [image.pid for image in scene.look()]
    other = node.pod()
    monkeypatch.setattr("agent.delivery.cgroups.tasks_below", lambda directory: iter(pids))
    assert cgroups.find_pod(scene.root, other.uid)
    assert not any(look_at_pod(scene.root, other.uid, NOTHING).values())
    assert any(scene.look().values())


def test_a_mount_namespace_of_endless_mounts_is_not_read_to_its_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.start("/usr/bin/env", PRELOAD, f"{PROGRAMS}/static")
    scene.settles("static", Program("/app/static", Why.STATIC))
    monkeypatch.setattr("agent.delivery.mounts.MOST_OF_OTHERS", 100)
    assert not any(scene.look().values())
    monkeypatch.undo()
    monkeypatch.setattr("agent.preload.scanning.MOST_VIEWS", 0)
    assert not any(scene.look().values())


def test_in_a_storm_of_short_programs_none_that_loads_the_shim_is_taken_for_another(scene: Scene) -> None:
    for _ in range(3):
        scene.start("/usr/bin/env", PRELOAD, "/bin/sh", "-c", "while :; do /bin/true; done")
    wait_until(lambda: any("true" in image.path for image in scene.look()), "the storm is there")
    programs: set[str] = set()
    told: set[Program] = set()
    for _ in range(300):
        found = scene.look()
        programs |= {image.path for image in found}
        told |= {verdict for verdict in found.values() if verdict}
    assert any("true" in path for path in programs)
    # Before its linker has come to it the shim is not loaded: whoever says that looks twice.
    assert {program.why for program in told} <= {Why.NOT_LOADED}
