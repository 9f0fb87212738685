"""Credentials with a lease: kept alive, replaced before they die, and ended when nobody needs them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.sources.vault.answers import Lease
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.records import Records
from agent.sources.vault.source import LINGER_S
from agent.vault_ref import Identity
from kernelsecret.errors import Code, Refused
from tests.unit.sources.vault_source.fake_vault import FakeVault, Role
from tests.unit.sources.vault_source.simulated import Agent, Observer, in_made_time, now, ref_of, wall

CREDS = "database/creds/app"
DB = ref_of(CREDS)


def vault_with(**role: object) -> FakeVault:
    vault = FakeVault()
    vault.roles[CREDS] = Role(**role)  # type: ignore[arg-type]
    return vault


@asynccontextmanager
async def watching(**role: object) -> AsyncIterator[tuple[FakeVault, Agent, Observer]]:
    """An agent that watches credentials of such a role, and is closed in the end."""
    vault, seen = vault_with(**role), Observer()
    async with Agent(vault) as agent:
        agent.source.watch(DB, seen)
        yield vault, agent, seen


@in_made_time
async def test_credentials_are_renewed_and_never_minted_again_while_they_can_be_kept() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, seen):
        await asyncio.sleep(3600)
        assert len(vault.made) == 1
        assert len(seen.versions) == 1
        assert seen.versions[0].values == {"username": b"u1", "password": b"p1"}
        assert 85 <= vault.count("renew") <= 120
        assert not agent.source.holds_old(DB)
        assert (await agent.source.fetch(DB)).label == seen.versions[0].label
        assert len(vault.made) == 1
        facts = agent.source.facts(DB)
        assert facts is not None
        assert (facts.how, facts.old_leases, facts.problem) == ("lease", 0, "")
        assert 20 < facts.lease_ends_ns / 1e9 - wall() <= 60


@in_made_time
async def test_at_max_ttl_new_ones_are_there_before_the_old_ones_die_and_both_are_good_meanwhile() -> None:
    async with watching(ttl=60, max_ttl=600) as (vault, _, seen):
        for _ in range(2000):
            await asyncio.sleep(1)
            newest = seen.versions[-1].values["password"].decode()
            shown = vault.made[int(newest[1:]) - 1]
            assert shown.alive(now())
            assert len(vault.live()) <= 2
        assert 4 <= len(vault.made) <= 5
        overlaps = [old.last - new.at for old, new in zip(vault.made, vault.made[1:], strict=False)]
        assert min(overlaps) > 15


@in_made_time
async def test_old_credentials_are_renewed_until_every_reader_has_the_new_ones_and_revoked_then() -> None:
    async with watching(ttl=60, max_ttl=3600) as (vault, agent, seen):
        await asyncio.sleep(30)
        vault.replace_token(vault.identities()[0], left_s=1000)
        await asyncio.sleep(5)
        old, new = vault.made
        assert [version.values["password"] for version in seen.versions] == [b"p1", b"p2"]
        await asyncio.sleep(300)  # five times its ttl
        assert old.alive(now())
        facts = agent.source.facts(DB)
        assert facts is not None
        assert facts.old_leases == 1
        assert agent.source.holds_old(DB)
        agent.source.all_read(DB, seen.versions[0].label)  # of the old one: nothing follows
        agent.source.all_read(DB, "lease 00000000")
        await asyncio.sleep(20)
        assert old.alive(now())
        told = now()
        agent.source.all_read(DB, seen.versions[-1].label)
        agent.source.all_read(DB, seen.versions[-1].label)
        await asyncio.sleep(10)
        assert 5 <= old.revoked - told < 5.1
        assert new.alive(now())
        assert vault.count("revoke") == 1
        assert not agent.source.holds_old(DB)


@in_made_time
async def test_after_unpublish_everything_is_revoked_and_forgotten() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        cancel = agent.source.watch(DB, Observer())
        await asyncio.sleep(30)
        vault.replace_token(vault.identities()[0], left_s=1000)
        await asyncio.sleep(5)
        assert len(vault.live()) == 2
        cancel()
        await asyncio.sleep(LINGER_S - 1)
        assert len(vault.live()) == 2
        await asyncio.sleep(2)
        assert not vault.live()
        assert vault.count("revoke") == 2
        assert len(vault.forgotten) == 1
        assert not [name for name in agent.safe.names() if name.startswith("vault-lease:")]


@in_made_time
async def test_a_publish_that_fails_and_is_tried_again_mints_once() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        for _ in range(5):
            cancel = agent.source.watch(DB, Observer())
            await agent.source.fetch(DB)
            cancel()
            await asyncio.sleep(LINGER_S - 1)
        assert len(vault.made) == 1
        assert len(vault.live()) == 1


@in_made_time
async def test_many_who_ask_at_once_get_the_same_credentials() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        found = await asyncio.gather(*(agent.source.fetch(DB) for _ in range(20)))
        assert len({version.label for version in found}) == 1
        assert len(vault.made) == 1
        assert vault.count("write", "sys/leases/lookup") == 0


@in_made_time
async def test_a_restart_finds_values_and_leases_in_the_safe_and_asks_vault_for_nothing() -> None:
    async with watching() as (vault, agent, _):
        await asyncio.sleep(30)
        await agent.kill()
        vault.asked.clear()
        vault.down = True
        await asyncio.sleep(3)
        await agent.start()
        seen = Observer()
        agent.source.watch(DB, seen)
        await asyncio.sleep(1)
        assert seen.value == b"p1"
        assert (await agent.source.fetch(DB)).values["password"] == b"p1"
        assert not vault.asked
        vault.down = False
        await asyncio.sleep(3600)
        assert len(vault.made) <= 7


@in_made_time
async def test_leases_that_were_left_while_no_agent_ran_are_revoked_by_the_next() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, _):
        await asyncio.sleep(10)
        await agent.kill()
        await agent.start()
        await asyncio.sleep(70)
        assert not vault.live()
        assert len(vault.forgotten) == 1


@in_made_time
async def test_a_mint_whose_answer_never_came_is_not_forgotten_by_the_next_agent() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        vault.cut = True
        with pytest.raises(Refused):
            await agent.source.fetch(DB)
        assert len(vault.live()) == 1
        await agent.kill()
        await agent.start()
        await asyncio.sleep(61)
        assert vault.forgotten  # the token is revoked, and its leases with it
        assert not vault.live()


@in_made_time
async def test_what_was_left_is_revoked_also_where_its_reader_goes_on_with_other_secrets() -> None:
    vault, other = vault_with(ttl=600, max_ttl=1e9), ref_of("database/creds/other")
    vault.roles["database/creds/other"] = Role(ttl=600, max_ttl=1e9)
    async with Agent(vault) as agent:
        agent.source.watch(DB, Observer())
        agent.source.watch(other, Observer())
        await asyncio.sleep(10)
        await agent.kill()
        await agent.start()
        agent.source.watch(other, Observer())
        await asyncio.sleep(70)
        assert [lease.path for lease in vault.live()] == ["database/creds/other"]
        assert not vault.forgotten


@in_made_time
async def test_before_vault_is_asked_for_credentials_the_safe_knows_of_it() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        fetch = asyncio.ensure_future(agent.source.fetch(DB))
        while not vault.made:  # noqa: ASYNC110 - in time that passes at once
            await asyncio.sleep(0.001)
        assert not fetch.done()
        assert Records(agent.safe).refs() == [DB]
        await fetch


@in_made_time
async def test_an_old_lease_that_cannot_be_renewed_or_revoked_is_no_trouble_of_the_secret() -> None:
    async with watching(ttl=60, max_ttl=3600) as (vault, agent, seen):
        await asyncio.sleep(10)
        vault.replace_token(vault.identities()[0], left_s=1000)
        await asyncio.sleep(5)
        old, new = vault.made
        renew = vault.renew_lease

        async def broken(identity: Identity, lease_id: str, increment_s: int) -> Lease:
            if lease_id == old.id:
                raise VaultError(Kind.BAD_ANSWER, lease_id, "internal error")
            return await renew(identity, lease_id, increment_s)

        vault.renew_lease = broken  # type: ignore[method-assign]
        await asyncio.sleep(100)
        assert not old.alive(now())
        assert new.alive(now())
        assert not seen.failures
        facts = agent.source.facts(DB)
        assert facts is not None
        assert facts.old_leases == 0


@in_made_time
async def test_an_administrator_who_revokes_and_pushes_is_heard_at_once() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, seen):
        await asyncio.sleep(10)
        assert agent.source.nudge(CREDS) == 1
        await asyncio.sleep(1)
        assert len(vault.made) == 1  # it is still good
        vault.end(vault.made[0])
        agent.source.nudge(f"/{CREDS}/")
        await asyncio.sleep(0.5)
        assert seen.value == b"p2"


@in_made_time
async def test_a_lease_that_is_gone_is_noticed_at_the_next_renewal() -> None:
    async with watching(max_ttl=1e9) as (vault, _, seen):
        await asyncio.sleep(10)
        vault.end(vault.made[0])
        await asyncio.sleep(40)
        assert seen.value == b"p2"


@in_made_time
async def test_leases_that_cannot_be_renewed_are_replaced_when_a_third_is_left() -> None:
    async with watching(renewable=False, ttl=90, max_ttl=90) as (vault, _, _):
        await asyncio.sleep(900)
        assert vault.count("renew") == 0
        gaps = [new.at - old.at for old, new in zip(vault.made, vault.made[1:], strict=False)]
        assert all(50 <= gap <= 61 for gap in gaps)


@in_made_time
async def test_where_renewals_fail_for_another_reason_new_ones_are_asked_for_before_the_old_die() -> None:
    async with watching(max_ttl=1e9) as (vault, _, seen):
        await asyncio.sleep(1)
        renew = vault.renew_lease

        async def broken(identity: object, lease_id: str, increment_s: int) -> object:
            raise VaultError(Kind.BAD_ANSWER, lease_id, "internal error")

        vault.renew_lease = broken  # type: ignore[method-assign,assignment]
        await asyncio.sleep(60)
        assert len(vault.made) == 2
        assert vault.made[1].at < vault.made[0].ends
        assert "internal error" in seen.failures[0]
        assert seen.value == b"p2"
        vault.renew_lease = renew  # type: ignore[method-assign]


@in_made_time
async def test_who_may_not_revoke_lets_the_lease_run_out_in_a_second() -> None:
    vault = vault_with()
    vault.forbidden.add("revoke *")
    async with Agent(vault) as agent:
        cancel = agent.source.watch(DB, Observer())
        await asyncio.sleep(10)
        cancel()
        await asyncio.sleep(LINGER_S + 2)
        assert not vault.live()


@in_made_time
async def test_an_outage_longer_than_the_lease_ends_in_new_credentials_within_seconds() -> None:
    async with watching(ttl=60) as (vault, agent, seen):
        await asyncio.sleep(10)
        vault.down = True
        await asyncio.sleep(1800)
        assert seen.value == b"p1"
        assert "nobody listens" in seen.failures[-1]
        assert len(seen.failures) == 1
        with pytest.raises(Refused, match="nobody listens"):
            await agent.source.fetch(DB)
        vault.down = False
        back = now()
        await asyncio.sleep(5)
        assert seen.value == b"p2"
        assert seen.heard[-1][0] - back < 3


@in_made_time
async def test_what_is_issued_without_a_lease_is_issued_anew_before_it_ends_and_survives_a_restart() -> None:
    vault, seen = FakeVault(), Observer()
    ref = ref_of("pki/issue/web", common_name="web.example.com")
    vault.issued["pki/issue/web"] = lambda number, at: {
        "certificate": f"cert {number}",
        "expiration": int(at) + 3600,
        "ca_chain": ["a", "b"],
    }
    async with Agent(vault) as agent:
        agent.source.watch(ref, seen)
        await asyncio.sleep(1800)
        assert seen.versions[-1].values["certificate"] == b"cert 1"
        assert seen.versions[-1].values["ca_chain"] == b'["a","b"]'
        await agent.kill()
        await agent.start()
        seen = Observer()
        agent.source.watch(ref, seen)
        await asyncio.sleep(100)
        assert vault.count("write", "pki/issue") == 1
        assert seen.versions[-1].values["certificate"] == b"cert 1"
        await asyncio.sleep(1200)
        assert vault.count("write", "pki/issue") == 2
        facts = agent.source.facts(ref)
        assert facts is not None
        assert (facts.how, facts.old_leases) == ("issued anew before it ends", 0)


@in_made_time
async def test_credentials_that_cannot_be_shown_are_revoked_and_not_asked_for_again_and_again() -> None:
    async with watching(data=lambda number: {"password": "x" * (1 << 21)}) as (vault, agent, seen):
        for _ in range(5):
            with pytest.raises(Refused, match="has more than 1048576 bytes"):
                await agent.source.fetch(DB)
            await asyncio.sleep(2)
        assert len(vault.made) == 1
        assert not vault.live()
        assert "1048576" in seen.failures[-1]


@in_made_time
async def test_values_too_large_for_the_safe_are_minted_anew_after_a_restart_and_the_lease_is_not_lost() -> None:
    def large(number: int) -> dict[str, str]:
        return {"password": f"{number}" + "x" * 100_000}

    async with watching(data=large, max_ttl=1e9) as (vault, agent, _):
        await asyncio.sleep(10)
        facts = agent.source.facts(DB)
        assert facts is not None
        assert facts.problem == "too large to be kept for a restart of the agent"
        await agent.kill()
        await agent.start()
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(10)
        assert (seen.value or b"")[:1] == b"2"
        assert len(vault.live()) == 2
        agent.source.all_read(DB, seen.versions[-1].label)
        await asyncio.sleep(10)
        assert len(vault.live()) == 1


@in_made_time
async def test_a_token_that_was_not_renewed_in_time_is_as_good_as_gone() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, _):
        await asyncio.sleep(10)
        await agent.kill()
        vault.token_left_s = -5
        await agent.start()
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(2)
        assert seen.value == b"p2"


@in_made_time
async def test_a_token_that_nobody_renewed_in_time_ends_its_leases_when_it_ends() -> None:
    async with watching(ttl=3600, max_ttl=1e9) as (vault, agent, seen):
        await asyncio.sleep(10)
        assert seen.value == b"p1"
        vault.token_left_s = 0
        await agent.kill()
        vault.token_ends_s = wall() + 20  # it seems to live on for a little
        await agent.start()
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(15)
        assert seen.value == b"p1"
        await asyncio.sleep(10)
        assert seen.value == b"p2"


@in_made_time
async def test_a_token_that_ended_while_no_agent_ran_means_new_credentials_at_once() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, _):
        await asyncio.sleep(10)
        await agent.kill()
        vault.replace_token(vault.identities()[0], left_s=-1)
        await agent.start()
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(2)
        assert seen.value == b"p2"


@in_made_time
async def test_nothing_of_a_value_shows_in_words() -> None:
    async with watching() as (_, agent, _):
        await asyncio.sleep(2)
        watched = agent.source._all.get(DB)
        assert watched is not None
        assert watched.leases is not None
        shown = f"{watched.leases.book.held} {watched.leases.news()} {watched.version} {agent.source.facts(DB)}"
        assert "p1" not in shown
        assert "u1" not in shown
        assert "/0001" not in shown


@in_made_time
async def test_new_credentials_with_a_key_that_became_empty_are_revoked_and_the_old_ones_go_on_being_shown() -> None:
    async with watching(max_ttl=1e9, data=lambda number: {"password": "p1" if number == 1 else ""}) as one:
        vault, agent, seen = one
        await asyncio.sleep(10)
        vault.replace_token(vault.identities()[0], left_s=1000)
        await asyncio.sleep(10)
        assert seen.value == b"p1"
        assert "became empty" in seen.failures[-1]
        old, new = vault.made
        assert (old.alive(now()), new.alive(now())) == (True, False)
        assert (await agent.source.fetch(DB)).values == {"password": b"p1"}


@in_made_time
async def test_where_no_lease_may_be_looked_up_a_push_is_no_trouble_and_makes_nothing() -> None:
    async with watching(max_ttl=1e9) as (vault, agent, seen):
        vault.forbidden.add("sys/leases/lookup")
        await asyncio.sleep(10)
        agent.source.nudge(CREDS)
        await asyncio.sleep(1)
        assert vault.count("write", "sys/leases/lookup") == 1
        assert (seen.failures, seen.value, len(vault.made)) == ([], b"p1", 1)


@in_made_time
async def test_credentials_that_cannot_be_kept_for_a_restart_are_served_all_the_same_and_that_is_told() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:

        def full(name: str, blob: bytes) -> None:
            raise Refused(Code.RESOURCE_EXHAUSTED, "safe", "is full")

        agent.safe.put = full  # type: ignore[method-assign]
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(10)
        assert (seen.value, seen.failures) == (b"p1", [])
        facts = agent.source.facts(DB)
        assert facts is not None
        assert facts.problem == "not kept for a restart of the agent (is full)"


@in_made_time
async def test_a_question_without_an_answer_does_not_say_what_kind_of_secret_it_was() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        vault.cut = True
        with pytest.raises(Refused):
            await agent.source.fetch(DB)
        await agent.kill()
        vault.cut, vault.static[CREDS] = False, {"password": "fixed"}
        del vault.roles[CREDS]
        await agent.start()
        agent.source.watch(DB, seen := Observer())
        await asyncio.sleep(5)
        facts = agent.source.facts(DB)
        assert facts is not None
        assert (seen.value, facts.how) == (b"fixed", "value every 1s")


@in_made_time
async def test_what_nobody_watches_any_more_holds_nothing_that_waits_for_readers() -> None:
    vault = vault_with()
    async with Agent(vault) as agent:
        cancel = agent.source.watch(DB, Observer())
        await asyncio.sleep(10)
        vault.replace_token(vault.identities()[0], left_s=1000)
        await asyncio.sleep(5)
        assert agent.source.holds_old(DB)
        cancel()
        assert not agent.source.holds_old(DB)
