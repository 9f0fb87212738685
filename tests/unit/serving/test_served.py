"""What the webhook is told for an interceptor's status: each pod in one count, and never a value."""

from __future__ import annotations

import pytest

from agent.model import SecretRef
from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import ServedSecret
from tests.unit.serving.desk import Desk
from tests.unit.serving.interceptors import files

DB = SecretRef("file", "payments/db")


def counts(desk: Desk) -> tuple[int, int, int, int]:
    (one,) = desk.parts.served()
    assert (one.interceptor, one.secret) == ("payments-db", "db")
    return one.pods, one.up_to_date, one.behind, one.failing


async def test_a_pod_that_read_an_older_version_is_behind_until_it_reads_again(desk: Desk) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    assert counts(desk) == (2, 2, 0, 0)
    desk.engine.read[DB] = 1
    desk.source.change({"username": b"user-2", "password": b"p"}, "version 2")
    assert counts(desk) == (2, 0, 2, 0)
    desk.engine.read[DB] = 2
    assert counts(desk) == (2, 2, 0, 0)


async def test_a_source_that_fails_is_told_in_its_own_words(desk: Desk) -> None:
    await desk.publish()
    desk.source.observers[DB].failed(DB, "Vault is sealed")
    (one,) = desk.parts.served()
    assert (one.failing, one.up_to_date, one.message) == (1, 0, "Vault is sealed")


async def test_a_pod_that_waits_for_its_secret_counts_until_it_has_it(desk: Desk) -> None:
    desk.source.failure = Refused(Code.PERMISSION_DENIED, "file:payments/db", "the policy forbids it")
    with pytest.raises(Refused):
        await desk.publish()
    (one,) = desk.parts.served()
    assert one == ServedSecret(
        interceptor="payments-db", secret="db", pods=1, failing=1, message="file:payments/db: the policy forbids it"
    )
    desk.source.failure = None
    await desk.publish()
    assert counts(desk) == (1, 1, 0, 0)


@pytest.mark.parametrize("how", ["unpublished", "shape"])
async def test_a_pod_that_waits_no_more_is_forgotten(desk: Desk, how: str) -> None:
    if how == "shape":
        files(desk, {"path": "port", "key": "password", "jsonPointer": "/port"})
    else:
        desk.source.failure = Refused(Code.NOT_FOUND, "file:payments/db", "is not there")
    with pytest.raises(Refused):
        await desk.publish()
    assert counts(desk) == (1, 0, 0, 1)
    await desk.unpublish()
    assert desk.parts.served() == []


async def test_a_pod_without_a_right_is_not_failing_with_its_source(desk: Desk) -> None:
    await desk.publish()
    await desk.publish("csi-2", "uid-2")
    desk.volumes.end_right("csi-2", "the label is off")
    desk.source.observers[DB].failed(DB, "Vault is sealed")
    assert counts(desk) == (2, 1, 0, 1)


async def test_a_pod_that_is_behind_and_failing_counts_once(desk: Desk) -> None:
    await desk.publish()
    desk.engine.read[DB] = 1
    desk.source.change({"username": b"user-2", "password": b"p"}, "version 2")
    desk.source.observers[DB].failed(DB, "Vault is sealed")
    assert counts(desk) == (1, 0, 0, 1)
