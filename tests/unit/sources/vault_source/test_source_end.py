"""The end of a source whose reader ends with it: nothing that was made lives on."""

from __future__ import annotations

import asyncio

import pytest

from agent.vault_ref import VaultRequest, given_ref, request_of
from kernelsecret.interceptor import VaultSource as Spec
from tests.unit.sources.vault_source.fake_vault import FakeVault, Role
from tests.unit.sources.vault_source.simulated import Agent, Observer, in_made_time, ref_of

CREDS = "database/creds/app"


@in_made_time
async def test_every_lease_is_revoked_and_whoever_read_is_forgotten_at_once() -> None:
    vault = FakeVault()
    vault.roles[CREDS] = Role()
    seen = Observer()
    async with Agent(vault) as agent:
        agent.source.watch(ref_of(CREDS), seen)
        for account in ("app", "other"):
            await agent.source.fetch(ref_of(CREDS, account=account))
        assert len(vault.live()) == 2
        heard = len(seen.heard)
        await asyncio.wait_for(agent.source.end(), 1)
        assert not vault.live()
        assert len(vault.forgotten) == 2
        assert not [name for name in agent.safe.names() if name.startswith("vault-lease:")]
        assert len(seen.heard) == heard


@in_made_time
async def test_credentials_that_are_being_made_are_revoked_too() -> None:
    vault = FakeVault()
    vault.roles[CREDS] = Role()
    async with Agent(vault) as agent:
        fetching = asyncio.ensure_future(agent.source.fetch(ref_of(CREDS)))
        while not vault.count("read"):  # noqa: ASYNC110 - time is made here, and passes by waiting
            await asyncio.sleep(0.0001)
        assert [made.delivered for made in vault.made] == [False]
        fetching.cancel()
        await asyncio.wait_for(agent.source.end(), 1)
        assert len(vault.made) == 1
        assert not vault.live()
        assert len(vault.forgotten) == 1


@in_made_time
async def test_a_source_that_was_asked_for_nothing_ends_at_once() -> None:
    async with Agent(FakeVault()) as agent:
        await asyncio.wait_for(agent.source.end(), 1)


@pytest.mark.parametrize("version", [0, 3])
def test_a_reference_read_with_a_given_token_says_so_and_is_read_back(version: int) -> None:
    spec = Spec(path="secret/data/a b", namespace="team", version=version)
    request = request_of(given_ref(spec))
    assert isinstance(request, VaultRequest)
    assert (request.source.path, request.source.version, request.identity.namespace) == (spec.path, version, "team")
    assert (request.identity.method, request.identity.reader, str(request.identity)) == (None, "", "the token")
