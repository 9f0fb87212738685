"""Who has read what: told to sources, so that old leases end, and to people."""

from __future__ import annotations

import json

from agent.model import SecretRef
from telemetry.logkeys import Event
from tests.unit.conftest import LogLines
from tests.unit.serving.desk import Desk
from tests.unit.serving.interceptors import from_vault, policy

USER_2 = {"username": b"user-2", "password": b"password-2"}


async def rotated(desk: Desk, **rotation: str) -> SecretRef:
    """A volume of Vault's whose first version was read, and that shows the second."""
    from_vault(desk)
    await desk.publish()
    (ref,) = desk.volumes.followed()
    desk.engine.read[ref] = 1
    desk.vault.change(USER_2, "version 2")
    desk.vault.old_leases = 1
    return ref


async def test_an_old_lease_may_end_as_soon_as_every_reader_has_the_new_version(desk: Desk) -> None:
    ref = await rotated(desk)
    desk.parts.old_leases.look()
    assert (ref, "version 2") not in desk.vault.read_by_all
    desk.engine.read[ref] = 2
    desk.parts.old_leases.look()
    assert desk.vault.read_by_all[-1] == (ref, "version 2")


async def test_where_no_old_lease_is_held_nobody_is_looked_at(desk: Desk) -> None:
    ref = await rotated(desk)
    desk.vault.old_leases = 0
    desk.engine.read[ref] = 2
    desk.parts.old_leases.look()
    assert desk.vault.read_by_all == []


async def test_the_status_names_versions_and_readers_and_no_value(desk: Desk) -> None:
    ref = await rotated(desk)
    (one,) = desk.parts.secrets.as_status()
    assert (one["source"], one["reader"], one["version"], one["old_leases"]) == (
        "vault",
        "payments/api",
        "version 2",
        1,
    )
    assert one["path"] == ref.path
    assert {(reader["pod"], reader["file"], reader["standing"], reader["read"]) for reader in one["readers"]} == {
        ("api-0", "username", "behind", "version 1"),
        ("api-0", "password", "behind", "version 1"),
    }
    whole = json.dumps(one)
    assert not any(value.decode() in whole for value in USER_2.values())


async def test_the_status_says_what_is_wrong_and_where_nobody_looks_any_more(desk: Desk) -> None:
    await desk.publish()
    desk.source.observers[SecretRef("file", "payments/db")].failed(SecretRef("file", "payments/db"), "is away")
    (one,) = desk.parts.secrets.as_status()
    assert one["problem"] == "is away"
    desk.volumes.end_right("csi-1", "the label is off")
    desk.parts.rotator.forget_unused()
    (one,) = desk.parts.secrets.as_status()
    assert (one["how"], one["problem"]) == ("not looked at: no volume has a right to it", "")


async def test_who_is_given_up_by_the_interceptors_deadline_is_not_waited_for(desk: Desk) -> None:
    policy(desk, "spec.rotation.revokeAfter", "5s")
    ref = await rotated(desk)
    desk.parts.old_leases.look()
    assert (ref, "version 2") not in desk.vault.read_by_all
    desk.parts.old_leases._readers._clock = lambda: 1e12
    desk.parts.old_leases.look()
    assert desk.vault.read_by_all[-1] == (ref, "version 2")


async def test_the_gauges_count_what_is_held_and_what_fails(desk: Desk) -> None:
    await rotated(desk)
    desk.parts.gauges.refresh()
    value = desk.telling.metrics.registry.get_sample_value
    assert value("kernelsecret_source_secrets", {"source": "vault", "state": "good"}) == 1
    assert value("kernelsecret_source_leases", {"source": "vault", "state": "old"}) == 1
    assert value("kernelsecret_volumes", {"engine": "iter"}) == 1


async def test_who_is_given_up_is_told_once_for_each_version(desk: Desk, log_lines: LogLines) -> None:
    policy(desk, "spec.rotation.revokeAfter", "5s")
    await rotated(desk)
    desk.parts.old_leases._readers._clock = lambda: 1e12
    for _ in range(3):
        desk.parts.old_leases.look()
    assert log_lines.text.count(Event.READERS_BEHIND.value) == 1
    desk.parts.old_leases._readers._clock = lambda: 2e12
    desk.vault.change({"username": b"user-3", "password": b"p"}, "version 3")
    desk.parts.old_leases._readers._clock = lambda: 3e12
    for _ in range(3):
        desk.parts.old_leases.look()
    assert log_lines.text.count(Event.READERS_BEHIND.value) == 2


async def test_what_a_pod_without_a_right_has_read_is_known_for_as_long_as_it_shows_it(desk: Desk) -> None:
    ref = await rotated(desk)
    desk.volumes.end_right("csi-1", "the label is off")
    desk.parts.rotator.forget_unused()
    (one,) = desk.parts.secrets.as_status()
    assert {reader["read"] for reader in one["readers"]} == {"version 1"}
    assert ref not in desk.vault.observers
