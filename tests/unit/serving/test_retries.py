"""A version that volumes cannot show: the last one stays, it is told, and tried again, but not too often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from agent.delivery.engine import BehindError
from agent.delivery.state import VolumeState
from agent.model import SecretRef, SecretVersion
from agent.secrets.rotation import FIRST_RETRY_S, LONGEST_RETRY_S
from kernelsecret.errors import Code, Refused
from tests.unit.serving.desk import Desk

DB = SecretRef("file", "payments/db")


def broken(version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
    raise OSError(28, "No space left on device")


def change(desk: Desk, number: int) -> None:
    desk.source.change({"username": f"user-{number}".encode(), "password": b"p"}, f"version {number}")


async def test_it_is_tried_again_after_longer_and_longer_but_never_longer_than_five_seconds(desk: Desk) -> None:
    await desk.publish()
    desk.engine.rotate = broken  # type: ignore[method-assign]
    waits = []
    for number in range(2, 9):
        change(desk, number)
        timer = desk.parts.rotator._timers.pop(DB)
        waits.append(round(timer.when() - asyncio.get_running_loop().time(), 1))
        timer.cancel()
    assert waits == [FIRST_RETRY_S, 1, 2, 4, LONGEST_RETRY_S, LONGEST_RETRY_S, LONGEST_RETRY_S]
    assert desk.reasons() == ["rotation-failed"]


async def test_one_try_is_waited_for_however_many_versions_cannot_be_shown(desk: Desk) -> None:
    await desk.publish()
    desk.engine.rotate = broken  # type: ignore[method-assign]
    change(desk, 2)
    first = desk.parts.rotator._timers[DB]
    change(desk, 3)
    assert desk.parts.rotator._timers[DB] is first
    del desk.engine.rotate
    first.cancel()
    desk.parts.rotator._retry(DB)
    await asyncio.gather(*desk.parts.rotator._fetches)
    assert desk.engine.values[DB]["username"] == b"user-3"
    assert desk.reasons() == []


async def test_a_volume_that_cannot_follow_keeps_no_news_from_the_others(desk: Desk) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    told: list[list[str]] = []

    def rotated(volumes: Iterable[VolumeState]) -> dict[str, int]:
        told.append([state.plan.volume_id for state in volumes])
        return {}

    desk.parts.rotator._showing._notifier.rotated = rotated  # type: ignore[method-assign]

    def in_part(version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        raise BehindError(Refused(Code.RESOURCE_EXHAUSTED, str(DB), "its memory is full"), ["csi-2"], ["username"])

    desk.engine.rotate = in_part  # type: ignore[method-assign]
    change(desk, 2)
    assert told == [["csi-1"]]
    assert desk.reasons() == ["rotation-failed"]
    assert DB in desk.parts.rotator._timers, "it is tried again"
    desk.parts.rotator._timers.pop(DB).cancel()


async def test_what_nobody_shows_any_more_is_not_tried_again(desk: Desk) -> None:
    await desk.publish()
    fetched = len(desk.source.fetched)
    desk.parts.rotator._retry(DB)
    desk.volumes.end_right("csi-1", "the label is off")
    desk.parts.rotator.forget_unused()
    await asyncio.gather(*desk.parts.rotator._fetches)
    assert (desk.source.observers, len(desk.source.fetched)) == ({}, fetched)


async def test_values_beyond_a_bound_are_served_counted_and_told(desk: Desk) -> None:
    await desk.publish()
    beyond = 1 << 21  # of the pod, which may have 1 MiB
    desk.engine.sizes = lambda state: [beyond // 4] * 4  # type: ignore[method-assign]
    change(desk, 2)
    assert desk.engine.values[DB]["username"] == b"user-2"
    assert desk.parts.ledger.usage("payments").bytes_ == beyond
    assert desk.reasons() == ["quota-exceeded"]
    desk.engine.sizes = lambda state: [7]  # type: ignore[method-assign]
    change(desk, 3)
    assert desk.parts.ledger.usage("payments").bytes_ == 7
    assert desk.reasons() == []
