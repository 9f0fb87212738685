"""A registration that is handed over: its secrets are watched and at hand, for a while, and forgotten after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.delivery.notify import Notifier
from agent.delivery.quota import Ledger
from agent.delivery.state import StateFiles
from agent.delivery.volumes import Volumes
from agent.model import EngineName, Observer, SecretRef, SecretVersion, SourceFacts
from agent.observe.conditions import Conditions
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.prefetch import AT_ONCE, Prefetch
from agent.rotation import Rotator
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import Registration
from kernelsecret.validation import read_interceptor
from telemetry.audit import AuditLog
from tests.unit.contract.builders import changed
from tests.unit.delivery.test_volumes import MemoryEngine
from tests.unit.rights.test_rights import View

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


class MemorySource:
    """A source that counts who asks and who watches."""

    name = "file"

    def __init__(self) -> None:
        self.value = b"one"
        self.fetched = 0
        self.observers: dict[SecretRef, Observer] = {}
        self.failure: Refused | None = None

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        self.fetched += 1
        if self.failure:
            raise self.failure
        return SecretVersion(ref, {"password": self.value})

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        self.observers[ref] = observer

        def stop() -> None:
            self.observers.pop(ref, None)

        return stop

    def nudge(self, path: str) -> int:
        return 0

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        return None

    def all_read(self, ref: SecretRef, label: str) -> None: ...

    async def close(self) -> None:
        self.observers.clear()


class Desk:
    def __init__(self, folder: Path) -> None:
        states = StateFiles(folder / "states")
        engine = MemoryEngine(EngineName.TMPFS, states)
        volumes = Volumes({EngineName.TMPFS: engine}, EngineName.TMPFS, states)
        self.source, self.view = MemorySource(), View()
        metrics = Metrics()
        recorder = Recorder(AuditLog(folder / "audit"), EventHub())
        self.rotator = Rotator(
            volumes,
            {"file": self.source, "kubernetes": self.source},
            Notifier(None, None),
            Ledger(),
            metrics,
            Conditions(metrics),
            recorder,
        )
        self.prefetch = Prefetch(self.view, self.rotator, {"file": self.source, "kubernetes": self.source})

    async def registered(self) -> None:
        self.prefetch.registered(REGISTRATION)
        await asyncio.gather(*self.prefetch._tasks)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_what_was_fetched_ahead_is_not_fetched_again(desk: Desk) -> None:
    await desk.registered()
    assert (desk.source.fetched, set(desk.source.observers)) == (1, {DB})
    assert (await desk.rotator.fetch(DB)).values == {"password": b"one"}
    assert desk.source.fetched == 1
    desk.rotator.close()


async def test_a_change_in_between_is_what_the_publish_gets(desk: Desk) -> None:
    await desk.registered()
    desk.source.observers[DB].changed(SecretVersion(DB, {"password": b"two"}))
    assert (await desk.rotator.fetch(DB)).values == {"password": b"two"}
    desk.rotator.close()


async def test_a_source_that_fails_in_between_is_asked_by_the_publish(desk: Desk) -> None:
    await desk.registered()
    desk.source.observers[DB].failed(DB, "is not there")
    desk.source.failure = Refused(Code.NOT_FOUND, "file:payments/db", "is not there")
    with pytest.raises(Refused, match="is not there"):
        await desk.rotator.fetch(DB)
    desk.rotator.close()


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
    assert (desk.source.fetched, list(desk.source.observers)) == (len(refs), refs)
    desk.rotator.close()


@pytest.mark.parametrize("what", ["interceptor", "source"])
async def test_what_cannot_be_had_ahead_is_left_to_the_publish(desk: Desk, what: str) -> None:
    refused = Refused(Code.UNAVAILABLE, what, "is away")
    if what == "interceptor":
        desk.view.held["interceptor"] = refused
    else:
        desk.source.failure = refused
    await desk.registered()
    assert await asyncio.sleep(0, "nothing was raised")
    desk.rotator.close()


async def test_a_flood_of_registrations_is_bounded(desk: Desk) -> None:
    for _ in range(10 * AT_ONCE):
        desk.prefetch.registered(REGISTRATION)
    assert len(desk.prefetch._tasks) == AT_ONCE
    await desk.prefetch.close()
    assert not desk.prefetch._tasks
    desk.rotator.close()
