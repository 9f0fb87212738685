"""A registration that is handed over: its secrets are watched and at hand, for a while, and forgotten after it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.model import SecretRef, SecretVersion
from agent.secrets.prefetch import AT_ONCE, Prefetch
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import Registration
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed
from tests.unit.serving import desk as serving
from tests.unit.serving.desk import VALUES

DB = SecretRef("file", "payments/db")
REGISTRATION = Registration(
    pod_uid="uid-1",
    namespace="payments",
    name="api-0",
    service_account="api",
    interceptor="payments-db",
    node="node-1",
    expires_at=datetime.now(UTC),
    nonce="0" * 16,
)


class Desk:
    def __init__(self, folder: Path) -> None:
        made = serving.Desk(folder)
        self.source, self.kubernetes = made.source, made.kubernetes
        self.view, self.rotator = made.view, made.parts.rotator
        self.prefetch = Prefetch(self.view, self.rotator, made.parts.sources)

    async def registered(self) -> None:
        self.prefetch.registered(REGISTRATION)
        await asyncio.gather(*self.prefetch._tasks)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_what_was_fetched_ahead_is_not_fetched_again(desk: Desk) -> None:
    await desk.registered()
    assert (desk.source.fetched, set(desk.source.observers)) == ([DB], {DB})
    assert (await desk.rotator.fetch(DB)).values == VALUES
    assert len(desk.source.fetched) == 1
    await desk.rotator.close()


async def test_a_change_in_between_is_what_the_publish_gets(desk: Desk) -> None:
    await desk.registered()
    desk.source.observers[DB].changed(SecretVersion(DB, {"password": b"two"}))
    assert (await desk.rotator.fetch(DB)).values == {"password": b"two"}
    await desk.rotator.close()


async def test_a_source_that_fails_in_between_is_asked_by_the_publish(desk: Desk) -> None:
    await desk.registered()
    desk.source.observers[DB].failed(DB, "is not there")
    desk.source.failure = Refused(Code.NOT_FOUND, "file:payments/db", "is not there")
    with pytest.raises(Refused, match="is not there"):
        await desk.rotator.fetch(DB)
    await desk.rotator.close()


async def test_what_no_pod_came_for_is_forgotten(desk: Desk) -> None:
    await desk.rotator.expect([DB], 0.01)
    desk.rotator.forget_unused()
    assert set(desk.source.observers) == {DB}
    async with asyncio.timeout(20):
        while desk.source.observers:  # noqa: ASYNC110 - a timer of the loop's own
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("read_as", "refs"), [("pod", []), ("agent", [SecretRef("kubernetes", "payments/db")])])
async def test_what_is_read_as_the_pod_waits_for_the_pod_and_what_is_read_as_the_agent_does_not(
    desk: Desk, read_as: str, refs: list[SecretRef]
) -> None:
    source = {"kubernetes": {"name": "db", "readAs": read_as}}
    desk.view.held["interceptor"] = read_interceptor(changed("spec.secrets.0.source", source))
    await desk.registered()
    assert (desk.kubernetes.fetched, list(desk.kubernetes.observers)) == (refs, refs)
    await desk.rotator.close()


@pytest.mark.parametrize("what", ["interceptor", "source"])
async def test_what_cannot_be_had_ahead_is_left_to_the_publish(desk: Desk, what: str) -> None:
    refused = Refused(Code.UNAVAILABLE, what, "is away")
    if what == "interceptor":
        desk.view.held["interceptor"] = refused
    else:
        desk.source.failure = refused
    await desk.registered()
    assert await asyncio.sleep(0, "nothing was raised")
    await desk.rotator.close()


async def test_a_flood_of_registrations_is_bounded(desk: Desk) -> None:
    for _ in range(10 * AT_ONCE):
        desk.prefetch.registered(REGISTRATION)
    assert len(desk.prefetch._tasks) == AT_ONCE
    await desk.prefetch.close()
    assert not desk.prefetch._tasks
    await desk.rotator.close()
