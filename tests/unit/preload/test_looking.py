"""When pods in mode `preload` are looked at, what is told of their programs, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.delivery.state import Phase, StateFiles, VolumeState
from agent.delivery.volumes import Volumes
from agent.model import EngineName, PodRef
from agent.observe.metrics import Metrics
from agent.observe.records import ProgramUnaffected, Record, Rotated
from agent.preload.judging import Program, Why
from agent.preload.looking import LONGEST_PAUSE_S, Looking
from agent.preload.scanning import Image, Verdicts
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode
from tests.unit.delivery.plans import plan
from tests.unit.delivery.test_volumes import MemoryEngine

BUSYBOX = Program("/bin/busybox", Why.STATIC)
WEB = PodRef("shop", "web", "uid-1", "web")


def image(pid: int, path: str = "/bin/busybox") -> Image:
    return Image(pid, 1, path, b"start")


@dataclass
class Notes:
    """The annotations of pods, at an API server that may be away."""

    texts: dict[str, str] = field(default_factory=dict)
    told: set[Program] = field(default_factory=set)
    writes: int = 0
    is_away: bool = False

    async def read(self, pod: PodRef) -> set[Program]:
        self._answer()
        return self.told

    async def write(self, pod: PodRef, text: str) -> None:
        self._answer()
        self.writes += 1
        self.texts[pod.uid] = text

    def _answer(self) -> None:
        if self.is_away:
            raise Refused(Code.UNAVAILABLE, "server", "is away")


class Scene:
    """Pods whose processes are what the test says, and a clock that stands still between turns."""

    def __init__(self, folder: Path) -> None:
        states = StateFiles(folder / "states")
        self.volumes = Volumes({EngineName.TMPFS: MemoryEngine(EngineName.TMPFS, states)}, EngineName.TMPFS, states)
        self.metrics, self.notes = Metrics(), Notes()
        self.processes: dict[str, dict[Image, Program | None]] = {}
        self.records: list[Record] = []
        self.looks: list[tuple[float, str]] = []
        self.known: list[Verdicts] = []
        self.now_s = 0.0
        self.looking = self.started()

    def started(self) -> Looking:
        """An agent's, as it is after its start."""
        return Looking(
            self.volumes, self._scan, self.metrics, self.records.append, self.notes, clock=lambda: self.now_s
        )

    def _scan(self, uid: str, known: Verdicts) -> Verdicts:
        self.looks.append((self.now_s, uid))
        self.known.append(known)
        return self.processes.get(uid, {})

    def publish(self, **changes: Any) -> VolumeState:
        wanted: dict[str, Any] = {"pod": WEB, "mode": Mode.PRELOAD}
        made = plan(**wanted | changes)
        state = VolumeState(made, EngineName.TMPFS, Phase.PUBLISHED)
        self.volumes.add(state)
        return state

    async def pass_(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            await self.looking.turn()

    def count(self, why: str) -> float:
        text = self.metrics.render().decode()
        prefix = f'kernelsecret_unaffected_programs{{why="{why}"}} '
        return float(next(line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)))

    def told(self) -> list[tuple[str, str]]:
        return [(one.program, one.why) for one in self.records if isinstance(one, ProgramUnaffected)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_pod_is_looked_at_soon_and_then_ever_more_seldom(scene: Scene) -> None:
    scene.publish()
    await scene.pass_(200)
    times = [at for at, _ in scene.looks]
    assert [later - earlier for earlier, later in pairwise(times)][:7] == [2, 4, 8, 16, 30, 30, 30]
    assert times[0] <= 3
    assert LONGEST_PAUSE_S == 30


async def test_only_pods_in_mode_preload_are_looked_at_and_each_once(scene: Scene) -> None:
    scene.publish()
    scene.publish(volume_id="csi-2")
    scene.publish(volume_id="csi-3", mode=Mode.EBPF, pod=PodRef("shop", "other", "uid-2", "web"))
    await scene.pass_(3)
    assert scene.looks == [(3.0, "uid-1")]


async def test_a_program_is_told_once_by_record_annotation_metric_and_status(scene: Scene) -> None:
    scene.publish()
    scene.processes["uid-1"] = {image(7): BUSYBOX, image(8): BUSYBOX, image(9, "/usr/bin/python3"): None}
    await scene.pass_(100)
    assert scene.told() == [("/bin/busybox", "static")]
    assert (scene.notes.texts, scene.notes.writes) == ({"uid-1": "/bin/busybox: static"}, 1)
    assert (scene.count("static"), scene.count("setuid")) == (1, 0)
    assert scene.looking.as_status() == [
        {"namespace": "shop", "pod": "web", "programs": [{"path": "/bin/busybox", "why": "static"}]}
    ]
    assert scene.known[-1] == scene.processes["uid-1"], "what was judged is not judged again"


async def test_a_program_that_has_ended_stays_told_until_its_pod_ends(scene: Scene) -> None:
    state = scene.publish()
    scene.processes["uid-1"] = {image(7): BUSYBOX}
    await scene.pass_(4)
    scene.processes["uid-1"] = {}
    await scene.pass_(60)
    assert scene.notes.writes == 1
    scene.volumes._remove(state)
    await scene.pass_(1)
    assert scene.count("static") == 0
    assert scene.looking.as_status() == []


async def test_what_may_still_be_loading_is_looked_at_twice(scene: Scene) -> None:
    scene.publish()
    scene.processes["uid-1"] = {image(7, "/app"): Program("/app", Why.NOT_LOADED)}
    await scene.pass_(3)
    assert (len(scene.looks), scene.told()) == (1, [])
    scene.processes["uid-1"] = {image(7, "/app"): None}
    await scene.pass_(60)
    assert scene.told() == []
    scene.processes["uid-1"] = {image(8, "/app"): Program("/app", Why.NOT_LOADED)}
    await scene.pass_(60)
    assert scene.told() == [("/app", "not loaded")]


async def test_an_agent_that_starts_again_neither_repeats_nor_forgets_what_is_told(scene: Scene) -> None:
    scene.publish()
    scene.notes.told = {BUSYBOX}
    scene.processes["uid-1"] = {image(7): BUSYBOX}
    await scene.pass_(4)
    assert (scene.told(), scene.notes.writes, scene.count("static")) == ([], 0, 1)
    scene.processes["uid-1"] = {image(9, "/usr/bin/su"): Program("/usr/bin/su", Why.SETUID)}
    await scene.pass_(60)
    assert scene.notes.texts["uid-1"] == "/bin/busybox: static, /usr/bin/su: setuid"


async def test_what_the_api_server_did_not_take_is_written_later(scene: Scene) -> None:
    scene.publish()
    scene.notes.is_away = True
    scene.processes["uid-1"] = {image(7): BUSYBOX}
    await scene.pass_(20)
    assert (scene.told(), scene.notes.texts) == ([("/bin/busybox", "static")], {})
    scene.notes.is_away = False
    await scene.pass_(30)
    assert scene.notes.texts == {"uid-1": "/bin/busybox: static"}


async def test_a_rotation_brings_the_next_look_forward_but_rotations_bring_no_flood(scene: Scene) -> None:
    scene.publish()
    scene.publish(volume_id="csi-2", secret="other", pod=PodRef("shop", "api", "uid-2", "web"))
    await scene.pass_(100)
    del scene.looks[:]
    for _ in range(60):
        scene.looking.recorded(Rotated(time_ns=1, source="file", secret="db", keys=1, volumes=1, duration_us=1))
        await scene.pass_(1)
    assert 5 <= [uid for _, uid in scene.looks].count("uid-1") <= 7
    assert [uid for _, uid in scene.looks].count("uid-2") <= 3


async def test_a_pod_that_runs_program_after_program_is_told_of_a_bounded_number(scene: Scene) -> None:
    scene.publish()
    scene.processes["uid-1"] = {image(n, f"/tmp/{n}"): Program(f"/tmp/{n}", Why.STATIC) for n in range(500)}
    await scene.pass_(4)
    assert len(scene.told()) == 64
    assert len(scene.notes.texts["uid-1"]) <= 1024
