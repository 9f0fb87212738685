"""KV of the real Vault through the source: what is asked for, by Vault's own audit log, and what readers are told."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest

from kernelsecret.errors import Refused
from tests.vault.doors import SUBJECT
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from tests.vault.sourced import agent, blocking, ref_of


def role(vault: VaultServer, jwt: JwtAuth, *rules: str) -> str:
    """A role of the pod's account with these rights; its name."""
    jwt.add_role("app", SUBJECT, vault.policy(*rules))
    return "app"


def both(kv: str) -> tuple[str, str]:
    return f"{kv}/data/db: read", f"{kv}/metadata/db: read"


async def test_a_write_reaches_the_observer_within_the_pace(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    ref = ref_of(jwt, role(vault, jwt, *both(kv)), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"username": "app", "password": "0", "port": 5432, "hosts": ["a", "b"]})
    async with agent(vault, jwt, pace_s=0.2) as made:
        first = await made.source.fetch(ref)
        assert first.label == "version 1"
        assert first.values == {"username": b"app", "password": b"0", "port": b"5432", "hosts": b'["a","b"]'}
        seen, took = made.watch(ref), []
        for number in range(1, 11):
            await blocking(vault.write, f"{kv}/data/db", data={"password": str(number)})
            wrote = time.monotonic()
            version = await seen.value("password", str(number))
            assert version.label == f"version {number + 1}"
            took.append(seen.at[-1] - wrote)
        assert statistics.median(took) < 0.25


async def test_polls_that_find_nothing_new_read_metadata_only_and_log_in_once(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    ref = ref_of(jwt, role(vault, jwt, *both(kv)), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"password": "one"})
    since = vault.audit.mark()
    async with agent(vault, jwt, pace_s=0.1) as made:
        seen = made.watch(ref)
        await seen.value("password", "one")
        for _ in range(20):
            read = made.source.facts(ref)
            assert read is not None
            await asyncio.sleep(0.1)
        facts = made.source.facts(ref)
        assert facts is not None
        assert facts.how == "metadata every 0.1s"
        assert time.time_ns() - facts.read_ns < 1e9
    asked = [one.path for one in vault.audit.requests(since=since)]
    assert asked.count(f"{kv}/data/db") == 1
    assert asked.count(f"{kv}/metadata/db") >= 10
    assert sum(one.is_login for one in vault.audit.requests(since=since)) == 1


async def test_where_the_policy_forbids_metadata_the_value_is_read_and_that_is_said(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    ref = ref_of(jwt, role(vault, jwt, f"{kv}/data/db: read"), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt, pace_s=0.1) as made:
        seen = made.watch(ref)
        await seen.value("password", "one")
        facts = made.source.facts(ref)
        assert facts is not None
        assert facts.how == f"value every 0.1s: the policy forbids {kv}/metadata/db"
        await blocking(vault.write, f"{kv}/data/db", data={"password": "two"})
        assert (await seen.value("password", "two")).label == "version 2"


async def test_kv_version_1_is_polled_by_value(vault: VaultServer, jwt: JwtAuth) -> None:
    kv = vault.enable("kv", version="1")
    ref = ref_of(jwt, role(vault, jwt, f"{kv}/db: read"), f"{kv}/db")
    vault.write(f"{kv}/db", password="one")
    async with agent(vault, jwt, pace_s=0.1) as made:
        seen = made.watch(ref)
        await seen.value("password", "one")
        facts = made.source.facts(ref)
        assert facts is not None
        assert facts.how == "value every 0.1s"
        assert facts.lease_ends_ns == 0
        await blocking(vault.write, f"{kv}/db", password="two")
        assert (await seen.value("password", "two")).label.startswith("content ")
        await blocking(vault.delete, f"{kv}/db")
        await seen.failure("")
        assert seen.versions[-1].values["password"] == b"two"


@pytest.mark.parametrize("how", ["delete", "destroy"])
async def test_a_deleted_version_keeps_the_last_value_and_says_what_became_of_it(
    vault: VaultServer, kv: str, jwt: JwtAuth, how: str
) -> None:
    ref = ref_of(jwt, role(vault, jwt, *both(kv)), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt, pace_s=0.1) as made:
        seen = made.watch(ref)
        await seen.value("password", "one")
        await blocking(vault.write, f"{kv}/{how}/db", versions=[1])
        word = {"delete": "deleted", "destroy": "destroyed"}[how]
        await seen.failure(f"version 1 is {word}")
        with pytest.raises(Refused, match=word):
            await made.source.fetch(ref)
        assert len(seen.versions) == 1
        if how == "delete":
            await blocking(vault.write, f"{kv}/undelete/db", versions=[1])
        else:
            await blocking(vault.write, f"{kv}/data/db", data={"password": "two"})
        await seen.more(1)
        facts = made.source.facts(ref)
        assert facts is not None
        assert facts.problem == ""


async def test_a_secret_whose_metadata_are_deleted_and_that_is_written_again_is_another_one(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    ref = ref_of(jwt, role(vault, jwt, *both(kv)), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt, pace_s=0.1) as made:
        seen = made.watch(ref)
        await seen.value("password", "one")
        await blocking(vault.delete, f"{kv}/metadata/db")
        await blocking(vault.write, f"{kv}/data/db", data={"password": "again"})
        assert (await seen.value("password", "again")).label == "version 1"


async def test_a_pinned_version_is_served_and_no_newer_one(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    name = role(vault, jwt, *both(kv))
    for password in ("one", "two"):
        vault.write(f"{kv}/data/db", data={"password": password})
    ref = ref_of(jwt, name, f"{kv}/data/db", version=1)
    async with agent(vault, jwt, pace_s=0.1) as made:
        assert (await made.source.fetch(ref)).values == {"password": b"one"}
        seen = made.watch(ref)
        await seen.value("password", "one")
        await blocking(vault.write, f"{kv}/data/db", data={"password": "three"})
        assert (await made.source.fetch(ref)).label == "version 1"
        await blocking(vault.write, f"{kv}/destroy/db", versions=[1])
        await seen.failure("version 1 is destroyed")
        with pytest.raises(
            Refused, match="version 9 is not there; pin a version that is kept, or none; the newest is 3"
        ):
            await made.source.fetch(ref_of(jwt, name, f"{kv}/data/db", version=9))


async def test_bad_paths_and_rights_are_refused_with_what_to_do(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    name = role(vault, jwt, f"{kv}/data/*: read", f"{kv}/metadata/*: read", f"{kv}/db: read")
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt) as made:
        with pytest.raises(Refused, match=f"write `path: {kv}/data/db`"):
            await made.source.fetch(ref_of(jwt, name, f"{kv}/db"))
        with pytest.raises(Refused) as missing:
            await made.source.fetch(ref_of(jwt, name, f"{kv}/data/other"))
        assert missing.value.code.value == "NOT_FOUND"
        with pytest.raises(Refused) as forbidden:
            await made.source.fetch(ref_of(jwt, name, "nowhere/data/db"))
        assert forbidden.value.code.value == "PERMISSION_DENIED"


async def test_a_nudge_is_much_faster_than_the_pace_and_the_last_of_many_writes_wins(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    ref = ref_of(jwt, role(vault, jwt, *both(kv)), f"{kv}/data/db")
    vault.write(f"{kv}/data/db", data={"password": "0"})
    async with agent(vault, jwt, pace_s=60) as made:
        seen = made.watch(ref)
        await seen.value("password", "0")
        took = []
        for number in range(1, 8):
            await blocking(vault.write, f"{kv}/data/db", data={"password": str(number)})
            nudged = time.monotonic()
            assert made.source.nudge(f"{kv}/data/db") == 1
            await seen.value("password", str(number))
            took.append(time.monotonic() - nudged)
            await asyncio.sleep(0.12)
        assert statistics.median(took) < 0.05
        since, before = vault.audit.mark(), len(seen.versions)

        def storm() -> str:
            for number in range(100, 130):
                vault.write(f"{kv}/data/db", data={"password": str(number)})
            return "129"

        writes = asyncio.ensure_future(blocking(storm))
        began = time.monotonic()
        while not writes.done():
            for _ in range(100):
                made.source.nudge(f"{kv}/data/db")
            await asyncio.sleep(0)
        made.source.nudge(f"{kv}/data/db")
        last = await writes
        await seen.value("password", last)
        looks = vault.audit.requests(f"{kv}/metadata/db", since=since)
        # Beside those of the time: the first, the last, and one that was still due of the time before.
        assert len(looks) <= (time.monotonic() - began) / 0.1 + 3
        assert len(seen.versions) - before <= len(looks)
        assert made.source.nudge("somebody/elses") == 0
