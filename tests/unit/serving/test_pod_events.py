"""What users find in the Events of their pods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from agent.kube.event_book import EventReason
from agent.model import PodRef, SecretRef
from agent.observe.records import (
    Action,
    Kind,
    ProgramUnaffected,
    ReadRecord,
    Record,
    RightEnded,
    RightReturned,
    Rule,
    ServedUnenforced,
    Unpublished,
)
from agent.pod_events import PodEvents
from kernelsecret.errors import Refused
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed
from tests.unit.serving.desk import Desk

DB = SecretRef("file", "payments/db")
WHOSE: dict[str, Any] = {"time_ns": 1, "volume_id": "csi-1", "namespace": "payments", "pod": "api-0", "pod_uid": "u"}


@dataclass
class Writer:
    """Remembers what it was told."""

    told: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def tell(self, pod: PodRef, reason: EventReason, note: str, *, warning: bool) -> None:
        self.told.append((f"{pod.name} {pod.uid}", reason.value, note, warning))


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def events(desk: Desk, writer: Writer) -> PodEvents:
    return PodEvents(cast(Any, writer), desk.volumes)


async def test_every_pod_that_shows_a_secret_hears_once_that_it_is_down_and_once_that_it_is_back(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    for _ in range(5):
        events.down(DB, "Vault is sealed")
    events.up(DB)
    events.up(DB)
    assert sorted((who, reason, warning) for who, reason, _, warning in writer.told) == [
        ("api-0 uid-1", "SecretSourceDown", True),
        ("api-0 uid-1", "SecretSourceRecovered", False),
        ("api-0 uid-2", "SecretSourceDown", True),
        ("api-0 uid-2", "SecretSourceRecovered", False),
    ]
    assert "Vault is sealed" in writer.told[0][2]


async def test_kubelets_own_event_of_a_publish_that_failed_is_not_doubled(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    events.down(DB, "Vault is sealed")
    assert writer.told == []


async def test_that_kubelet_has_not_brought_tokens_to_a_new_agent_yet_is_told_only_when_it_lasts(
    desk: Desk, writer: Writer
) -> None:
    now = 0.0
    events = PodEvents(cast(Any, writer), desk.volumes, clock=lambda: now)
    await desk.publish()
    with pytest.raises(Refused) as lacking:
        desk.credentials.token("payments/api", "vault")
    events.down(DB, str(lacking.value))
    assert writer.told == []
    now = 151.0
    events.down(DB, str(lacking.value))
    assert [reason for _, reason, _, _ in writer.told] == ["SecretSourceDown"]


async def test_a_version_that_cannot_be_shown_is_told_and_so_is_the_next_that_can(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    await desk.publish()
    events.shown(DB)
    assert writer.told == []
    events.not_shown(DB, "file 'dsn': no key")
    events.shown(DB)
    assert [reason for _, reason, _, _ in writer.told] == ["RotationFailed", "RotationRecovered"]


async def test_where_only_some_volumes_are_behind_only_their_pods_are_told(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    events.not_shown(DB, "the volume's memory is full", ("csi-2",))
    events.shown(DB)
    assert [who.split()[1] for who, _, _, _ in writer.told] == ["uid-2", "uid-2"]


async def test_a_secret_that_is_only_polled_is_told_to_pods_that_come_before_and_after(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    desk.telling.recorder.also = [events.recorded]
    events.polled(DB, "let the account watch it")
    await desk.publish()
    events.polled(DB, "let the account watch it")
    assert [(who, reason) for who, reason, _, _ in writer.told] == [("api-0 uid-1", "SecretPolled")] * 2
    events.forget(DB)
    await desk.publish("csi-2", "uid-2")
    assert len(writer.told) == 2


READ = ReadRecord(
    **WHOSE,
    kind=Kind.REFUSED,
    file="password",
    pid=7,
    uid=0,
    comm=b"cat",
    exe_inode=1,
    exe_device=1,
    rule=Rule.APP,
    action=Action.DENY,
)
RIGHT: dict[str, Any] = WHOSE | {"interceptor": "payments-db"}
POD = {name: value for name, value in WHOSE.items() if name != "volume_id"}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (READ, "ReadRefused"),
        (RightEnded(**RIGHT, policy="keep", field="interceptor payments-db", why="was deleted"), "RightEnded"),
        (RightReturned(**RIGHT), "RightReturned"),
        (ServedUnenforced(**RIGHT, engine="tmpfs", access="app", why="no BTF"), "ServedUnenforced"),
        (ProgramUnaffected(**POD, program="/bin/busybox", why="static"), "ProgramUnaffected"),
        (Unpublished(**WHOSE, reason="requested"), ""),
    ],
)
def test_what_happens_to_a_pod_is_told_where_its_users_can_do_something(
    events: PodEvents, writer: Writer, record: Record, reason: str
) -> None:
    events.recorded(record)
    assert [told for _, told, _, _ in writer.told] == ([reason] if reason else [])


async def test_a_rule_that_the_node_cannot_hold_is_told_the_pod_once_with_the_reason(
    desk: Desk, events: PodEvents, writer: Writer
) -> None:
    desk.telling.recorder.also = [events.recorded]
    desk.engine.enforces_access = False
    desk.volumes.reason = "a canary could not be read (EPERM)"
    desk.view.held["interceptor"] = read_interceptor(changed("spec.access.unenforced", "allow"))
    for _ in range(2):
        await desk.publish()
    ((who, reason, note, warning),) = writer.told
    assert (who, reason, warning) == ("api-0 uid-1", "ServedUnenforced", True)
    assert "`from: app`" in note
    assert "a canary could not be read (EPERM)" in note
    assert b'kernelsecret_unenforced_volumes_total{engine="iter"} 1.0' in desk.telling.metrics.render()


async def test_nothing_is_told_where_the_rule_is_held(desk: Desk, events: PodEvents, writer: Writer) -> None:
    desk.telling.recorder.also = [events.recorded]
    await desk.publish()
    assert writer.told == []
