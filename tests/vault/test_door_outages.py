"""What the door does when Vault, or the way to it, goes wrong: a real Vault that is sealed, killed and paused, and a
proxy before it that cuts, garbles and delays.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.sources.vault import availability
from agent.sources.vault.client import IN_FLIGHT
from agent.sources.vault.errors import Kind
from agent.vault_ref import Identity
from tests.vault.doors import SUBJECT, Door, in_time, opened, refused, role, settings_for
from tests.vault.harness import flaky as faults
from tests.vault.harness.flaky import Fault, Flaky
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import HOST, VaultServer


async def value(door: Door, who: Identity, kv: str) -> str:
    """What is read as somebody."""
    return str((await door.client.read(who, f"{kv}/data/app")).data["data"]["password"])


@asynccontextmanager
async def reading(vault: VaultServer, kv: str, jwt: JwtAuth, **more: Any) -> AsyncIterator[tuple[Door, Identity]]:
    """A door, by which a pod has read the secret `app` once."""
    vault.write(f"{kv}/data/app", data={"password": "one"})
    who = role(vault, jwt, "web", f"{kv}/*: read")
    async with opened(settings_for(vault, **more)) as door:
        door.bring(jwt.token(SUBJECT))
        assert await value(door, who, kv) == "one"
        yield door, who


@asynccontextmanager
async def own(vault: VaultServer, **more: Any) -> AsyncIterator[tuple[Door, Identity, str]]:
    """As `reading`, by a server of the test's own."""
    kv = vault.enable("kv", version="2")
    async with reading(vault, kv, JwtAuth(vault), **more) as (door, who):
        yield door, who, kv


# Outages of Vault itself


async def test_a_sealed_vault_is_asked_nothing_until_it_serves_again(own_vault: VaultServer) -> None:
    async with own(own_vault) as (door, who, kv):
        ups: list[float] = []
        door.client.availability.on_up(lambda: ups.append(time.monotonic()))
        await asyncio.to_thread(own_vault.seal)
        error = await refused(value(door, who, kv))
        assert error.kind is Kind.SEALED
        assert "unseal it" in error.fix
        assert [down.kind for down in door.heard.downs] == [Kind.SEALED]
        for _ in range(100):
            assert (await refused(value(door, who, kv))).kind is Kind.SEALED
        assert len(door.heard.errors) == 1  # the others were not requests
        await asyncio.to_thread(own_vault.unseal)
        unsealed = time.monotonic()
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert time.monotonic() - unsealed < 2.5
        assert len(ups) == len(door.heard.ups) == 1
        assert await value(door, who, kv) == "one"
        assert len(door.heard.logins) == 1


async def test_a_killed_vault_is_told_and_a_retry_finds_it_back_at_once(
    own_vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "FRESH_S", 0.0)
    monkeypatch.setattr(availability, "PROBE_S", 60.0)  # nobody but the retry looks
    async with own(own_vault) as (door, who, kv):
        own_vault.kill()
        error = await refused(value(door, who, kv))
        assert error.kind is Kind.UNAVAILABLE
        assert own_vault.url in error.field
        error = await refused(value(door, who, kv))
        assert "cannot be reached: ConnectionRefusedError" in error.why
        await asyncio.to_thread(own_vault.start)
        assert await value(door, who, kv) == "one"


async def test_a_vault_that_hangs_is_given_up_and_found_back_within_seconds(own_vault: VaultServer) -> None:
    async with own(own_vault, whole_s=1.0, connect_s=0.5) as (door, who, kv):
        own_vault.pause()
        error = await refused(value(door, who, kv))
        assert error.kind is Kind.TIMEOUT
        await in_time(lambda: not door.client.availability.is_up)
        assert door.heard.downs[0].kind is Kind.TIMEOUT
        own_vault.resume()
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert await value(door, who, kv) == "one"


async def test_starting_with_vault_down_is_a_clear_error_and_then_works(own_vault: VaultServer) -> None:
    jwt, kv = JwtAuth(own_vault), own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/app", data={"password": "one"})
    who = role(own_vault, jwt, "web", f"{kv}/data/app: read")
    own_vault.kill()
    async with opened(settings_for(own_vault)) as door:
        door.bring(jwt.token(SUBJECT))
        error = await refused(value(door, who, kv))
        assert error.kind is Kind.UNAVAILABLE
        assert str(error).startswith(f"Vault at {own_vault.url}: cannot be reached: ConnectionRefusedError")
        await asyncio.to_thread(own_vault.start)
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert await value(door, who, kv) == "one"


async def test_a_thousand_readers_meet_one_outage_and_come_back_in_order(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.sealed()):
            before = len(flaky.seen)
            await asyncio.gather(*(refused(value(door, who, kv)) for _ in range(1000)))
            asked = len(flaky.seen) - before
            assert asked <= IN_FLIGHT + 4  # what was under way, and looks
            assert len(door.heard.downs) == 1
        await asyncio.wait_for(door.client.availability.wait_up(), 5)
        assert set(await asyncio.gather(*(value(door, who, kv) for _ in range(1000)))) == {"one"}
        assert flaky.connections <= 2 * IN_FLIGHT + 8
        assert len(door.heard.logins) == 1


async def test_identities_without_a_token_log_in_a_few_at_a_time(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    vault.write(f"{kv}/data/app", data={"password": "one"})
    people = [role(vault, jwt, f"web-{number}", f"{kv}/data/app: read") for number in range(20)]
    async with opened(settings_for(vault, address=flaky.url)) as door:
        door.bring(jwt.token(SUBJECT))
        with flaky.failing(faults.silent(), on="/login"):
            asking = [asyncio.create_task(value(door, who, kv)) for who in people for _ in range(5)]
            await in_time(lambda: flaky.count("/login") == 4)
            assert door.client._bridge._slots.locked()
        # The four were reset, the others come one after the other.
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert done.count("one") == 16 * 5
        assert flaky.count("/login") == 20


async def test_an_agent_that_stops_waits_for_no_login_that_hangs(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    who = role(vault, jwt, "web", f"{kv}/data/app: read")
    with flaky.failing(faults.silent(), on="/login"):
        async with opened(settings_for(vault, address=flaky.url)) as door:
            door.bring(jwt.token(SUBJECT))
            asking = asyncio.create_task(value(door, who, kv))
            await in_time(lambda: flaky.count("/login"))
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        (ended,) = await asyncio.gather(asking, return_exceptions=True)
        assert isinstance(ended, BaseException)
        await in_time(lambda: not [one for one in threading.enumerate() if one.name.startswith("vault")])


# One answer that is wrong


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (faults.half_a_body(), Kind.UNAVAILABLE, "the connection ended before the answer did"),
        (faults.resets(), Kind.UNAVAILABLE, "the connection ended before the answer did"),
        (faults.garbles(), Kind.BAD_ANSWER, "is not Vault's JSON"),
        (faults.garbles(b"<html>canary-77</html>"), Kind.BAD_ANSWER, "is not Vault's JSON"),
        (faults.garbles(b'{"lease_duration": "canary-77"}'), Kind.BAD_ANSWER, "is not Vault's JSON"),
        (faults.garbles(b"[" * 100_000), Kind.BAD_ANSWER, "is not Vault's JSON"),
        (faults.garbles(b"\xff\xfe"), Kind.BAD_ANSWER, "is not Vault's JSON"),
        (faults.garbles(b'{"data": "' + b"x" * (5 << 20) + b'"}'), Kind.BAD_ANSWER, "larger than 4 MiB"),
        (faults.answers(500, "the plugin canary failed"), Kind.UNAVAILABLE, "was 500 (the plugin canary failed)"),
        (faults.answers(502), Kind.UNAVAILABLE, "was 502"),
        (faults.answers(503), Kind.UNAVAILABLE, "was 503"),
        (faults.answers(418, "tea"), Kind.BAD_REQUEST, "with 418 (tea)"),
        (faults.answers(405, "unsupported operation"), Kind.BAD_REQUEST, "cannot be read (unsupported operation)"),
        (faults.answers(429, retry_after="7"), Kind.THROTTLED, "limits the rate"),
        (faults.answers(473), Kind.STANDBY, "standby that serves no secrets"),
        (faults.delays(1.0), Kind.TIMEOUT, "no answer within its time"),
    ],
    ids=lambda given: given.name if isinstance(given, Fault) else None,
)
async def test_a_wrong_answer_to_one_request_is_that_requests_own(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky, fault: Fault, kind: Kind, words: str
) -> None:
    async with reading(vault, kv, jwt, address=flaky.url, whole_s=0.5) as (door, who):
        with flaky.failing(fault, on="/data/app"):
            error = await refused(value(door, who, kv))
        assert error.kind is kind
        assert words in error.why
        assert "canary-77" not in str(error)
        assert error.retry_after_s == (7.0 if kind is Kind.THROTTLED else None)
        assert await value(door, who, kv) == "one"
        assert not door.heard.downs
        assert len(door.heard.errors) == 1


async def test_a_credential_in_vaults_words_is_not_shown(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        held = await door.client._tokens.current(who)
        said = ["bad: " + held.token, "hvs.CAESIOtherToken12345", "postgres://vault:canary@db/app", jwt.token(SUBJECT)]
        with flaky.failing(faults.answers(500, *said), on="/data/app"):
            text = str(await refused(value(door, who, kv)))
        for secret in (held.token, "CAESIOther", "canary", "eyJ"):
            assert secret not in text
        assert "bad: ..." in text


async def test_a_kept_connection_that_vault_closed_costs_nothing(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.resets(), on="/data/app", times=1):
            assert await value(door, who, kv) == "one"
        assert flaky.count("/data/app", became="resets") == 1
        assert not door.heard.errors


async def test_what_is_written_is_never_sent_twice(vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.resets(), on="/issue"):
            error = await refused(door.client.read(who, f"{kv}/issue", parameters={"a": "b"}))
        assert error.kind is Kind.UNAVAILABLE
        assert flaky.count("/issue") == 1


# Standbys


async def test_a_standby_leads_to_the_active_server(vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.standby(vault.url), on="/data/app"):
            assert [await value(door, who, kv) for _ in range(3)] == ["one"] * 3
        assert flaky.count("/data/app", became="standby") == 3
        assert not door.heard.errors


@pytest.mark.parametrize(
    ("leader", "words"),
    [
        ("http://127.0.0.1:1", "without TLS"),
        ("ftp://127.0.0.1:1", "without TLS"),
        ("", "not to the active server"),
        ("https://user:canary@127.0.0.1:1", "not to the active server"),
        ("https://[", "does not say to where"),
        ("https://127.0.0.1:1/v1/elsewhere?x=", "not to the active server"),
    ],
)
async def test_a_standby_that_leads_astray_is_not_followed(
    vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky, leader: str, words: str
) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.standby(leader), on="/data/app"):
            error = await refused(value(door, who, kv))
        assert error.kind is Kind.STANDBY
        assert words in error.why
        assert "canary" not in str(error)


async def test_standbys_that_lead_in_circles_are_left(vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky) -> None:
    async with reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.standby(flaky.url), on="/data/app"):
            error = await refused(value(door, who, kv))
        assert error.kind is Kind.STANDBY
        assert flaky.count("/data/app", became="standby") == 2


async def test_a_token_goes_to_no_server_that_the_pinned_authority_does_not_vouch_for(
    vault: VaultServer, own_vault: VaultServer, kv: str, jwt: JwtAuth, flaky: Flaky
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_vault.certificate, own_vault.key)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1024))
        writer.close()

    stranger = await asyncio.start_server(listen, HOST, 0, ssl=context)
    port = stranger.sockets[0].getsockname()[1]
    async with stranger, reading(vault, kv, jwt, address=flaky.url) as (door, who):
        with flaky.failing(faults.standby(f"https://{HOST}:{port}"), on="/data/app"):
            error = await refused(value(door, who, kv))
        assert error.kind is Kind.TLS_UNTRUSTED
        assert await value(door, who, kv) == "one"  # the server that was asked first serves
        assert not door.heard.downs
    assert not any(heard)


# Leases


async def test_leases_are_renewed_and_revoked_and_a_lost_one_is_told(vault: VaultServer, jwt: JwtAuth) -> None:
    pki = vault.enable("pki")
    vault.write(f"{pki}/root/generate/internal", common_name="tests")
    vault.write(f"{pki}/roles/web", allow_any_name=True, generate_lease=True, ttl="1h", max_ttl="2h")
    who = role(vault, jwt, "web", f"{pki}/issue/web: update", "sys/leases/revoke: update")
    async with opened(settings_for(vault)) as door:
        door.bring(jwt.token(SUBJECT))
        answer = await door.client.read(who, f"{pki}/issue/web", parameters={"common_name": "a.test"})
        assert 3590 < answer.lease_s <= 3600
        assert answer.lease_id in vault.leases(f"{pki}/issue/web")
        assert answer.lease_id not in repr(answer)
        error = await refused(door.client.renew_lease(who, answer.lease_id, 60))
        assert error.kind is Kind.BAD_REQUEST
        assert "not renewable" in error.why
        await door.client.revoke_lease(who, answer.lease_id)
        assert not vault.leases(f"{pki}/issue/web")
        await door.client.revoke_lease(who, answer.lease_id)  # once more is no error
        error = await refused(door.client.renew_lease(who, answer.lease_id, 60))
        assert error.kind is Kind.BAD_REQUEST
        assert "lease not found" in error.why


async def test_a_policy_that_lets_nobody_revoke_is_told(vault: VaultServer, kv: str, jwt: JwtAuth) -> None:
    async with reading(vault, kv, jwt) as (door, who):
        error = await refused(door.client.revoke_lease(who, "database/creds/app/abc"))
        assert error.kind is Kind.DENIED
        assert "`update` on 'sys/leases/revoke'" in error.fix
