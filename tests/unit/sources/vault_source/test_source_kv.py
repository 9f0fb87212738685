"""KV secrets: what is polled, what is read, and what is told."""

from __future__ import annotations

import asyncio
import re

import pytest

from agent.sources.vault.errors import Kind, VaultError
from kernelsecret.errors import Refused
from tests.unit.sources.vault_source.fake_vault import FakeVault
from tests.unit.sources.vault_source.simulated import Agent, Observer, in_made_time, now, ref_of

DB = ref_of("secret/data/db")


def vault_with(value: str = "one") -> FakeVault:
    vault = FakeVault()
    vault.kv2["secret/db"] = [{"username": "app", "password": value}]
    return vault


@in_made_time
async def test_a_new_version_is_told_within_the_pace_and_named_by_its_number() -> None:
    vault, seen = vault_with(), Observer()
    agent = Agent(vault)
    version = await agent.source.fetch(DB)
    assert (version.label, version.values) == ("version 1", {"username": b"app", "password": b"one"})
    agent.source.watch(DB, seen)
    await asyncio.sleep(3)
    vault.kv2["secret/db"].append({"username": "app", "password": "two"})
    begun = now()
    await asyncio.sleep(2)
    assert [value.label for value in seen.versions] == ["version 1", "version 2"]
    assert seen.heard[-1][0] - begun < 1.2
    assert seen.versions[-1].changed_ns > 0
    await agent.source.close()


@in_made_time
async def test_a_poll_that_finds_nothing_new_reads_no_value() -> None:
    vault = vault_with()
    agent = Agent(vault)
    agent.source.watch(DB, Observer())
    await asyncio.sleep(100)
    assert vault.count("read", "secret/data/") == 1
    assert 90 <= vault.count("read", "secret/metadata/") <= 110
    await agent.source.close()


@in_made_time
async def test_a_pace_that_is_made_shorter_counts_soon() -> None:
    vault, pace = vault_with(), [300.0]
    agent = Agent(vault, pace=lambda ref: pace[0])
    agent.source.watch(DB, Observer())
    await asyncio.sleep(290)
    assert vault.count("read", "secret/metadata/") == 1
    pace[0] = 1.0
    await asyncio.sleep(20)
    assert vault.count("read", "secret/metadata/") > 8
    await agent.source.close()


@pytest.mark.parametrize("how", ["2026-11-21T10:00:00Z", "destroyed"])
@in_made_time
async def test_a_version_that_is_deleted_keeps_the_last_good_value_and_says_so_until_it_is_back(how: str) -> None:
    vault, seen = vault_with(), Observer()
    agent = Agent(vault)
    agent.source.watch(DB, seen)
    await asyncio.sleep(2)
    vault.deleted["secret/db", 1] = how
    await asyncio.sleep(6)
    assert seen.value == b"one"
    word = "destroyed" if how == "destroyed" else "deleted"
    assert len(seen.failures) == 1
    assert f"version 1 is {word}" in seen.failures[0]
    facts = agent.source.facts(DB)
    assert facts is not None
    assert facts.problem == seen.failures[0]
    with pytest.raises(Refused, match=word):
        await agent.source.fetch(DB)
    vault.deleted.clear()
    await asyncio.sleep(6)
    assert seen.heard[-1][1] == "version 1"
    assert vault.count("read", "secret/data/") == 1
    await agent.source.close()


@in_made_time
async def test_a_secret_deleted_whole_and_made_anew_is_another_version_1() -> None:
    vault, seen = vault_with(), Observer()
    agent = Agent(vault)
    agent.source.watch(DB, seen)
    await asyncio.sleep(2)
    vault.kv2["secret/db"] = [{"password": "anew"}]
    vault.created["secret/db", 1] = "2026-11-22T10:00:00Z"
    await asyncio.sleep(2)
    assert seen.value == b"anew"
    await agent.source.close()


@in_made_time
async def test_a_pinned_version_stays_and_its_destruction_is_told() -> None:
    vault, seen, ref = vault_with(), Observer(), ref_of("secret/data/db", version=1)
    agent = Agent(vault)
    agent.source.watch(ref, seen)
    await asyncio.sleep(2)
    vault.kv2["secret/db"].append({"password": "two"})
    await asyncio.sleep(3)
    assert seen.value == b"one"
    vault.deleted["secret/db", 1] = "destroyed"
    await asyncio.sleep(3)
    assert "version 1 is destroyed" in seen.failures[-1]
    facts = agent.source.facts(ref)
    assert facts is not None
    assert facts.how == "metadata every 1s, pinned to version 1"
    await agent.source.close()


@in_made_time
async def test_a_pin_to_a_version_that_never_was_names_the_newest() -> None:
    agent = Agent(vault_with())
    with pytest.raises(Refused, match=re.escape("version 7 is not there; pin a version that is kept, or none; the")):
        await agent.source.fetch(ref_of("secret/data/db", version=7))
    await agent.source.close()


@pytest.mark.parametrize("path", ["secret/db", "secret/metadata/db"])
@in_made_time
async def test_a_path_that_forgets_data_is_refused_with_the_right_one(path: str) -> None:
    agent = Agent(vault_with())
    with pytest.raises(Refused, match=re.escape("write `path: secret/data/db`")):
        await agent.source.fetch(ref_of(path))
    await agent.source.close()


@in_made_time
async def test_a_policy_without_metadata_is_read_by_value_and_says_so() -> None:
    vault, seen = vault_with(), Observer()
    vault.forbidden.add("secret/metadata/db")
    agent = Agent(vault)
    agent.source.watch(DB, seen)
    await asyncio.sleep(10)
    assert vault.count("read", "secret/metadata/") == 1
    assert len(seen.versions) == 1
    facts = agent.source.facts(DB)
    assert facts is not None
    assert facts.how == "value every 1s: the policy forbids secret/metadata/db"
    vault.kv2["secret/db"].append({"username": "app", "password": "two"})
    vault.forbidden.clear()
    await asyncio.sleep(70)
    assert seen.value == b"two"
    facts = agent.source.facts(DB)
    assert facts is not None
    assert facts.how == "metadata every 1s"
    await agent.source.close()


@in_made_time
async def test_kv_version_1_is_read_and_compared() -> None:
    vault, seen, ref = FakeVault(), Observer(), ref_of("old/db")
    vault.kv1["old/db"] = {"password": "one", "ttl": "3"}
    agent = Agent(vault)
    agent.source.watch(ref, seen)
    await asyncio.sleep(5)
    assert len(seen.versions) == 1
    assert re.fullmatch(r"content [0-9a-f]{8}", seen.versions[0].label)
    vault.kv1["old/db"] = {"password": "one", "ttl": "4"}
    await asyncio.sleep(2)
    assert seen.versions[-1].values["ttl"] == b"4"
    await agent.source.close()


@in_made_time
async def test_an_engine_that_counts_down_in_its_answers_has_not_rotated() -> None:
    vault, seen, ref = FakeVault(), Observer(), ref_of("database/static-creds/app")
    vault.static["database/static-creds/app"] = {"password": "one", "ttl": 100}
    agent = Agent(vault)
    agent.source.watch(ref, seen)
    for left in range(99, 90, -1):
        vault.static["database/static-creds/app"] = {"password": "one", "ttl": left}
        await asyncio.sleep(1)
    assert len(seen.versions) == 1
    vault.static["database/static-creds/app"] = {"password": "two", "ttl": 100}
    await asyncio.sleep(1.5)
    assert seen.value == b"two"
    assert not any(name.startswith("vault-lease:") for name in agent.safe.names())
    await agent.source.close()


@in_made_time
async def test_a_key_that_became_empty_keeps_the_whole_last_version_without_reading_it_again_and_again() -> None:
    vault, seen = vault_with(), Observer()
    agent = Agent(vault)
    agent.source.watch(DB, seen)
    await asyncio.sleep(2)
    vault.kv2["secret/db"].append({"username": "other", "password": ""})
    await asyncio.sleep(10)
    assert len(seen.versions) == 1
    assert "[password]: became empty" in seen.failures[-1]
    assert vault.count("read", "secret/data/") == 2
    vault.kv2["secret/db"].append({"username": "other", "password": "three"})
    await asyncio.sleep(6)
    assert seen.versions[-1].values == {"username": b"other", "password": b"three"}
    await agent.source.close()


@in_made_time
async def test_what_one_reader_may_no_longer_read_another_goes_on_reading() -> None:
    vault = vault_with()
    agent = Agent(vault)
    a, b = Observer(), Observer()
    ref_a, ref_b = ref_of("secret/data/db", account="a"), ref_of("secret/data/db", account="b")
    agent.source.watch(ref_a, a)
    agent.source.watch(ref_b, b)
    await asyncio.sleep(3)
    denied = VaultError(Kind.DENIED, "secret/data/db", "permission denied")
    ask = vault._ask

    async def ask_as(operation: str, identity: object, path: str) -> str:
        if "payments/b" in str(identity):
            raise denied
        return await ask(operation, identity, path)  # type: ignore[arg-type]

    vault._ask = ask_as  # type: ignore[method-assign]
    vault.kv2["secret/db"].append({"password": "two"})
    await asyncio.sleep(6)
    assert a.value == b"two"
    assert b.value == b"one"
    assert "permission denied" in b.failures[-1]
    assert not a.failures
    await agent.source.close()


@in_made_time
async def test_what_is_forbidden_is_asked_for_at_its_pace_and_found_soon_once_it_is_allowed() -> None:
    vault, seen = vault_with(), Observer()
    vault.forbidden |= {"secret/metadata/db", "secret/data/db"}
    agent = Agent(vault, pace=lambda ref: 60.0)
    agent.source.watch(DB, seen)
    await asyncio.sleep(60)
    assert len(seen.failures) == 1
    assert 10 <= vault.count("read", "secret/data/") <= 16
    vault.forbidden.clear()
    await asyncio.sleep(6)
    assert seen.value == b"one"
    await agent.source.close()


@in_made_time
async def test_an_observer_that_cancels_hears_no_more_and_the_last_one_ends_the_polls() -> None:
    vault, seen = vault_with(), Observer()
    agent = Agent(vault)
    cancel = agent.source.watch(DB, seen)
    await asyncio.sleep(3)
    cancel()
    cancel()
    before = len(vault.asked)
    vault.kv2["secret/db"].append({"password": "two"})
    await asyncio.sleep(30)
    assert seen.value == b"one"
    assert len(vault.asked) == before
    assert agent.source.facts(DB) is None
    assert [str(identity) for identity in vault.forgotten] == ["auth/kubernetes role payments as payments/app"]
    await agent.source.close()


@in_made_time
async def test_a_second_observer_is_told_how_things_stand() -> None:
    vault, first, second = vault_with(), Observer(), Observer()
    agent = Agent(vault)
    agent.source.watch(DB, first)
    await asyncio.sleep(3)
    vault.deleted["secret/db", 1] = "destroyed"
    await asyncio.sleep(3)
    agent.source.watch(DB, second)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [what for _, what in second.heard] == ["version 1", "failed"]
    await agent.source.close()


@in_made_time
async def test_a_reference_to_another_source_is_refused() -> None:
    from agent.model import SecretRef

    agent = Agent(vault_with())
    with pytest.raises(Refused, match="no reference to a secret in Vault"):
        await agent.source.fetch(SecretRef("file", "db"))
    await agent.source.close()


@in_made_time
async def test_metadata_that_cannot_be_had_for_any_reason_but_the_policy_are_not_replaced_by_reading_values() -> None:
    vault, seen = vault_with(), Observer()
    async with Agent(vault) as agent:
        agent.source.watch(DB, seen)
        await asyncio.sleep(3)
        del vault.kv2["secret/db"]
        vault.kv2["secret/another"] = [{}]
        await asyncio.sleep(20)
        assert vault.count("read", "secret/data/") == 1
        assert "nothing is there" in seen.failures[-1]
        facts = agent.source.facts(DB)
        assert facts is not None
        assert facts.how == "metadata every 1s"


@in_made_time
async def test_a_deleted_version_is_named_also_where_only_the_value_may_be_read() -> None:
    vault, seen = vault_with(), Observer()
    vault.forbidden.add("secret/metadata/db")
    async with Agent(vault) as agent:
        agent.source.watch(DB, seen)
        await asyncio.sleep(3)
        vault.deleted["secret/db", 1] = "2026-11-21T10:00:00Z"
        await asyncio.sleep(3)
        assert "version 1 is deleted" in seen.failures[-1]
        assert seen.value == b"one"
