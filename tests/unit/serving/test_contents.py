"""What a volume begins with: all of it, side by side, in time, as new as anything that was heard of meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent.model import SecretRef, SecretVersion
from agent.secrets import contents as contents_of
from agent.secrets.contents import MOST_WAITING, WAITS_S, Contents
from kernelsecret.errors import Code, Refused
from tests.unit.serving.desk import VALUES, Desk
from tests.unit.serving.interceptors import files, policy

DB, OTHER = SecretRef("file", "payments/db"), SecretRef("file", "payments/other")
SECRETS = [
    {"name": name, "source": {"file": {"path": f"payments/{name}"}}, "files": [{"path": name, "key": "password"}]}
    for name in ("db", "other")
]


async def waiting(desk: Desk, count: int) -> None:
    """Until so many fetches are under way."""
    async with asyncio.timeout(20):
        while len(desk.source.fetched) < count:  # noqa: ASYNC110 - the source is a plain object
            await asyncio.sleep(0)


async def test_several_secrets_are_fetched_side_by_side(desk: Desk) -> None:
    policy(desk, "spec.secrets", SECRETS)
    desk.source.gate = asyncio.Event()
    publish = asyncio.create_task(desk.publish())
    await waiting(desk, 2)
    desk.source.gate.set()
    await publish
    assert set(desk.source.fetched) == {DB, OTHER}


async def test_what_changes_while_another_is_fetched_is_what_is_shown(desk: Desk) -> None:
    policy(desk, "spec.secrets", SECRETS)
    desk.source.gate = asyncio.Event()
    publish = asyncio.create_task(desk.publish())
    await waiting(desk, 2)
    desk.source.gate.set()
    await asyncio.sleep(0)
    desk.source.observers[DB].changed(SecretVersion(DB, {"password": b"newer"}, "version 2"))
    await publish
    assert desk.engine.values[DB]["password"] == b"newer"


async def test_a_publish_hears_of_a_source_that_does_not_answer_long_before_kubelet_gives_up(desk: Desk) -> None:
    contents = Contents(desk.parts.rotator, None, within_s=0.02)  # type: ignore[arg-type]
    desk.source.gate = asyncio.Event()
    desk.parts.publisher._contents = contents
    with pytest.raises(Refused, match=r"file:payments/db: was not read within 0.02 s") as refused:
        await desk.publish()
    assert refused.value.code is Code.UNAVAILABLE
    assert desk.source.observers == {}, "nothing is watched for a volume that is not there"


async def test_kubelets_retry_succeeds_when_the_source_is_back(desk: Desk) -> None:
    desk.source.failure = Refused(Code.UNAVAILABLE, "KERNELSECRET_VAULT_ADDRESS", "nobody answers")
    with pytest.raises(Refused, match="nobody answers"):
        await desk.publish()
    assert len(desk.volumes) == 0
    desk.source.failure = None
    await desk.publish()
    assert desk.engine.values[DB] == VALUES


async def test_many_pods_that_want_one_secret_ask_for_it_once(desk: Desk) -> None:
    desk.source.gate = asyncio.Event()
    fetches = [asyncio.create_task(desk.parts.rotator.fetch(DB)) for _ in range(10)]
    await waiting(desk, 1)
    desk.source.gate.set()
    await asyncio.gather(*fetches)
    assert desk.source.fetched == [DB]


async def test_one_who_gives_up_takes_the_answer_from_nobody(desk: Desk) -> None:
    desk.source.gate = asyncio.Event()
    first, second = (asyncio.create_task(desk.parts.rotator.fetch(DB)) for _ in range(2))
    await waiting(desk, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    desk.source.gate.set()
    assert (await second).values == VALUES


async def test_the_end_of_one_publish_leaves_what_another_waits_for_watched(desk: Desk) -> None:
    desk.source.gate = asyncio.Event()
    publish = asyncio.create_task(desk.publish())
    await waiting(desk, 1)
    desk.parts.rotator.forget_unused()
    desk.source.gate.set()
    await publish
    assert set(desk.source.observers) == {DB}


async def test_files_are_shown_in_their_shapes_also_after_a_rotation(desk: Desk) -> None:
    files(desk, {"path": "dsn", "template": "{{ username }}:{{ password }}"}, {"path": "user", "key": "username"})
    await desk.publish()
    item = "/{{ username }}:{{ password }}"
    assert desk.engine.values[DB][item] == b"user-1:password-1"
    desk.source.change({"username": b"user-2", "password": b"password-2"}, "version 2")
    assert desk.engine.values[DB][item] == b"user-2:password-2"


async def test_a_shape_that_fails_refuses_the_volume_by_the_files_name_and_no_value(desk: Desk) -> None:
    files(desk, {"path": "port", "key": "password", "jsonPointer": "/port"})
    with pytest.raises(
        Refused, match=r"interceptor payments-db: file 'port': cannot be made of file:payments/db"
    ) as no:
        await desk.publish()
    assert no.value.code is Code.FAILED_PRECONDITION
    assert "password-1" not in str(no.value)


async def test_a_version_that_a_shape_cannot_be_made_of_is_not_shown_at_all(desk: Desk) -> None:
    files(desk, {"path": "dsn", "template": "{{ username }}:{{ password }}"}, {"path": "user", "key": "username"})
    await desk.publish()
    desk.source.change({"username": b"user-2"}, "version 2")
    assert desk.engine.values[DB]["username"] == b"user-1"
    (held,) = desk.telling.conditions.holding()
    assert (held.reason.value, held.subject) == ("rotation-failed", "file:payments/db")
    assert "interceptor payments-db: file 'dsn'" in held.why
    assert desk.teller.told[-1] == ("not shown", DB)
    desk.source.change({"username": b"user-3", "password": b"p"}, "version 3")
    assert desk.engine.values[DB]["username"] == b"user-3"
    assert (desk.reasons(), desk.teller.told[-1]) == ([], ("shown", DB))


async def test_a_template_of_a_pod_without_a_right_holds_nobody_up(desk: Desk) -> None:
    await desk.publish()
    files(desk, {"path": "dsn", "template": "{{ username }}:{{ password }}"})
    await desk.publish("csi-2", "uid-2")
    desk.volumes.end_right("csi-2", "the label is off")
    desk.source.change({"username": b"user-2"}, "version 2")
    assert desk.engine.values[DB]["username"] == b"user-2"


async def test_a_file_of_a_key_that_is_not_there_refuses_the_volume_and_is_counted(desk: Desk) -> None:
    files(desk, {"path": "absent", "key": "absent"})
    with pytest.raises(Refused, match=r"file:payments/db: has no key 'absent' for the file 'absent'") as no:
        await desk.publish()
    assert (no.value.code, no.value.fix) == (Code.NOT_FOUND, "it has password, username")
    errors = desk.telling.metrics.registry.get_sample_value
    assert errors("kernelsecret_source_errors_total", {"source": "file", "kind": "no-key"}) == 1
    assert len(desk.volumes) == 0


async def test_a_value_that_is_longer_than_the_interceptor_allows_refuses_the_volume(desk: Desk) -> None:
    policy(desk, "spec.limits.maxFileBytes", len(VALUES["password"]) - 1)
    desk.source.values = {"username": b"u", "password": VALUES["password"]}
    with pytest.raises(
        Refused, match=r"spec.limits.maxFileBytes: key 'password' of file:payments/db has 10 bytes"
    ) as no:
        await desk.publish()
    assert no.value.code is Code.RESOURCE_EXHAUSTED
    assert "password-1" not in str(no.value)
    policy(desk, "spec.limits.maxFileBytes", len(VALUES["password"]))
    await desk.publish()


async def test_volumes_that_wait_are_remembered_within_bounds_of_number_and_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(contents_of, "time", SimpleNamespace(monotonic=lambda: clock.now))
    await desk.publish()
    plan = desk.volumes.all()[0].plan
    contents = Contents(desk.parts.rotator, None)  # type: ignore[arg-type]
    for number in range(MOST_WAITING + 10):
        contents._note(replace(plan, volume_id=f"csi-{number}"), DB, Refused(Code.NOT_FOUND, "file", "is not there"))
    waiting = [one.volume_id for one, _, _ in contents.refused()]
    assert (len(waiting), waiting[-1]) == (MOST_WAITING, f"csi-{MOST_WAITING + 9}")
    clock.now = WAITS_S - 1
    assert contents.refused()
    clock.now = WAITS_S
    assert contents.refused() == []


async def test_who_asks_just_when_another_has_given_up_has_an_answer_all_the_same(desk: Desk) -> None:
    desk.source.gate = asyncio.Event()
    first = asyncio.create_task(desk.parts.rotator.fetch(DB))
    await waiting(desk, 1)
    first.cancel()
    second = asyncio.create_task(desk.parts.rotator.fetch(DB))
    await waiting(desk, 2)
    desk.source.gate.set()
    assert (await second).values == VALUES


async def test_an_answer_that_is_older_than_what_was_heard_meanwhile_is_not_taken(desk: Desk) -> None:
    desk.source.gate = asyncio.Event()
    fetch = asyncio.create_task(desk.parts.rotator.fetch(DB))
    await waiting(desk, 1)
    desk.source.change({"username": b"user-2", "password": b"p"}, "version 2")
    desk.source.gate.set()
    assert (await fetch).label == "version 2"
    assert len(desk.source.fetched) == 2


async def test_values_that_nobody_waits_for_are_not_kept_at_hand(desk: Desk) -> None:
    await desk.publish()
    desk.source.change({"username": b"user-2", "password": b"p"}, "version 2")
    fetching = desk.parts.rotator._fetching
    assert (fetching._newest, dict(fetching._heard)) == ({}, {})
