"""Many secrets, many notices, long outages: bounded work, flat memory, and nothing lost."""

from __future__ import annotations

import asyncio
import gc

import pytest

from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lanes import CREDENTIALS, POLLS
from kernelsecret.errors import Refused
from tests.unit.sources.vault_source.fake_vault import FakeVault, Role
from tests.unit.sources.vault_source.simulated import Agent, Observer, in_made_time, now, ref_of

DB = ref_of("secret/data/db")


def vault_of(many: int) -> FakeVault:
    vault = FakeVault()
    for number in range(many):
        vault.kv2[f"secret/s{number}"] = [{"password": "one"}]
    return vault


def watch_all(agent: Agent, many: int) -> list[Observer]:
    seen = [Observer() for _ in range(many)]
    for number, observer in enumerate(seen):
        agent.source.watch(ref_of(f"secret/data/s{number}"), observer)
    return seen


@in_made_time
async def test_a_thousand_secrets_are_polled_spread_over_the_pace_and_a_few_at_a_time() -> None:
    vault = vault_of(1000)
    agent = Agent(vault)
    seen = watch_all(agent, 1000)
    await asyncio.sleep(5)
    assert all(observer.value == b"one" for observer in seen)
    assert vault.most_at_once <= POLLS
    vault.asked.clear()
    per_tenth = []
    for _ in range(10):
        before = len(vault.asked)
        await asyncio.sleep(0.1)
        per_tenth.append(len(vault.asked) - before)
    assert max(per_tenth) < 200
    assert 900 <= sum(per_tenth) <= 1100
    await agent.source.close()


@in_made_time
async def test_after_an_outage_a_thousand_secrets_are_current_within_five_seconds_without_a_herd() -> None:
    vault = vault_of(1000)
    agent = Agent(vault)
    seen = watch_all(agent, 1000)
    await asyncio.sleep(5)
    vault.down = True
    await asyncio.sleep(600)
    assert all(len(observer.failures) == 1 for observer in seen)
    assert all(observer.value == b"one" for observer in seen)
    for number in range(1000):
        vault.kv2[f"secret/s{number}"].append({"password": "two"})
    vault.most_at_once = 0
    vault.asked.clear()
    vault.down, back = False, now()
    await asyncio.sleep(5)
    assert all(observer.value == b"two" for observer in seen)
    assert max(at for observer in seen for at, what in observer.heard if what == "version 2") - back < 3.5
    assert vault.most_at_once <= POLLS
    await agent.source.close()


@in_made_time
async def test_a_thousand_dead_leases_are_minted_anew_a_few_at_a_time() -> None:
    vault = FakeVault()
    agent, seen = Agent(vault), []
    for number in range(1000):
        vault.roles[f"database/creds/r{number}"] = Role(ttl=600, max_ttl=1e9)
        seen.append(Observer())
        agent.source.watch(ref_of(f"database/creds/r{number}"), seen[-1])
    await asyncio.sleep(60)
    assert len(vault.made) == 1000
    vault.down = True
    await asyncio.sleep(700)
    vault.down, vault.most_at_once, back = False, 0, now()
    await asyncio.sleep(10)
    assert len(vault.made) == 2000
    assert max(observer.heard[-1][0] for observer in seen) - back < 5
    assert vault.most_at_once <= CREDENTIALS
    await agent.source.close()


@in_made_time
async def test_ten_thousand_notices_are_a_hundred_looks_in_ten_seconds_in_flat_memory_and_the_last_value_wins() -> None:
    vault, seen = vault_of(1), Observer()
    agent = Agent(vault, pace=lambda ref: 300.0)
    agent.source.watch(ref_of("secret/data/s0"), seen)
    await asyncio.sleep(2)
    vault.asked.clear()
    versions = vault.kv2["secret/s0"]
    gc.collect()
    before = len(gc.get_objects())
    for number in range(10_000):
        versions[:] = [*versions[:-1], {"password": str(number)}] if number % 50 else [*versions, {"password": "x"}]
        agent.source.nudge("secret/data/s0")
        if number % 10 == 0:
            await asyncio.sleep(0.01)
    versions.append({"password": "the last"})
    agent.source.nudge("secret/data/s0")
    gc.collect()
    grown = len(gc.get_objects()) - before
    await asyncio.sleep(0.2)
    assert seen.value == b"the last"
    assert vault.count("read", "secret/metadata/") <= 105
    assert grown < 1000  # 200 of them are Vault's versions
    await agent.source.close()


@in_made_time
async def test_a_notice_between_a_look_s_turn_and_its_begin_is_part_of_it() -> None:
    vault = vault_of(1)
    agent = Agent(vault, pace=lambda ref: 300.0)
    agent.source.watch(ref_of("secret/data/s0"), Observer())
    await asyncio.sleep(2)
    vault.asked.clear()
    agent.source.nudge("secret/data/s0")
    agent.source._lanes._polls._tick()
    agent.source.nudge("secret/data/s0")
    await asyncio.sleep(0.09)
    assert len(vault.asked) == 1
    await agent.source.close()


@in_made_time
async def test_who_asks_during_a_look_hears_of_what_was_written_before_it_asked() -> None:
    vault = vault_of(1)
    agent = Agent(vault, pace=lambda ref: 300.0)
    agent.source.watch(ref_of("secret/data/s0"), Observer())
    await asyncio.sleep(2)
    agent.source.nudge("secret/data/s0")
    await asyncio.sleep(0.003)
    watched = agent.source._all.get(ref_of("secret/data/s0"))
    assert watched is not None
    assert watched.busy
    vault.kv2["secret/s0"].append({"password": "two"})
    begun = now()
    assert (await agent.source.fetch(ref_of("secret/data/s0"))).label == "version 2"
    assert now() - begun < 0.05
    await agent.source.close()


@in_made_time
async def test_a_notice_during_a_look_means_another_look() -> None:
    vault, seen = vault_of(1), Observer()
    agent = Agent(vault, pace=lambda ref: 300.0)
    agent.source.watch(ref_of("secret/data/s0"), seen)
    await asyncio.sleep(2)
    agent.source.nudge("secret/data/s0")
    await asyncio.sleep(0.005)  # Vault has answered the question for the metadata, or is about to
    vault.kv2["secret/s0"].append({"password": "two"})
    agent.source.nudge("secret/data/s0")
    await asyncio.sleep(0.15)
    assert seen.value == b"two"
    await agent.source.close()


@in_made_time
async def test_a_notice_during_an_outage_is_not_lost() -> None:
    vault, seen = vault_of(1), Observer()
    agent = Agent(vault, pace=lambda ref: 300.0)
    agent.source.watch(ref_of("secret/data/s0"), seen)
    await asyncio.sleep(2)
    vault.kv2["secret/s0"].append({"password": "two"})
    vault.down = True
    agent.source.nudge("secret/data/s0")
    await asyncio.sleep(60)
    vault.down = False
    await asyncio.sleep(4)
    assert seen.value == b"two"
    await agent.source.close()


@in_made_time
async def test_a_start_while_vault_is_down_is_refused_with_the_reason_and_the_next_try_succeeds() -> None:
    vault = vault_of(1)
    vault.down = True
    agent = Agent(vault)
    for _ in range(3):
        with pytest.raises(Refused, match="nobody listens"):
            await agent.source.fetch(ref_of("secret/data/s0"))
        await asyncio.sleep(0.6)
    vault.down = False
    await asyncio.sleep(0.6)
    assert (await agent.source.fetch(ref_of("secret/data/s0"))).label == "version 1"
    await agent.source.close()


@in_made_time
async def test_a_vault_that_throttles_is_asked_again_when_it_said_and_within_five_seconds() -> None:
    vault, seen = vault_of(1), Observer()
    agent = Agent(vault)
    agent.source.watch(ref_of("secret/data/s0"), seen)
    await asyncio.sleep(2)
    vault.failing = VaultError(Kind.THROTTLED, "vault", "too many requests", retry_after_s=3600.0)
    await asyncio.sleep(60)
    vault.asked.clear()
    await asyncio.sleep(60)
    assert 10 <= len(vault.asked) <= 14
    vault.failing = None
    vault.kv2["secret/s0"].append({"password": "two"})
    await asyncio.sleep(5.5)
    assert seen.value == b"two"
    await agent.source.close()


@in_made_time
async def test_who_waits_comes_before_what_is_only_polled_in_the_order_of_asking() -> None:
    vault, done = vault_of(400), []
    agent = Agent(vault, pace=lambda ref: 0.1)
    watch_all(agent, 300)
    await asyncio.sleep(1)

    async def fetch(number: int) -> None:
        await agent.source.fetch(ref_of(f"secret/data/s{number}"))
        done.append(number)

    begun = now()
    await asyncio.gather(*(fetch(number) for number in range(300, 400)))
    assert now() - begun < 0.1
    assert max(abs(300 + place - number) for place, number in enumerate(done)) <= POLLS
    await agent.source.close()


@in_made_time
async def test_closing_ends_every_wait_and_says_nothing_more() -> None:
    vault, seen = vault_of(200), Observer()
    agent = Agent(vault)
    agent.source.watch(ref_of("secret/data/s0"), seen)
    fetches = [asyncio.ensure_future(agent.source.fetch(ref_of(f"secret/data/s{number}"))) for number in range(200)]
    await asyncio.sleep(0.003)
    await agent.source.close()
    results = await asyncio.gather(*fetches, return_exceptions=True)
    assert all(isinstance(result, Refused) for result in results)
    heard = len(seen.heard)
    await asyncio.sleep(10)
    assert len(seen.heard) == heard
    await agent.source.close()


@in_made_time
async def test_whoever_gives_up_waiting_harms_nobody() -> None:
    vault = vault_of(1)
    agent = Agent(vault)
    first = asyncio.ensure_future(agent.source.fetch(ref_of("secret/data/s0")))
    second = asyncio.ensure_future(agent.source.fetch(ref_of("secret/data/s0")))
    await asyncio.sleep(0.001)
    first.cancel()
    assert (await second).label == "version 1"
    await agent.source.close()
