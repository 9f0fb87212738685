"""When the rights of volumes are judged, and what an answer that does not come means: nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery.state import StateFiles
from agent.delivery.volumes import Volumes
from agent.kube.cluster import LivePod
from agent.model import EngineName, OnUnavailable, PodRef, SecretRef, SecretVersion, VolumePlan
from agent.observe.conditions import Conditions, Reason
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import RightEnded, RightReturned
from agent.rights import Rights
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.registration import Registration
from kernelsecret.validation import read_interceptor
from telemetry.audit import AuditLog
from tests.unit.contract.builders import changed
from tests.unit.decision.test_decide import INTERCEPTOR, POD, plan
from tests.unit.delivery.test_volumes import MemoryEngine

AWAY = Refused(Code.UNAVAILABLE, "API server", "does not answer")
NONE = Refused(Code.NOT_FOUND, "object", "there is none")


class View:
    """A cluster that answers what it is told to: `fresh` overrides what is held, a Refused is raised."""

    def __init__(self) -> None:
        self.held: dict[str, LivePod | SecretInterceptor | Refused] = {"pod": POD, "interceptor": INTERCEPTOR}
        self.fresh: dict[str, LivePod | SecretInterceptor | Refused] = {}
        self.asked: list[tuple[str, bool]] = []

    def _answer(self, what: str, fresh: bool) -> LivePod | SecretInterceptor:
        self.asked.append((what, fresh))
        found = (self.held | self.fresh if fresh else self.held)[what]
        if isinstance(found, Refused):
            raise found
        return found

    async def pod(self, namespace: str, name: str, uid: str = "", *, fresh: bool = False) -> LivePod:
        found = self._answer("pod", fresh)
        assert isinstance(found, LivePod)
        return found

    async def interceptor(self, name: str, *, fresh: bool = False) -> SecretInterceptor:
        found = self._answer("interceptor", fresh)
        assert isinstance(found, SecretInterceptor)
        return found

    async def registration(self, pod: PodRef) -> Registration:
        raise AssertionError("a right needs no registration")

    async def run(self, changed: Callable[[], None]) -> None:
        raise AssertionError("the tests say themselves what has changed")


class Desk:
    def __init__(self, folder: Path) -> None:
        states = StateFiles(folder / "states")
        self.engine = MemoryEngine(EngineName.TMPFS, states)
        self.volumes = Volumes({EngineName.TMPFS: self.engine}, EngineName.TMPFS, states)
        self.view = View()
        self.conditions = Conditions(Metrics())
        self.hub = EventHub()
        self.source: Refused | None = None
        self.fine: set[str] = set()
        """Volumes whose source answers all the same."""
        recorder = Recorder(AuditLog(folder / "audit"), self.hub)
        self.calls: list[str] = []
        self.ends = 0
        self.rights = Rights(
            self.view, self.volumes, self, ("file",), self.conditions, recorder, on_ended=self._note_end
        )

    def _note_end(self) -> None:
        self.ends += 1

    def holding(self, plan: VolumePlan) -> AbstractContextManager[None]:
        return nullcontext()

    async def current(self, plan: VolumePlan) -> Mapping[SecretRef, SecretVersion]:
        self.calls.append(plan.volume_id)
        if self.source and plan.volume_id not in self.fine:
            raise self.source
        return {file.ref: SecretVersion(file.ref, {}) for file in plan.files}

    async def publish(self, policy: OnUnavailable = OnUnavailable.REFUSE, volume_id: str = "csi-1") -> None:
        made = replace(plan(), on_unavailable=policy, volume_id=volume_id, target_path=Path(f"/x/{volume_id}"))
        await self.volumes.publish(made, {})

    async def judge(self) -> bool:
        self.rights.look()
        return await self.rights.judge()

    def told(self) -> list[str]:
        kinds = {RightEnded: "ended", RightReturned: "returned"}
        return [kinds[type(record)] for record in self.hub.recent() if type(record) in kinds]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def refusing(desk: Desk) -> None:
    """A volume that was closed, because its interceptor is gone."""
    await desk.publish()
    desk.view.held["interceptor"] = NONE
    assert await desk.judge()
    assert "csi-1" in desk.engine.closed


async def test_an_end_is_told_once_and_so_is_a_return(desk: Desk) -> None:
    await refusing(desk)
    assert await desk.judge()
    assert [one.subject for one in desk.conditions.holding()] == ["csi-1"]
    desk.view.held["interceptor"] = INTERCEPTOR
    assert await desk.judge()
    assert await desk.judge()
    assert desk.told() == ["ended", "returned"]
    assert (desk.engine.closed, desk.conditions.reasons()) == (set(), [])


async def test_a_waiver_that_is_withdrawn_ends_the_right_of_what_is_served_by_it_and_of_nothing_else(
    desk: Desk,
) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = read_interceptor(changed("spec.access.unenforced", "refuse"))
    assert await desk.judge()
    assert desk.told() == []
    desk.engine.enforces_access = False
    assert await desk.judge()
    assert desk.told() == ["ended"]
    desk.view.held["interceptor"] = read_interceptor(changed("spec.access.unenforced", "allow"))
    assert await desk.judge()
    assert desk.told() == ["ended", "returned"]


async def test_what_is_held_ends_no_right_that_a_question_confirms(desk: Desk) -> None:
    """A volume is published by an answer of just now; what the watch holds may be older."""
    await desk.publish()
    desk.view.held["interceptor"] = NONE
    desk.view.fresh["interceptor"] = INTERCEPTOR
    assert await desk.judge()
    assert (desk.told(), desk.engine.closed) == ([], set())


async def test_what_is_held_counts_where_nobody_answers_the_question(desk: Desk) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = NONE
    desk.view.fresh = {"pod": AWAY, "interceptor": AWAY}
    assert await desk.judge()
    assert desk.engine.closed == {"csi-1"}


async def test_once_ended_nobody_is_asked_again_and_again(desk: Desk) -> None:
    await refusing(desk)
    desk.view.asked.clear()
    await desk.judge()
    assert all(not fresh for _, fresh in desk.view.asked)


@pytest.mark.parametrize("what", ["pod", "interceptor"])
async def test_not_known_is_not_ended_and_not_returned(desk: Desk, what: str) -> None:
    await desk.publish(volume_id="csi-0")
    desk.view.held[what] = AWAY
    assert not await desk.judge()
    assert desk.told() == []
    desk.view.held[what] = POD if what == "pod" else INTERCEPTOR
    await refusing(desk)
    desk.view.held |= {"interceptor": INTERCEPTOR, what: AWAY}
    assert not await desk.judge()
    assert desk.engine.closed == {"csi-0", "csi-1"}
    desk.view.held[what] = POD if what == "pod" else INTERCEPTOR
    assert await desk.rights.judge(), "what could not be judged is judged again by itself"
    assert desk.engine.closed == set()


@pytest.mark.parametrize("pod", [NONE, replace(POD, uid="another")])
async def test_a_pod_that_is_gone_is_kubelets_to_end(desk: Desk, pod: LivePod | Refused) -> None:
    await desk.publish()
    desk.view.held = {"pod": pod, "interceptor": NONE}
    assert await desk.judge()
    assert desk.told() == []


async def test_an_interceptor_that_cannot_be_read_changes_nothing_and_is_looked_at_again(desk: Desk) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = Refused(Code.FAILED_PRECONDITION, "interceptor", "is not one YAML document")
    assert not await desk.judge()
    assert desk.told() == []


async def test_a_volume_that_needs_its_values_stays_closed_until_its_source_has_them(desk: Desk) -> None:
    await refusing(desk)
    desk.view.held["interceptor"] = INTERCEPTOR
    desk.source = Refused(Code.UNAVAILABLE, "file:payments/db", "is not there")
    assert not await desk.judge()
    assert desk.engine.closed == {"csi-1"}
    desk.source = None
    assert await desk.rights.judge()
    assert desk.told() == ["ended", "returned"]


async def test_one_source_that_is_away_keeps_no_other_volume_from_its_right(desk: Desk) -> None:
    await refusing(desk)
    await desk.volumes.publish(replace(plan(), volume_id="csi-2", target_path=Path("/x/2")), {})
    desk.volumes.end_right("csi-2", "why")
    desk.view.held["interceptor"] = INTERCEPTOR
    desk.source, desk.fine = Refused(Code.UNAVAILABLE, "file:payments/db", "is not there"), {"csi-2"}
    assert not await desk.judge()
    assert (desk.calls, desk.told()) == (["csi-1", "csi-2"], ["ended", "returned"])


async def test_the_policy_follows_the_interceptor_while_the_right_holds(desk: Desk) -> None:
    await desk.publish(OnUnavailable.REFUSE)
    await desk.judge()
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert state.plan.on_unavailable is OnUnavailable.KEEP, "the example keeps"


async def test_how_soon_changes_are_shown_follows_the_interceptor_and_the_namespace(desk: Desk) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = read_interceptor(
        changed("spec.rotation", {"pollInterval": "2s", "minInterval": "7s", "revokeAfter": "1m"})
    )
    await desk.judge()
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert (state.plan.poll_s, state.plan.min_interval_s, state.plan.revoke_after_s) == (2, 7, 60)
    desk.view.held["pod"] = replace(POD, least_poll_s=30.0)
    await desk.judge()
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert state.plan.poll_s == 30
    desk.view.held["pod"] = replace(POD, least_poll_s=0.1)
    await desk.judge()
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert state.plan.poll_s == 2, "a namespace can only lengthen it"


async def test_of_a_volume_without_a_right_nothing_follows(desk: Desk) -> None:
    await refusing(desk)
    before = desk.volumes.get("csi-1")
    assert before is not None
    desk.view.held["interceptor"] = read_interceptor(changed("metadata.deletionTimestamp", "2026-01-01T00:00:00Z"))
    await desk.judge()
    assert desk.volumes.get("csi-1") == before
    assert desk.ends == 1


async def test_values_are_read_anew_before_a_right_returns(desk: Desk) -> None:
    await refusing(desk)
    assert desk.calls == []
    desk.view.held["interceptor"] = INTERCEPTOR
    await desk.judge()
    assert desk.calls == ["csi-1"]


async def test_what_an_earlier_agent_said_is_said_again(desk: Desk) -> None:
    await refusing(desk)
    desk.conditions.clear(Reason.RIGHT_ENDED, "csi-1")
    desk.rights.recall()
    (held,) = desk.conditions.holding()
    assert (held.reason, held.subject, "was deleted" in held.why) == (Reason.RIGHT_ENDED, "csi-1", True)


async def test_a_volume_that_was_closed_by_an_agent_that_told_nobody_is_told_of(desk: Desk) -> None:
    await desk.publish()
    desk.engine.closed.add("csi-1")
    desk.view.held["interceptor"] = NONE
    assert await desk.judge()
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert (desk.told(), bool(state.ended)) == (["ended"], True)


async def test_only_what_was_asked_for_is_judged(desk: Desk) -> None:
    await desk.publish(volume_id="csi-1")
    await desk.publish(volume_id="csi-2")
    await desk.rights.judge()
    desk.view.held["interceptor"] = NONE
    desk.rights.look("csi-2")
    assert await desk.rights.judge()
    assert [state.plan.volume_id for state in desk.volumes.all() if state.ended] == ["csi-2"]
