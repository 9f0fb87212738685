"""The book of volumes: what may be published, who shows what, and a state file around every step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.delivery.engine import Versions
from agent.delivery.state import Phase, StateFiles, StateUnwritable, VolumeState
from agent.delivery.volumes import Volumes
from agent.model import EngineName, FilePlan, FileRead, OnUnavailable, PodRef, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode
from tests.unit.delivery.plans import plan

DB = SecretRef("file", "db")


class MemoryEngine:
    """An engine that serves from a dictionary, and looks at the state files while it works."""

    enforces_access = True
    needs_values = True

    def __init__(self, name: EngineName, states: StateFiles) -> None:
        self.name = name
        self.served: dict[str, VolumeState] = {}
        self.rotated: list[list[str]] = []
        self.phases: list[list[Phase]] = []
        self.closed: set[str] = set()
        self.applied: list[list[str]] = []
        self.failure: Exception | None = None
        self._states = states

    def _note(self) -> None:
        self.phases.append([state.phase for state in self._states.load()])

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        self._note()
        if self.failure:
            raise self.failure
        state = VolumeState(plan, self.name, Phase.PUBLISHED)
        self.served[plan.volume_id] = state
        return state

    def show(self, state: VolumeState) -> None:
        self._note()

    async def end(self, state: VolumeState) -> None:
        self._note()
        self.served.pop(state.plan.volume_id, None)

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        self.rotated.append([state.plan.volume_id for state in volumes])
        return set(version.values)

    def close(self, state: VolumeState) -> None:
        self.closed.add(state.plan.volume_id)

    def reopen(self, state: VolumeState, versions: Versions) -> None:
        self.closed.discard(state.plan.volume_id)

    def is_closed(self, state: VolumeState) -> bool:
        return state.plan.volume_id in self.closed

    def keep(self, state: VolumeState) -> VolumeState:
        self._note()
        return state

    def follow(self, state: VolumeState, versions: Versions) -> VolumeState:
        self._note()
        return state

    def apply(self, state: VolumeState) -> None:
        self.applied.append([state.ended for state in self._states.load()])

    def sizes(self, state: VolumeState) -> list[int]:
        return [7]

    def generation(self, ref: SecretRef) -> int:
        return len(self.rotated) + 1

    def reads(self, state: VolumeState, ref: SecretRef) -> list[tuple[FilePlan, FileRead]]:
        return [(file, FileRead(len(self.rotated) + 1)) for file in state.plan.files if file.ref == ref]

    def is_whole(self, state: VolumeState, mounted: set[str]) -> bool:
        return True


class Desk:
    def __init__(self, folder: Path) -> None:
        self.states = StateFiles(folder)
        self.iter = MemoryEngine(EngineName.ITER, self.states)
        self.tmpfs = MemoryEngine(EngineName.TMPFS, self.states)
        self.volumes = self.serving(EngineName.ITER)

    def serving(self, name: EngineName) -> Volumes:
        return Volumes({EngineName.ITER: self.iter, EngineName.TMPFS: self.tmpfs}, name, self.states)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_publish_writes_down_that_it_began_and_that_it_ended(desk: Desk) -> None:
    state = await desk.volumes.publish(plan(), {})
    assert desk.iter.phases == [[Phase.PUBLISHING]]
    assert desk.states.load() == [state]
    assert (len(desk.volumes), desk.volumes.get("csi-1"), desk.volumes.sizes(state)) == (1, state, [7])


async def test_a_publish_that_fails_leaves_nothing(desk: Desk) -> None:
    desk.iter.failure = OSError("no room")
    with pytest.raises(OSError, match="no room"):
        await desk.volumes.publish(plan(), {})
    assert (desk.states.load(), len(desk.volumes), desk.volumes.refs()) == ([], 0, set())
    assert desk.volumes.check(plan()) is False


async def test_an_unpublish_is_written_down_before_anything_is_taken_away(desk: Desk) -> None:
    state = await desk.volumes.publish(plan(), {})
    assert await desk.volumes.unpublish("csi-1") == state
    assert desk.iter.phases[-1] == [Phase.UNPUBLISHING]
    assert (desk.states.load(), desk.iter.served, len(desk.volumes)) == ([], {}, 0)
    assert await desk.volumes.unpublish("csi-1") is None


async def test_the_same_publish_again_is_known(desk: Desk) -> None:
    assert desk.volumes.check(plan()) is False
    await desk.volumes.publish(plan(), {})
    assert desk.volumes.check(plan()) is True
    desk.volumes.show_again("csi-1")


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("target_path", {"target_path": Path("/kubelet/elsewhere")}),
    ("volume_context.pod.uid", {"pod": PodRef("shop", "web", "uid-2", "web")}),
    ("volume_context.pod.namespace", {"pod": PodRef("bank", "web", "uid-1", "web")}),
    ("volume_context.pod.name", {"pod": PodRef("shop", "api", "uid-1", "web")}),
    ("volume_context.serviceAccount.name", {"pod": PodRef("shop", "web", "uid-1", "root")}),
    ("volume_context.interceptor", {"interceptor": "other"}),
    ("volume_capability.mount.volume_mount_group", {"fs_group": 1}),
]


@pytest.mark.parametrize(("field", "change"), OTHERS, ids=[field for field, _ in OTHERS])
async def test_a_publish_with_another_parameter_is_refused_by_its_name(
    desk: Desk, field: str, change: dict[str, Any]
) -> None:
    await desk.volumes.publish(plan(), {})
    with pytest.raises(Refused) as refused:
        desk.volumes.check(plan(**change))
    assert (refused.value.code, refused.value.field) == (Code.ALREADY_EXISTS, field)


async def test_a_target_belongs_to_one_volume(desk: Desk) -> None:
    await desk.volumes.publish(plan(), {})
    with pytest.raises(Refused, match="volume csi-1 is published there") as refused:
        desk.volumes.check(plan("csi-2", target_path=plan().target_path))
    assert refused.value.field == "target_path"


async def test_a_target_is_free_again_after_its_volume(desk: Desk) -> None:
    await desk.volumes.publish(plan(), {})
    await desk.volumes.unpublish("csi-1")
    assert desk.volumes.check(plan("csi-2", target_path=plan().target_path)) is False


def test_an_engine_that_cannot_hold_the_rule_serves_only_where_that_is_waived(desk: Desk) -> None:
    desk.tmpfs.enforces_access = False
    volumes = desk.serving(EngineName.TMPFS)
    with pytest.raises(Refused) as refused:
        volumes.check(plan())
    assert refused.value.field == "spec.access.unenforced"
    assert volumes.check(plan(allow_unenforced=True)) is False


def test_the_mode_preload_is_served_only_where_the_rule_is_waived_also_on_a_node_that_can_hold_it(desk: Desk) -> None:
    desk.tmpfs.enforces_access = False
    with pytest.raises(Refused, match="the mode `preload` is served by `tmpfs`") as refused:
        desk.volumes.check(plan(mode=Mode.PRELOAD))
    assert refused.value.field == "spec.access.unenforced"
    assert desk.volumes.check(plan(mode=Mode.PRELOAD, allow_unenforced=True)) is False


async def test_a_secret_that_is_shown_in_two_modes_rotates_in_both_each_by_its_engine(desk: Desk) -> None:
    await desk.volumes.publish(plan("csi-1"), {})
    preload = await desk.volumes.publish(plan("csi-2", mode=Mode.PRELOAD), {})
    assert (preload.engine, set(desk.iter.served), set(desk.tmpfs.served)) == (EngineName.TMPFS, {"csi-1"}, {"csi-2"})
    desk.volumes.rotate(SecretVersion(DB, {"username": b"bob"}))
    assert (desk.iter.rotated, desk.tmpfs.rotated) == ([["csi-1"]], [["csi-2"]])
    await desk.volumes.unpublish("csi-2")
    assert desk.tmpfs.served == {}


async def test_a_rotation_goes_to_the_volumes_that_show_the_secret_each_by_its_engine(desk: Desk) -> None:
    old = VolumeState(plan("csi-old"), EngineName.TMPFS, Phase.PUBLISHED)
    desk.volumes.add(old)
    for volume_id, secret in (("csi-1", "db"), ("csi-2", "db"), ("csi-3", "other")):
        await desk.volumes.publish(plan(volume_id, secret), {})
    assert desk.volumes.refs() == {DB, SecretRef("file", "other")}
    assert desk.volumes.rotate(SecretVersion(DB, {"key": b"new"})) == {"key"}
    assert (desk.iter.rotated, desk.tmpfs.rotated) == ([["csi-1", "csi-2"]], [["csi-old"]])
    for volume_id in ("csi-1", "csi-2", "csi-old"):
        await desk.volumes.unpublish(volume_id)
    assert desk.volumes.rotate(SecretVersion(DB, {"key": b"newer"})) == set()
    assert desk.volumes.refs() == {SecretRef("file", "other")}


async def test_the_readers_of_a_secret_are_those_of_every_volume_that_shows_it(desk: Desk) -> None:
    old = plan("csi-old")
    desk.volumes.add(VolumeState(old, EngineName.TMPFS, Phase.PUBLISHED))
    for volume_id, secret in (("csi-1", "db"), ("csi-2", "other")):
        await desk.volumes.publish(plan(volume_id, secret), {})
    assert desk.volumes.generation(DB) == 1
    first = [(plan("csi-1"), file, FileRead(1)) for file in plan("csi-1").files]
    assert desk.volumes.reads(DB) == [(old, file, FileRead(1)) for file in old.files] + first
    desk.volumes.rotate(SecretVersion(DB, {"key": b"new"}))
    assert desk.volumes.generation(DB) == 2


async def test_the_end_removes_an_empty_target(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "mount"
    target.mkdir()
    await desk.volumes.publish(plan(target_path=target), {})
    await desk.volumes.unpublish("csi-1")
    assert not target.exists()


REFUSE: dict[str, Any] = {"on_unavailable": OnUnavailable.REFUSE}


async def test_a_volume_whose_right_ends_is_closed_and_written_down_and_opened_again(desk: Desk) -> None:
    await desk.volumes.publish(plan(**REFUSE), {})
    desk.volumes.end_right("csi-1", "the label is off")
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert (desk.iter.closed, desk.states.load(), state.ended) == ({"csi-1"}, [state], "the label is off")
    assert desk.volumes.is_withheld(state)
    assert not desk.volumes.is_served(state)
    desk.volumes.return_right("csi-1", {})
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert (desk.iter.closed, desk.states.load(), state.ended) == (set(), [state], "")
    assert desk.volumes.is_served(state)


async def test_what_is_kept_is_written_down_before_readers_meet_it(desk: Desk) -> None:
    await desk.volumes.publish(plan(), {})
    desk.volumes.end_right("csi-1", "why")
    desk.volumes.return_right("csi-1", {})
    assert desk.iter.applied == [["why"], [""]]


async def test_a_volume_is_closed_also_where_that_cannot_be_written_down(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.volumes.publish(plan(**REFUSE), {})
    await desk.volumes.publish(plan("csi-2"), {})

    def full(state: VolumeState) -> None:
        raise StateUnwritable(Code.RESOURCE_EXHAUSTED, "KERNELSECRET_STATE_DIR", "cannot be written")

    monkeypatch.setattr(desk.states, "save", full)
    for volume_id in ("csi-1", "csi-2"):
        with pytest.raises(StateUnwritable):
            desk.volumes.end_right(volume_id, "why")
    closed, kept = (desk.volumes.get(volume_id) for volume_id in ("csi-1", "csi-2"))
    assert closed is not None
    assert kept is not None
    assert desk.volumes.is_withheld(closed)
    assert not desk.volumes.is_withheld(kept), "it goes on rotating, and is tried again"


async def test_a_rotation_passes_those_by_whose_right_has_ended(desk: Desk) -> None:
    for volume_id in ("csi-1", "csi-2"):
        await desk.volumes.publish(plan(volume_id), {})
    desk.volumes.end_right("csi-1", "why")
    desk.volumes.rotate(SecretVersion(DB, {"key": b"new"}))
    desk.volumes.end_right("csi-2", "why")
    desk.volumes.rotate(SecretVersion(DB, {"key": b"newer"}))
    assert desk.iter.rotated == [["csi-2"], []]
    assert (desk.volumes.following(DB), len(desk.volumes.showing(DB))) == ([], 2)
    assert (desk.volumes.followed(), desk.volumes.refs()) == (set(), {DB})


async def test_the_policy_of_a_published_volume_can_change(desk: Desk) -> None:
    await desk.volumes.publish(plan(), {})
    desk.volumes.set_plan(plan(on_unavailable=OnUnavailable.REFUSE))
    desk.volumes.end_right("csi-1", "why")
    assert desk.iter.closed == {"csi-1"}
    (saved,) = desk.states.load()
    assert saved.plan.on_unavailable is OnUnavailable.REFUSE
