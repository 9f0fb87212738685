"""Two accounts that read one path: each by its own right, for each version anew."""

from __future__ import annotations

import pytest

from kernelsecret.errors import Refused
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from tests.vault.sourced import agent, blocking, ref_of, subject


async def test_once_the_right_of_one_is_revoked_what_the_other_reads_does_not_reach_it(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    policies = {account: vault.policy(f"{kv}/data/db: read", f"{kv}/metadata/db: read") for account in ("a", "b")}
    for account, policy in policies.items():
        jwt.add_role(account, subject(account), policy)
    refs = {account: ref_of(jwt, account, f"{kv}/data/db", account=account) for account in policies}
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt, "a", "b", pace_s=0.1) as made:
        seen = {account: made.watch(ref) for account, ref in refs.items()}
        for observer in seen.values():
            await observer.value("password", "one")
        await blocking(vault.set_policy, policies["b"])
        await seen["b"].failure("Vault forbids")
        await blocking(vault.write, f"{kv}/data/db", data={"password": "two"})
        await seen["a"].value("password", "two")
        assert made.source.nudge(f"{kv}/data/db") == 2
        with pytest.raises(Refused, match="Vault forbids"):
            await made.source.fetch(refs["b"])
        assert [version.values["password"] for version in seen["b"].versions] == [b"one"]
        assert not seen["a"].failures
        await blocking(vault.set_policy, policies["b"], f"{kv}/data/db: read", f"{kv}/metadata/db: read")
        await seen["b"].value("password", "two")


async def test_an_account_is_not_given_what_another_one_may_read(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    jwt.add_role("a", subject("a"), vault.policy(f"{kv}/data/db: read", f"{kv}/metadata/db: read"))
    vault.write(f"{kv}/data/db", data={"password": "one"})
    async with agent(vault, jwt, "a", "b", pace_s=0.1) as made:
        await made.watch(ref_of(jwt, "a", f"{kv}/data/db", account="a")).value("password", "one")
        with pytest.raises(Refused) as refused:  # the role is not for this account, whatever it asks for
            await made.source.fetch(ref_of(jwt, "a", f"{kv}/data/db", account="b"))
        assert refused.value.code.value == "PERMISSION_DENIED"


async def test_each_reader_has_database_credentials_of_its_own(
    vault: VaultServer, jwt: JwtAuth, postgres: object
) -> None:
    from tests.vault.harness.postgres import Postgres

    assert isinstance(postgres, Postgres)
    database = postgres.enable(vault)
    policy = vault.policy(f"{database.path()}: read")
    for account in ("a", "b"):
        jwt.add_role(account, subject(account), policy)
    async with agent(vault, jwt, "a", "b") as made:
        names = [
            (await made.source.fetch(ref_of(jwt, account, database.path(), account=account))).values["username"]
            for account in ("a", "b")
        ]
    assert len(set(names)) == 2
    assert len(vault.leases(database.path())) == 2
