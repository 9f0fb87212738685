"""The whole agent with a real Vault: publish, rotation, outages, its own death, and what it leaves to nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agent.csi.tokens import TOKENS_KEY
from tests.agent.harness import until
from tests.agent.opening import opened
from tests.agent.tokens import brought
from tests.needs import kernel_lacks, need
from tests.vault.harness.audit import Request
from tests.vault.harness.logins import AppRoleAuth, JwtAuth
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.server import VaultServer
from tests.vault.nodes import VaultNode, as_agent, as_pod, token_of

SUBJECT = "system:serviceaccount:shop:web"
OLD, NEW = b"canary-old-77f1d0a2c4", b"canary-new-50be19d3a8"


@pytest.fixture
def node(vault: VaultServer) -> Iterator[VaultNode]:
    """A node whose agent knows the shared Vault."""
    need(not kernel_lacks(), kernel_lacks() or "")
    with opened(VaultNode) as made:
        made.reads_from(vault)
        yield made


@pytest.fixture
def app(vault: VaultServer, kv: str, jwt: JwtAuth) -> str:
    """A secret in KV v2 that pods of shop/web may read; its path in Vault's API."""
    vault.write(f"{kv}/data/app", data={"username": "user-1", "password": OLD.decode()})
    jwt.add_role("web", SUBJECT, vault.policy(f"{kv}/data/app: read", f"{kv}/metadata/app: read"))
    return f"{kv}/data/app"


def minted(vault: VaultServer, since: int) -> list[Request]:
    """Tokens and credentials that were made since then."""
    return [one for one in vault.audit.requests(since=since) if one.is_login or one.lease]


async def test_a_pod_reads_as_itself_and_sees_a_new_version_within_a_second_or_so(
    node: VaultNode, vault: VaultServer, jwt: JwtAuth, app: str
) -> None:
    pod = node.pod_of("web", as_pod(jwt, app, "web"), "username", "password")
    await node.started()
    await node.publish_as(pod, jwt)
    assert node.read(pod, "username", "password") == [b"user-1", OLD]
    before, mark = time.monotonic(), vault.audit.mark()
    vault.write(app, data={"username": "user-2", "password": NEW.decode()})
    await node.shows(pod, "password", NEW)
    assert time.monotonic() - before < 10
    assert minted(vault, mark) == [], "no login for a poll"
    (secret,) = node.served()
    assert (secret["source"], secret["reader"], secret["version"], secret["problem"]) == (
        "vault",
        "shop/web",
        "version 2",
        "",
    )
    await node.unpublish(pod)


async def test_the_agent_reads_with_an_approle_of_its_own(node: VaultNode, vault: VaultServer, kv: str) -> None:
    vault.write(f"{kv}/data/shared", data={"key": OLD.decode()})
    auth = AppRoleAuth(vault)
    node.has_approle(auth, "node", auth.add_role("node", vault.policy(f"{kv}/data/shared: read")))
    pod = node.pod_of("web", as_agent(auth, f"{kv}/data/shared"), "key")
    await node.started()
    await node.publish(pod)
    assert node.read(pod, "key") == [OLD]
    vault.write(f"{kv}/data/shared", data={"key": NEW.decode()})
    await node.shows(pod, "key", NEW)
    await node.unpublish(pod)


async def test_the_token_of_another_pod_reads_nothing(node: VaultNode, jwt: JwtAuth, app: str) -> None:
    pod, other = (node.pod_of(name, as_pod(jwt, app, "web"), "password") for name in ("web", "other"))
    await node.started()
    error = await node.refused(pod, volume_context={TOKENS_KEY: brought({"vault": token_of(other, jwt)})})
    assert error.code == "PERMISSION_DENIED"
    assert "serviceAccount.tokens['vault'].pod." in error.details
    error = await node.refused(pod)
    assert "tokenRequests" in error.details or "no live token" in error.details


@pytest.mark.parametrize("how", ["stopped", "sealed"])
async def test_a_pod_that_starts_while_vault_is_away_is_told_so_and_starts_when_it_is_back(
    node: VaultNode, own_vault: VaultServer, how: str
) -> None:
    jwt, kv = JwtAuth(own_vault), own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/app", data={"password": OLD.decode()})
    jwt.add_role("web", SUBJECT, own_vault.policy(f"{kv}/data/app: read"))
    node.reads_from(own_vault)
    pod = node.pod_of("web", as_pod(jwt, f"{kv}/data/app", "web"), "password")
    (own_vault.stop if how == "stopped" else own_vault.seal)()
    await node.started()
    begun = time.monotonic()
    error = await node.refused(pod, volume_context={TOKENS_KEY: brought({"vault": token_of(pod, jwt)})})
    assert time.monotonic() - begun < 25
    assert error.code == "UNAVAILABLE"
    assert own_vault.url.removeprefix("https://") in error.details or "sealed" in error.details
    assert "source-down" in node.conditions()
    assert node.metric("kernelsecret_source_errors_total", source="vault") >= 1
    (own_vault.start if how == "stopped" else own_vault.unseal)()
    await node.publish_as(pod, jwt)
    assert node.read(pod, "password") == [OLD]
    await until(lambda: "source-down" not in node.conditions(), "the condition ends")
    await node.unpublish(pod)


async def test_while_vault_is_away_the_last_value_is_served_with_notice_and_then_the_new_one(
    node: VaultNode, own_vault: VaultServer
) -> None:
    jwt, kv = JwtAuth(own_vault), own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/app", data={"password": OLD.decode()})
    jwt.add_role("web", SUBJECT, own_vault.policy(f"{kv}/data/app: read", f"{kv}/metadata/app: read"))
    node.reads_from(own_vault)
    pod = node.pod_of("web", as_pod(jwt, f"{kv}/data/app", "web"), "password")
    await node.started()
    await node.publish_as(pod, jwt)
    own_vault.stop()
    await until(lambda: "source-down" in node.conditions(), "the outage is told")
    assert node.metric("kernelsecret_source_up", source="vault") == 0
    assert node.read(pod, "password") == [OLD]
    own_vault.start()
    own_vault.write(f"{kv}/data/app", data={"password": NEW.decode()})
    await node.shows(pod, "password", NEW)
    await until(lambda: "source-down" not in node.conditions(), "the condition ends")
    assert node.metric("kernelsecret_source_up", source="vault") == 1
    await node.unpublish(pod)


async def test_an_agent_that_is_killed_mints_nothing_and_forgets_nothing(
    node: VaultNode, vault: VaultServer, jwt: JwtAuth, postgres: Postgres
) -> None:
    database = postgres.enable(vault, ttl="1h", max_ttl="2h")
    jwt.add_role("web", SUBJECT, vault.policy(f"{database.path()}: read"), token_ttl="1h")
    pod = node.pod_of("web", as_pod(jwt, database.path(), "web"), "username", "password")
    await node.started()
    await node.publish_as(pod, jwt)
    username, password = node.read(pod, "username", "password")
    assert isinstance(username, bytes)
    (lease,) = vault.leases(database.path())
    mark = vault.audit.mark()
    for _ in range(2):
        node.kill()
        await node.started()
        await until(lambda: bool(node.served()[0]["lease_left_s"]), "the lease is known again")
    assert node.read(pod, "username", "password") == [username, password]
    assert (minted(vault, mark), vault.leases(database.path())) == ([], [lease])
    await node.publish_as(pod, jwt)
    await node.unpublish(pod)
    await until(lambda: vault.leases(database.path()) == [], "the lease is revoked")
    await until(lambda: username.decode() not in postgres.roles(), "the database forgot the user")


async def test_of_all_that_was_read_and_brought_nothing_is_said(
    node: VaultNode, vault: VaultServer, jwt: JwtAuth, app: str
) -> None:
    node.env["KERNELSECRET_LOG_LEVEL"] = "debug"
    pod, refused = (node.pod_of(name, as_pod(jwt, app, "web"), "password") for name in ("web", "refused"))
    lacking = node.pod_of("lacking", as_pod(jwt, app, "web"), "absent")
    token, forged = token_of(pod, jwt), token_of(pod, jwt, jti="forged")
    await node.started()
    await node.publish(pod, volume_context={TOKENS_KEY: brought({"vault": token})})
    await node.refused(refused, volume_context={TOKENS_KEY: brought({"vault": forged})})
    await node.refused(lacking, volume_context={TOKENS_KEY: brought({"vault": token_of(lacking, jwt)})})
    vault.write(app, data={"password": NEW.decode()})
    await node.shows(pod, "password", NEW)
    said = [token.encode(), forged.encode(), token.rpartition(".")[2].encode(), OLD, NEW]
    node.assert_kept(*said)
    node.kill()
    await node.started()
    await until(lambda: node.served()[0]["version"] == "version 2", "the agent has taken over")
    node.assert_kept(*said)
    for where, text in node.written():
        assert b"hvs." not in text, f"a token of Vault is in {where}"
    await node.unpublish(pod)
    assert node.stop() == 0
    node.assert_kept(*said)
