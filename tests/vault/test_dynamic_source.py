"""Credentials of a real PostgreSQL, made by the real Vault: kept alive, replaced before they die, and ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from agent.model import SecretRef, SecretVersion
from agent.safe import MemorySafe
from agent.sources.vault.source import VaultSource
from kernelsecret.errors import Refused
from tests.vault.doors import SUBJECT, in_time
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.postgres import Database, Postgres
from tests.vault.harness.server import VaultServer
from tests.vault.sourced import Observer, agent, blocking, ref_of

REVOKE = "sys/leases/revoke: update"


def reader(vault: VaultServer, jwt: JwtAuth, database: Database, *rules: str, **settings: Any) -> SecretRef:
    """What a pod reads that may have credentials of the database."""
    jwt.add_role("app", SUBJECT, vault.policy(f"{database.path()}: read", *rules), **settings)
    return ref_of(jwt, "app", database.path())


def works(postgres: Postgres, version: SecretVersion) -> bool:
    """Whether one can connect and ask with these credentials."""
    user, password = (version.values[key].decode() for key in ("username", "password"))
    try:
        with postgres.connect(user, password) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def abandon(source: VaultSource) -> None:
    """As kill -9 leaves it: nothing is finished, nothing written."""
    lanes = source._lanes
    source._closed = lanes._polls._closed = lanes._credentials._closed = True
    source._sweeping.cancel()
    for task in lanes._polls._tasks | lanes._credentials._tasks:
        task.cancel()


def minted(vault: VaultServer, database: Database, since: int = 0) -> int:
    return len([one for one in vault.audit.requests(database.path(), since=since) if not one.error])


async def test_credentials_work_are_renewed_and_are_not_minted_by_polls_or_fetches(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault, ttl="3s", max_ttl="1h")
    ref = reader(vault, jwt, database, REVOKE)
    async with agent(vault, jwt, pace_s=0.1, linger_s=0.1) as made:
        first = await made.source.fetch(ref)
        seen, lease = made.watch(ref), vault.leases(database.path())
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            assert await blocking(works, postgres, first)
            assert (await made.source.fetch(ref)).label == first.label
            await asyncio.sleep(0.3)
        assert minted(vault, database) == 1
        assert vault.leases(database.path()) == lease
        assert [version.label for version in seen.versions] == [first.label]
        facts = made.source.facts(ref)
        assert facts is not None
        assert 0 < facts.lease_ends_ns / 1e9 - time.time() < 3.1
        assert lease[0] not in first.label


async def test_50_ms_apart_no_connection_fails_over_rotations_at_max_ttl_with_the_root_password_rotated(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault, ttl="2s", max_ttl="4s")
    database.rotate_root(vault)
    ref = reader(vault, jwt, database, REVOKE)
    safe = MemorySafe()
    async with agent(vault, jwt, safe=safe, linger_s=0.1) as made:
        await made.source.fetch(ref)
        seen = Observer()
        cancel = made.source.watch(ref, seen)
        await seen.more(0)
        users: set[bytes] = set()
        failed = 0
        while len(users) < 3:
            version = seen.versions[-1]
            failed += not await blocking(works, postgres, version)
            users.add(version.values["username"])
            made.source.all_read(ref, version.label)
            await asyncio.sleep(0.05)
        assert failed == 0
        cancel()
        await in_time(lambda: not vault.leases(database.path()))
        await in_time(lambda: not [user for user in postgres.roles() if user.encode() in users])
        await in_time(lambda: not [name for name in safe.names() if name.startswith("vault-lease:")])


async def test_an_agent_killed_and_started_again_has_the_values_from_its_safe_and_mints_nothing(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database, safe = postgres.enable(vault, ttl="4s", max_ttl="1h"), MemorySafe()
    ref = reader(vault, jwt, database, REVOKE)
    async with agent(vault, jwt, safe=safe) as made:
        first = await made.source.fetch(ref)
        abandon(made.source)
    since = vault.audit.mark()
    async with agent(vault, jwt, safe=safe, linger_s=0.1) as made:
        seen = Observer()
        cancel = made.source.watch(ref, seen)
        version = await seen.more(0)
        assert (version.label, version.values) == (first.label, first.values)
        assert (await made.source.fetch(ref)).values == first.values
        assert vault.audit.requests(since=since) == []
        await asyncio.sleep(5)  # longer than the lease was when the agent was killed
        assert await blocking(works, postgres, first)
        assert minted(vault, database) == 1
        cancel()
        await in_time(lambda: not vault.leases(database.path()))


async def test_what_was_left_by_an_agent_that_was_killed_is_revoked_where_no_volume_wants_it(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database, safe = postgres.enable(vault), MemorySafe()
    ref = reader(vault, jwt, database, REVOKE)
    async with agent(vault, jwt, safe=safe) as made:
        await made.source.fetch(ref)
        abandon(made.source)
    assert len(vault.leases(database.path())) == 1
    async with agent(vault, jwt, safe=safe, sweep_s=0.05):
        await in_time(lambda: not vault.leases(database.path()))
        await in_time(lambda: not any(name.startswith("vault-") and "key" not in name for name in safe.names()))


async def test_a_token_that_ended_while_there_was_no_agent_means_new_credentials_at_once(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database, safe = postgres.enable(vault), MemorySafe()
    ref = reader(vault, jwt, database, REVOKE, token_ttl="1s", token_max_ttl="1s")
    async with agent(vault, jwt, safe=safe) as made:
        first = await made.source.fetch(ref)
        abandon(made.source)
    await in_time(lambda: not vault.leases(database.path()))
    async with agent(vault, jwt, safe=safe) as made:
        seen = made.watch(ref)
        version = await seen.more(1)
        assert version.label != first.label
        assert await blocking(works, postgres, version)


async def test_a_token_that_reaches_its_end_takes_its_leases_with_it_only_when_others_are_there(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault)
    ref = reader(vault, jwt, database, REVOKE, token_ttl="5s", token_max_ttl="8s")
    async with agent(vault, jwt) as made:
        await made.source.fetch(ref)
        seen, failed, ended = made.watch(ref), 0, False
        (first,) = vault.leases(database.path())
        users: set[bytes] = set()
        await seen.more(0)
        async with asyncio.timeout(20):
            while not ended:
                version = seen.versions[-1]
                failed += not await blocking(works, postgres, version)
                users.add(version.values["username"])
                ended = first not in vault.leases(database.path())
                await asyncio.sleep(0.05)
        assert failed == 0
        assert len(users) == 2


async def test_a_vault_that_crashes_and_comes_back_finds_the_same_lease_renewed_and_no_new_one(
    own_vault: VaultServer, postgres: Postgres
) -> None:
    jwt, database = JwtAuth(own_vault), postgres.enable(own_vault, ttl="6s", max_ttl="1h")
    ref = reader(own_vault, jwt, database, REVOKE)
    async with agent(own_vault, jwt) as made:
        first = await made.source.fetch(ref)
        seen = made.watch(ref)
        await seen.more(0)
        await blocking(own_vault.kill)
        await seen.failure("")  # when it was to be renewed
        assert (await made.source.fetch(ref)).label == first.label
        await blocking(own_vault.start)
        await seen.until(lambda: len(seen.versions) > 1)  # told again once it can be renewed
        assert minted(own_vault, database) == 1
        assert {version.label for version in seen.versions} == {first.label}
        assert await blocking(works, postgres, first)


async def test_credentials_that_an_administrator_revokes_are_replaced_when_that_is_pushed(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault)
    ref = reader(vault, jwt, database, REVOKE)
    async with agent(vault, jwt) as made:
        await made.source.fetch(ref)
        seen = made.watch(ref)
        await seen.more(0)
        for _ in range(3):
            assert made.source.nudge(database.path()) == 1
            await asyncio.sleep(0.15)
        assert minted(vault, database) == 1
        (lease,) = vault.leases(database.path())
        await blocking(vault.revoke, lease)
        made.source.nudge(database.path())
        assert await blocking(works, postgres, await seen.more(1))


async def test_who_may_not_revoke_lets_the_credentials_run_out_within_seconds_by_the_default_policy(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault)
    postgres.add_role(vault, database, "other")
    ref = reader(vault, jwt, database, f"{database.path('other')}: read")
    async with agent(vault, jwt, linger_s=0.1) as made:
        stays = made.watch(ref_of(jwt, "app", database.path("other")))  # so that the token is not revoked
        seen = Observer()
        cancel = made.source.watch(ref, seen)
        await seen.more(0)
        cancel()
        await in_time(lambda: not vault.leases(database.path()), 5)
        assert await blocking(works, postgres, await stays.more(0))
        assert [one.error for one in vault.audit.requests("sys/leases/revoke")][-1]


async def test_a_role_that_is_gone_and_a_database_that_is_down_are_told_apart(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    database = postgres.enable(vault)
    ref = reader(vault, jwt, database, REVOKE, f"{database.mount}/creds/none: read")
    async with agent(vault, jwt) as made:
        with pytest.raises(Refused) as missing:
            await made.source.fetch(ref_of(jwt, "app", f"{database.mount}/creds/none"))
        with Postgres.started() as own:
            other = own.enable(vault)
            jwt.add_role("other", SUBJECT, vault.policy(f"{other.path()}: read"))
            own.stop()
            with pytest.raises(Refused) as down:
                await made.source.fetch(ref_of(jwt, "other", other.path()))
        assert "none" in str(missing.value)
        assert str(missing.value) != str(down.value)
        assert made.door.client.availability.is_up
        assert await blocking(works, postgres, await made.source.fetch(ref))
        for refused in (missing, down):
            assert database.first_password not in str(refused.value)


async def test_a_certificate_is_issued_anew_before_it_ends_and_not_by_a_restart(
    vault: VaultServer, jwt: JwtAuth
) -> None:
    pki, safe = vault.enable("pki"), MemorySafe()
    vault.write(f"{pki}/root/generate/internal", common_name="authority", ttl="87600h")
    vault.write(f"{pki}/roles/web", allowed_domains="example.com", allow_subdomains=True, ttl="6s", max_ttl="1h")
    jwt.add_role("app", SUBJECT, vault.policy(f"{pki}/issue/web: update"))
    ref = ref_of(jwt, "app", f"{pki}/issue/web", parameters={"common_name": "web.example.com"})
    async with agent(vault, jwt, safe=safe) as made:
        first = await made.source.fetch(ref)
        assert first.values["certificate"].startswith(b"-----BEGIN CERTIFICATE-----")
        assert first.values["private_key"].startswith(b"-----BEGIN")
        abandon(made.source)
    since = vault.audit.mark()
    async with agent(vault, jwt, safe=safe) as made:
        seen, began = made.watch(ref), time.monotonic()
        assert (await seen.more(0)).values == first.values
        second = await seen.more(1)
        assert time.monotonic() - began < 6
        assert second.values["certificate"] != first.values["certificate"]
    assert len(vault.audit.requests(f"{pki}/issue/", since=since)) == 1


@asynccontextmanager
async def static(vault: VaultServer, postgres: Postgres) -> AsyncIterator[str]:
    """A role of the database whose password Vault rotates: the path that it is read from."""
    database = postgres.enable(vault)
    name, _ = postgres.admin()
    postgres.query(f'GRANT "{name}" TO "{database.admin}" WITH ADMIN OPTION')
    vault.write(
        f"{database.mount}/static-roles/fixed", db_name=database.connection, username=name, rotation_period="24h"
    )
    yield f"{database.mount}/static-creds/fixed"


async def test_a_static_role_is_polled_and_is_another_version_only_when_its_password_is(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth
) -> None:
    async with static(vault, postgres) as path, agent(vault, jwt, pace_s=0.2) as made:
        jwt.add_role("app", SUBJECT, vault.policy(f"{path}: read"))
        ref = ref_of(jwt, "app", path)
        seen = made.watch(ref)
        first = await seen.more(0)
        assert first.label.startswith("content ")
        await asyncio.sleep(2.5)  # the answer's ttl goes down meanwhile
        assert len(seen.versions) == 1
        await blocking(vault.write, path.replace("static-creds", "rotate-role"))
        second = await seen.more(1)
        assert second.values["password"] != first.values["password"]
