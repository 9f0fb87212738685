"""The shim's volume at the publisher: asked of the cluster, told where it is refused, and left where nobody answers."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery.mounts import MountError
from agent.delivery.shims import Shims, ShimState
from agent.delivery.state import StateUnwritable
from agent.model import ShimRequest
from agent.observe.records import PublishRefused, Record, Unpublished
from kernelsecret.errors import Code, Refused
from tests.unit.decision.test_shim import GIVEN, SHIM
from tests.unit.serving.desk import Desk

AWAY = Refused(Code.UNAVAILABLE, "API server", "does not answer")


class MemoryShims(Shims):
    """Volumes of the shim without mounts."""

    failure: Exception | None = None

    def publish(self, request: ShimRequest) -> None:
        if self.failure:
            raise self.failure
        self._shown[request.volume_id] = ShimState(request.volume_id, request.target_path, request.pod, "c")

    def unpublish(self, volume_id: str) -> ShimState | None:
        return self._shown.pop(volume_id, None)


@pytest.fixture
def shims(tmp_path: Path) -> MemoryShims:
    return MemoryShims(tmp_path, tmp_path / "states")


@pytest.fixture
def place(shims: MemoryShims, tmp_path: Path) -> Desk:
    """A desk with a pod that was given the mode."""
    desk = Desk(tmp_path, shims)
    desk.view.held["pod"] = GIVEN
    return desk


@pytest.fixture
def records(place: Desk) -> list[Record]:
    """What is written down."""
    made: list[Record] = []
    place.telling.recorder.also.append(made.append)
    return made


async def test_it_is_given_without_interceptor_registration_or_tokens_and_taken_away_again(
    place: Desk, shims: MemoryShims, records: list[Record]
) -> None:
    await place.parts.publisher.publish(SHIM)
    assert len(shims) == 1
    assert (place.verified, [what for what, _ in place.view.asked]) == ([], ["pod"])
    await place.parts.publisher.unpublish(SHIM.volume_id, SHIM.target_path)
    assert len(shims) == 0
    assert [(one.pod, one.reason) for one in records if isinstance(one, Unpublished)] == [("api-0", "requested")]


async def test_a_refusal_comes_after_a_look_at_the_cluster_itself_and_is_written_down(
    place: Desk, records: list[Record]
) -> None:
    place.view.held["pod"] = replace(GIVEN, annotations={})
    with pytest.raises(Refused, match="has not opted in"):
        await place.parts.publisher.publish(SHIM)
    assert place.view.asked == [("pod", False), ("pod", True)]
    (refusal,) = (one for one in records if isinstance(one, PublishRefused))
    assert (refusal.volume_id, refusal.interceptor) == ("csi-2", "")


async def test_what_is_held_of_the_pod_may_be_older_than_what_lets_it_have_the_shim(
    place: Desk, shims: MemoryShims
) -> None:
    place.view.held["pod"] = replace(GIVEN, annotations={})
    place.view.fresh["pod"] = GIVEN
    await place.parts.publisher.publish(SHIM)
    assert len(shims) == 1


async def test_one_that_is_shown_stays_where_the_cluster_does_not_answer_and_a_new_one_waits(
    place: Desk, shims: MemoryShims
) -> None:
    await place.parts.publisher.publish(SHIM)
    place.view.held["pod"] = AWAY
    await place.parts.publisher.publish(SHIM)
    with pytest.raises(Refused) as refused:
        await place.parts.publisher.publish(replace(SHIM, volume_id="csi-3"))
    assert refused.value.code is Code.UNAVAILABLE
    assert len(shims) == 1


@pytest.mark.parametrize(
    ("failure", "code", "condition"),
    [
        (MountError("mount", errno.ENOMEM, "/x"), Code.RESOURCE_EXHAUSTED, "kernel-limit"),
        (OSError(errno.ENOSPC, "no room"), Code.RESOURCE_EXHAUSTED, "kernel-limit"),
        (StateUnwritable(Code.FAILED_PRECONDITION, "dir", "why"), Code.FAILED_PRECONDITION, "state-unwritable"),
    ],
)
async def test_what_the_node_cannot_do_is_a_refusal_and_a_condition(
    place: Desk, shims: MemoryShims, failure: Exception, code: Code, condition: str
) -> None:
    shims.failure = failure
    with pytest.raises(Refused) as refused:
        await place.parts.publisher.publish(SHIM)
    assert refused.value.code is code
    assert condition in place.reasons()


async def test_a_volume_whose_pod_is_neither_on_the_node_nor_in_the_cluster_is_ended(
    place: Desk, shims: MemoryShims
) -> None:
    await place.parts.publisher.publish(SHIM)
    assert await place.parts.publisher.end_orphans(lambda uid: True) == 0
    assert await place.parts.publisher.end_orphans(lambda uid: False) == 0, "the cluster has it"
    place.view.held["pod"] = AWAY
    assert await place.parts.publisher.end_orphans(lambda uid: False) == 0, "nobody knows"
    place.view.held["pod"] = Refused(Code.NOT_FOUND, "pod", "there is none")
    assert await place.parts.publisher.end_orphans(lambda uid: False) == 1
    assert len(shims) == 0
