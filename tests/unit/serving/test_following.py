"""Which secrets are looked at: those that somebody shows with a right to them, and how often."""

from __future__ import annotations

import asyncio

from agent.model import SecretRef
from agent.secrets.following import follow
from agent.secrets.pace import Pace
from kernelsecret.errors import Code, Refused
from tests.unit.decision.test_decide import INTERCEPTOR
from tests.unit.rights.test_rights import NONE
from tests.unit.serving.desk import Desk
from tests.unit.serving.interceptors import from_vault, policy

DB = SecretRef("file", "payments/db")


async def judged(desk: Desk) -> None:
    desk.parts.rights.look()
    await desk.parts.rights.judge()


async def test_a_secret_that_only_pods_without_a_right_show_is_not_looked_at(desk: Desk) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    desk.volumes.end_right("csi-2", "the label is off")
    desk.parts.rotator.forget_unused()
    assert set(desk.source.observers) == {DB}, "another pod has a right to it"
    desk.volumes.end_right("csi-1", "the label is off")
    desk.parts.rotator.forget_unused()
    assert desk.source.observers == {}


async def test_the_end_of_a_right_ends_the_looking_and_its_return_reads_anew(desk: Desk) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = NONE
    await judged(desk)
    assert desk.source.observers == {}
    desk.source.values = {"username": b"user-2", "password": b"password-2"}
    desk.view.held["interceptor"] = INTERCEPTOR
    await judged(desk)
    assert set(desk.source.observers) == {DB}
    assert desk.engine.values[DB]["username"] == b"user-2"


async def test_a_right_returns_only_with_values_of_now(desk: Desk) -> None:
    await desk.publish()
    desk.view.held["interceptor"] = NONE
    await judged(desk)
    desk.view.held["interceptor"] = INTERCEPTOR
    desk.source.failure = Refused(Code.PERMISSION_DENIED, "file:payments/db", "not any more")
    await judged(desk)
    state = desk.volumes.get("csi-1")
    assert state is not None
    assert state.ended
    assert desk.source.observers == {}, "what is not shown is not watched"


async def test_the_pace_is_that_of_the_most_impatient_volume_with_a_right(desk: Desk) -> None:
    pace = Pace(desk.volumes, 0.5)
    assert pace(DB) == 1.0
    policy(desk, "spec.rotation.pollInterval", "5s")
    await desk.publish()
    policy(desk, "spec.rotation.pollInterval", "2s")
    await desk.publish("csi-2", "uid-2")
    assert pace(DB) == 2.0
    desk.volumes.end_right("csi-2", "the label is off")
    assert pace(DB) == 5.0
    policy(desk, "spec.rotation.pollInterval", "100ms")
    await desk.publish("csi-3", "uid-3")
    assert pace(DB) == 0.5, "the node's floor"


async def test_a_stop_leaves_the_watches_to_their_sources(desk: Desk) -> None:
    """Who stops watching a secret revokes what it holds; an agent that stops goes on serving."""
    await desk.publish()
    await desk.parts.rotator.close()
    assert set(desk.source.observers) == {DB}


async def test_a_source_that_fails_is_told_once_and_its_return_too(desk: Desk) -> None:
    await desk.publish()
    observer = desk.source.observers[DB]
    observer.failed(DB, "is away")
    observer.failed(DB, "is away")
    assert (desk.reasons(), desk.teller.told) == (["source-down"], [("down", DB)] * 2)
    errors = desk.telling.metrics.registry.get_sample_value
    assert errors("kernelsecret_source_errors_total", {"source": "file", "kind": "unreadable"}) == 2
    desk.source.change({"username": b"user-1", "password": b"password-1"}, "version 1")
    assert (desk.reasons(), desk.teller.told[2:]) == ([], [("up", DB)])


async def test_after_a_restart_what_cannot_be_read_is_told_and_the_rest_is_followed(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish()
    (ref,) = desk.volumes.followed()
    desk.vault.failure = Refused(Code.UNAVAILABLE, "serviceAccount.tokens", "no live token is at hand")
    await follow(desk.parts.rotator, {ref})
    assert desk.reasons() == ["source-down"]
    assert set(desk.vault.observers) == {ref}


async def test_a_rotation_waits_for_the_least_interval_and_the_last_one_wins(desk: Desk) -> None:
    policy(desk, "spec.rotation.minInterval", "200ms")
    await desk.publish()
    for number in range(2, 10):
        desk.source.change({"username": f"user-{number}".encode(), "password": b"p"}, f"version {number}")
    assert desk.engine.values[DB]["username"] == b"user-2"
    async with asyncio.timeout(20):
        while desk.engine.values[DB]["username"] != b"user-9":  # noqa: ASYNC110 - the engine is a plain object
            await asyncio.sleep(0.01)
    assert len(desk.engine.rotated) == 2


async def test_sources_that_count_their_errors_themselves_are_not_counted_twice(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish()
    (ref,) = desk.volumes.followed()
    desk.vault.observers[ref].failed(ref, "is away")
    errors = desk.telling.metrics.registry.get_sample_value
    assert not errors("kernelsecret_source_errors_total", {"source": "vault", "kind": "unreadable"})
    assert desk.reasons() == ["source-down"]
