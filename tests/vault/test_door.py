"""Reads through the door, of the real Vault: as whom, how often it logs in, and what each refusal says."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from agent.sources.vault.errors import Kind
from tests.vault.doors import SUBJECT, opened, refused, role, settings_for
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer


async def test_a_pod_reads_with_its_own_token_and_logs_in_once(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    vault.write(f"{kv}/data/app", data={"password": "one"})
    who = role(vault, jwt, "web", f"{kv}/data/app: read")
    since = vault.audit.mark()
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        answers = await asyncio.gather(*(door.client.read(who, f"{kv}/data/app") for _ in range(50)))
        assert {answer.data["data"]["password"] for answer in answers} == {"one"}
        facts = door.client.token_facts(who)
        assert facts is not None
        assert {answer.token for answer in answers} == {facts.name}
        assert door.heard.logins == [(who, False)]
    assert len(vault.audit.requests(f"auth/{jwt.mount}/", since=since)) == 1
    reads = vault.audit.requests(f"{kv}/data/app", since=since)
    assert len(reads) == 50
    assert {one.who for one in reads} == {f"{jwt.mount}-{SUBJECT}"}


async def test_what_was_read_shows_in_no_repr(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    vault.write(f"{kv}/data/app", data={"password": "canary-61f0"})
    who = role(vault, jwt, "web", f"{kv}/data/app: read")
    async with opened(settings_for(vault)) as door:
        door.bring(token := jwt.token(SUBJECT))
        answer = await door.client.read(who, f"{kv}/data/app")
        held = await door.client._tokens.current(who)
        shown = repr([answer, held, door.client._tokens._keepers, door.credentials.token(who.reader, "vault")])
        assert "canary-61f0" not in shown
        assert held.token not in shown
        assert token not in shown


async def test_a_path_that_the_policy_forbids_names_the_path_and_the_right(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{kv}/data/app: read")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        since = vault.audit.mark()
        for _ in range(3):
            error = await refused(door.client.read(who, f"{kv}/data/other"))
            assert error.kind is Kind.DENIED
            assert error.field == "source.vault.path"
            assert f"'{kv}/data/other' to auth/{jwt.mount} role web as shop/web" in error.why
            assert "grant `read`" in error.fix
        assert (
            len(vault.audit.requests(f"auth/{jwt.mount}", since=since)) == 1
        )  # a forbidden path is no reason to log in
        assert [one.kind for one in door.heard.errors] == [Kind.DENIED] * 3


async def test_a_path_with_nothing_is_not_found_and_a_deleted_version_says_so(
    vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", f"{kv}/*: read")
    vault.write(f"{kv}/data/gone", data={"password": "one"})
    vault.delete(f"{kv}/data/gone")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        error = await refused(door.client.read(who, f"{kv}/data/nothing"))
        assert error.kind is Kind.NOT_FOUND
        assert error.answer is not None
        assert error.answer.data == {}
        error = await refused(door.client.read(who, f"{kv}/data/gone"))
        assert error.kind is Kind.NOT_FOUND
        assert error.answer is not None
        assert error.answer.data["metadata"]["deletion_time"]


async def test_parameters_are_written_and_what_was_sent_is_not_quoted(vault: VaultServer, jwt: JwtAuth) -> None:
    pki = vault.enable("pki")
    vault.write(f"{pki}/root/generate/internal", common_name="tests")
    vault.write(f"{pki}/roles/web", allowed_domains=["shop.test"], allow_subdomains=True, max_ttl="1h")
    who = role(vault, jwt, "web", f"{pki}/issue/web: update")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        answer = await door.client.read(who, f"{pki}/issue/web", parameters={"common_name": "a.shop.test"})
        assert answer.data["private_key"].startswith("-----BEGIN")
        error = await refused(door.client.read(who, f"{pki}/issue/web", parameters={"common_name": "canary.example"}))
        assert error.kind is Kind.BAD_REQUEST
        assert "canary.example" not in str(error)
        assert "not allowed" in str(error)


async def test_the_mount_of_a_path_tells_kv_versions_apart(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    old, pki = vault.enable("kv", version="1"), vault.enable("pki")
    who = role(vault, jwt, "web", f"{kv}/data/app: read", f"{old}/app: read", f"{pki}/issue/web: update")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        mount = await door.client.mount_of(who, f"{kv}/data/app")
        assert (mount.path, mount.type, mount.version, mount.is_kv2) == (f"{kv}/", "kv", 2, True)
        mount = await door.client.mount_of(who, f"{old}/app")
        assert (mount.type, mount.version, mount.is_kv2) == ("kv", 1, False)
        mount = await door.client.mount_of(who, f"{pki}/issue/web")
        assert (mount.type, mount.version) == ("pki", 0)
        since = vault.audit.mark()
        await door.client.mount_of(who, f"{kv}/data/another")  # known already
        assert not vault.audit.requests("sys/internal", since=since)
        error = await refused(door.client.mount_of(who, "no-such-mount/data/app"))
        assert error.kind is Kind.DENIED


async def test_a_path_that_would_lead_out_of_the_api_is_refused_without_asking(
    vault: VaultServer, jwt: JwtAuth
) -> None:
    who = role(vault, jwt, "web", "secret/*: read")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        for path in ("", "/secret/x", "secret//x", "secret/../sys/raw", "..", "secret/./x"):
            error = await refused(door.client.read(who, path))
            assert error.kind is Kind.BAD_REQUEST
            assert error.field == "source.vault.path"
        assert not door.heard.logins


async def test_odd_names_reach_vault_as_they_are(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    who = role(vault, jwt, "web", f"{kv}/*: read")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        for name in ("with space", "quest?ion", "per%41cent", "ha#sh", "ümläut", "a+b&c=d"):
            vault.write(f"{kv}/data/{quote(name)}", data={"name": name})
            assert (await door.client.read(who, f"{kv}/data/{name}")).data["data"] == {"name": name}
