"""Tokens of the real Vault: had once, kept alive, replaced in time, revoked at the end, and kept over a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agent.safe import MemorySafe
from agent.sources.vault.errors import Kind, VaultError
from agent.vault_ref import Identity
from kernelsecret.interceptor import VaultMethod
from tests.vault.doors import POD, SUBJECT, Door, identity, in_time, opened, refused, role, settings_for, written
from tests.vault.harness.logins import AppRoleAuth, JwtAuth
from tests.vault.harness.server import VaultServer

RENEWED = "auth/token/renew-self"


async def value(door: Door, who: Identity, kv: str) -> str:
    """What is read as somebody."""
    return str((await door.client.read(who, f"{kv}/data/app")).data["data"]["password"])


@pytest.fixture
def app(vault: VaultServer, kv: str) -> str:
    """A KV v2 engine with the secret `app`."""
    vault.write(f"{kv}/data/app", data={"password": "one"})
    return kv


def lives(vault: VaultServer, accessor: str) -> bool:
    """Whether Vault knows the token of an accessor."""
    return accessor in vault._ask("list", "auth/token/accessors")["data"]["keys"]


# Over a restart


async def test_a_restarted_agent_goes_on_with_the_token_that_it_had(vault: VaultServer, app: str, jwt: JwtAuth) -> None:
    who, safe = role(vault, jwt, "web", f"{app}/data/app: read"), MemorySafe()
    async with opened(settings_for(vault), safe=safe) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        before = door.client.token_facts(who)
    since = vault.audit.mark()
    async with opened(settings_for(vault), safe=safe) as door:  # no pod has brought a token yet
        assert door.client.identities() == [who]
        assert door.client.token_facts(who) == before
        assert await value(door, who, app) == "one"
    assert [one.path for one in vault.audit.requests(since=since) if one.who == f"{jwt.mount}-{SUBJECT}"] == [
        f"{app}/data/app"  # not even a look-up of the token
    ]


async def test_a_token_that_ended_meanwhile_costs_one_login_and_is_told(
    vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who, safe = role(vault, jwt, "web", f"{app}/data/app: read"), MemorySafe()
    async with opened(settings_for(vault), safe=safe) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        vault.write("auth/token/revoke", token=(await door.client._tokens.current(who)).token)
    since = vault.audit.mark()
    async with opened(settings_for(vault), safe=safe) as door:
        told: list[tuple[Identity, float]] = []
        door.client.on_new_token(lambda identity, left: told.append((identity, left)))
        door.bring(jwt.token(SUBJECT))
        assert await asyncio.gather(*(value(door, who, app) for _ in range(20))) == ["one"] * 20
        assert told == [(who, 0.0)]
        assert not door.heard.errors
    assert sum(one.is_login for one in vault.audit.requests(f"auth/{jwt.mount}", since=since)) == 1


async def test_a_token_goes_to_no_other_vault_than_the_one_that_gave_it(
    vault: VaultServer, own_vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who, safe = role(vault, jwt, "web", f"{app}/data/app: read"), MemorySafe()
    async with opened(settings_for(vault), safe=safe) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
    async with opened(settings_for(own_vault), safe=safe) as door:
        assert door.client.token_facts(who) is None
        assert door.client.identities() == []
        assert safe.names() == []
        assert (await refused(value(door, who, app))).kind is Kind.NO_CREDENTIAL


# Kept alive


async def test_a_token_is_renewed_in_time_and_nobody_logs_in_again(vault: VaultServer, app: str, jwt: JwtAuth) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="2s", token_max_ttl="1h")
    since = vault.audit.mark()
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        first = door.client.token_facts(who)
        assert first is not None
        await in_time(lambda: len(vault.audit.requests(RENEWED, since=since)) >= 2)
        await in_time(lambda: time.time() > first.ends_s)
        assert await value(door, who, app) == "one"
        now = door.client.token_facts(who)
        assert now is not None
        assert now.name == first.name
        assert now.ends_s > first.ends_s
        assert door.heard.logins == [(who, False)]


async def test_at_its_greatest_age_a_token_is_replaced_while_the_old_one_lives(
    vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="3s", token_max_ttl="5s")
    async with opened(settings_for(vault)) as door:
        told: list[tuple[float, bool]] = []
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        accessor = (await door.client._tokens.current(who)).accessor
        door.client.on_new_token(lambda _, left: told.append((left - time.time(), lives(vault, accessor))))
        await in_time(lambda: told)
        left, is_alive = told[0]
        assert left > 0.7  # of at most 3 s
        assert is_alive
        assert (await door.client._tokens.current(who)).accessor != accessor
        assert await value(door, who, app) == "one"
        assert not door.heard.errors


@pytest.mark.parametrize("settings", [{"token_type": "batch"}, {"token_no_default_policy": True}])
async def test_a_token_that_cannot_be_renewed_is_replaced_before_it_ends(
    vault: VaultServer, app: str, jwt: JwtAuth, settings: dict[str, object]
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="2s", **settings)
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        await in_time(lambda: len(door.heard.logins) >= 3)
        assert door.heard.logins[:3] == [(who, False), (who, True), (who, True)]
        assert await value(door, who, app) == "one"
        assert not door.heard.errors


async def test_where_another_login_is_refused_the_token_is_used_to_its_end(
    vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="3s", token_no_default_policy=True)
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        jwt.trust_key(new=True)
        await in_time(lambda: any("does not trust" in str(error) for error in door.heard.failing))
        assert await value(door, who, app) == "one"
        facts = door.client.token_facts(who)
        assert facts is not None
        assert "does not trust" in facts.problem
        await in_time(lambda: time.time() > facts.ends_s)
        error = await refused(value(door, who, app))
        assert error.kind is Kind.LOGIN
        assert error.field == "source.vault.auth.mount"
        door.bring(jwt.token(SUBJECT))  # kubelet's next one is signed with the new key: it is tried at once
        assert await value(door, who, app) == "one"
        assert [again for _, again in door.heard.logins] == [False, True]


async def test_a_token_of_few_uses_is_refused_and_not_left_behind(vault: VaultServer, app: str, jwt: JwtAuth) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_num_uses=3)
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        error = await refused(value(door, who, app))
        assert error.kind is Kind.LOGIN
        assert "3 uses" in error.why
        assert "token_num_uses" in error.fix
    assert vault.audit.requests("auth/token/revoke-self")[-1].who == f"{jwt.mount}-{SUBJECT}"


# Refused


async def test_a_refused_login_is_not_repeated_by_every_poll(vault: VaultServer, app: str, jwt: JwtAuth) -> None:
    who = identity(jwt.mount, "no-such-role")
    since = vault.audit.mark()
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        for _ in range(200):
            error = await refused(value(door, who, app))
            assert error.kind is Kind.LOGIN
        assert len(vault.audit.requests(f"auth/{jwt.mount}", since=since)) <= 2
        jwt.add_role("no-such-role", SUBJECT, vault.policy(f"{app}/data/app: read"))
        door.bring(jwt.token(SUBJECT, jti="another"))
        assert await value(door, who, app) == "one"


@pytest.mark.parametrize(
    ("case", "field", "words"),
    [
        ("role", "source.vault.role", "Vault has no role 'nope' at auth/"),
        ("no role", "source.vault.role", "is empty, and auth/"),
        ("audience", "source.vault.auth.audience", "is not for tokens of the audience 'vault'"),
        ("account", "source.vault.role", "is not for the account 'shop/web'"),
        ("claims", "source.vault.role", "is not for the account 'shop/web'"),
        ("mount", "source.vault.auth.mount", "Vault has no auth method at auth/nowhere"),
        ("key", "source.vault.auth.mount", "does not trust this cluster's service-account tokens"),
        ("issuer", "source.vault.auth.mount", "does not trust this cluster's service-account tokens"),
        ("expired", "source.vault.auth.mount", "out of its time"),
    ],
)
async def test_each_refusal_of_a_login_names_the_field_to_change(
    vault: VaultServer, app: str, jwt: JwtAuth, case: str, field: str, words: str
) -> None:
    role(vault, jwt, "web", f"{app}/data/app: read")
    jwt.add_role("other-audience", SUBJECT, audience="other")
    jwt.add_role("other-account", "system:serviceaccount:shop:other")
    jwt.add_role("claims", SUBJECT, bound_claims={"team": "blue"})
    who = {
        "role": identity(jwt.mount, "nope"),
        "no role": identity(jwt.mount, ""),
        "audience": identity(jwt.mount, "other-audience"),
        "account": identity(jwt.mount, "other-account"),
        "claims": identity(jwt.mount, "claims"),
        "mount": identity("nowhere", "web"),
    }.get(case, identity(jwt.mount, "web"))
    token = {
        "key": lambda: JwtAuth(vault).token(SUBJECT),
        "issuer": lambda: jwt.token(SUBJECT, iss="https://elsewhere.example"),
        "expired": lambda: jwt.token(SUBJECT, lives_s=-3600),
    }.get(case, lambda: jwt.token(SUBJECT))()
    async with opened(settings_for(vault)) as door:
        door.bring(token)
        error = await refused(value(door, who, app))
        assert error.kind is Kind.LOGIN
        assert error.field == field
        assert words in error.why
        assert error.fix
        assert token not in str(error)
        assert door.heard.errors == [error]


async def test_without_a_pods_token_nothing_is_asked(vault: VaultServer, app: str, jwt: JwtAuth) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read")
    async with opened(settings_for(vault)) as door:
        error = await refused(value(door, who, app))
        assert error.kind is Kind.NO_CREDENTIAL
        assert error.field == "serviceAccount.tokens"
        door.bring(jwt.token(SUBJECT), audience="other")
        error = await refused(value(door, who, app))
        assert error.field == "CSIDriver.spec.tokenRequests"
        assert "'vault'" in error.why
        door.bring(jwt.token(SUBJECT))
        assert await value(door, who, app) == "one"


# AppRole


async def test_an_approles_files_are_read_at_each_login(vault: VaultServer, app: str, tmp_path: Path) -> None:
    approle = AppRoleAuth(vault)
    role_id = approle.add_role("db", vault.policy(f"{app}/data/app: read"))
    who = Identity(VaultMethod.APP_ROLE, approle.mount, "", credential="db")
    (tmp_path / "db").mkdir()
    async with opened(settings_for(vault, approle_dir=tmp_path)) as door:
        error = await refused(value(door, who, app))
        assert (error.kind, error.field) == (Kind.LOGIN, str(tmp_path / "db/role-id"))
        written(tmp_path / "db", "role-id", role_id + "\n")
        door.client._tokens._keeper(who).credential_came()
        error = await refused(value(door, who, app))
        assert error.field == "source.vault.auth.credential"
        secret_id = approle.secret_id("db")
        written(tmp_path / "db", "secret-id", "4c1b1b2e-0000-0000-0000-000000000000")
        door.client._tokens._keeper(who).credential_came()
        error = await refused(value(door, who, app))
        assert error.field == "source.vault.auth.credential"
        assert "does not take the ids of 'db'" in error.why
        written(tmp_path / "db", "secret-id", secret_id)
        await in_time_reads(door, who, app)
        assert secret_id not in repr(door.heard)


async def in_time_reads(door: Door, who: Identity, kv: str) -> None:
    """A refused login is tried again by itself within seconds."""
    async with asyncio.timeout(10):
        while True:
            with suppress(VaultError):
                await value(door, who, kv)
                return
            await asyncio.sleep(0.05)


async def test_an_agent_without_approles_says_which_setting_is_missing(vault: VaultServer, app: str) -> None:
    who = Identity(VaultMethod.APP_ROLE, "approle", "", credential="db")
    async with opened(settings_for(vault)) as door:
        error = await refused(value(door, who, app))
        assert error.field == "source.vault.auth.credential"
        assert "KERNELSECRET_VAULT_APPROLE_DIR" in error.fix


@pytest.mark.parametrize("name", ["", "..", "../db", "a/b", ".hidden"])
async def test_a_credential_is_a_folder_and_leads_nowhere_else(
    vault: VaultServer, app: str, tmp_path: Path, name: str
) -> None:
    who = Identity(VaultMethod.APP_ROLE, "approle", "", credential=name)
    async with opened(settings_for(vault, approle_dir=tmp_path)) as door:
        assert "is no name" in (await refused(value(door, who, app))).why


# The end


async def test_when_nobody_reads_as_it_any_more_all_its_tokens_are_revoked(
    vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="20s", token_max_ttl="25s")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        keeper = door.client._tokens._keeper(who)
        first = await keeper.current()
        await keeper._log_in()  # as near its max_ttl
        second = await keeper.current()
        assert lives(vault, first.accessor)
        assert lives(vault, second.accessor)
        door.client.forget(who)
        door.client.forget(who)
        assert door.client.token_facts(who) is None
        assert door.client.identities() == []
        await in_time(lambda: not lives(vault, first.accessor) and not lives(vault, second.accessor))
        await in_time(lambda: door.safe.names() == [])
        assert door.client.identities() == []
        assert await value(door, who, app) == "one"  # somebody came again
        assert len(door.heard.logins) == 3


async def test_a_batch_token_is_forgotten_though_nobody_can_revoke_it(
    vault: VaultServer, app: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_type="batch", token_ttl="20s")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, app)
        door.client.forget(who)
        await in_time(lambda: door.safe.names() == [])
        assert not door.heard.failing


async def test_a_revocation_waits_for_vault_and_is_not_forgotten_by_a_crash(own_vault: VaultServer) -> None:
    jwt, kv, safe = JwtAuth(own_vault), own_vault.enable("kv", version="2"), MemorySafe()
    own_vault.write(f"{kv}/data/app", data={"password": "one"})
    who = role(own_vault, jwt, "web", f"{kv}/data/app: read")
    async with opened(settings_for(own_vault), safe=safe) as door:
        door.bring(jwt.token(SUBJECT))
        await value(door, who, kv)
        accessor = (await door.client._tokens.current(who)).accessor
        own_vault.seal()
        door.client.forget(who)
        await in_time(lambda: door.heard.downs)
    async with opened(settings_for(own_vault), safe=safe) as door:  # crashed while it waited
        assert door.client.identities() == [who]
        door.client.forget(who)
        await in_time(lambda: door.heard.downs)
        await asyncio.to_thread(own_vault.unseal)
        await in_time(lambda: not lives(own_vault, accessor))
        await in_time(lambda: safe.names() == [])


# What is told to nobody


async def test_no_log_line_of_any_library_has_a_token_in_it(
    vault: VaultServer, app: str, jwt: JwtAuth, caplog: pytest.LogCaptureFixture
) -> None:
    who = role(vault, jwt, "web", f"{app}/data/app: read", token_ttl="2s")
    with caplog.at_level(logging.DEBUG):
        async with opened(settings_for(vault)) as door:
            door.bring(token := jwt.token(SUBJECT))
            await value(door, who, app)
            held = await door.client._tokens.current(who)
            since = vault.audit.mark()
            await in_time(lambda: vault.audit.requests(RENEWED, since=since))
            door.client.forget(who)
            await in_time(lambda: door.safe.names() == [])
            await refused(value(door, identity(jwt.mount, "nope"), app))
        assert not [record for record in caplog.records if record.name.startswith(("hvac", "requests", "urllib3.conn"))]
        lines = "\n".join(record.getMessage() for record in caplog.records)
        assert token not in lines
        assert held.token not in lines


def test_the_pod_of_these_tests_is_the_subject_of_its_token() -> None:
    assert f"system:serviceaccount:{POD.namespace}:{POD.service_account}" == SUBJECT
