"""What Vault does not answer for keeps no other secret waiting, and makes no credentials without end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest

from agent.sources.vault.answers import Answer
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lanes import LATE, POLLS
from agent.vault_ref import Identity
from kernelsecret.errors import Refused
from tests.unit.sources.vault_source.fake_vault import FakeVault, Role
from tests.unit.sources.vault_source.simulated import Agent, Observer, in_made_time, now, ref_of

HANGS_S = 10.0


class Hanging(FakeVault):
    """Whatever is below `slow/` is given up after ten seconds."""

    hangs = True

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = {},
        query: Mapping[str, str] = {},
        once: bool = False,
    ) -> Answer:
        if self.hangs and path.startswith("slow/"):
            self.asked.append(("read", path))
            await asyncio.sleep(HANGS_S)
            raise VaultError(Kind.TIMEOUT, path, "no answer within its time")
        return await super().read(identity, path, parameters=parameters, query=query, once=once)


@in_made_time
async def test_databases_that_hang_keep_no_other_secret_waiting() -> None:
    vault, many = Hanging(), 2 * POLLS
    vault.kv2["secret/db"] = [{"password": "one"}]
    for number in range(many):
        vault.static[f"slow/{number}"] = {"password": "good"}
    agent, other, slow = Agent(vault), Observer(), [Observer() for _ in range(many)]
    for number, observer in enumerate(slow):
        agent.source.watch(ref_of(f"slow/{number}"), observer)
    agent.source.watch(ref_of("secret/data/db"), other)
    await asyncio.sleep(3 * HANGS_S)  # each has been met once
    vault.asked.clear()
    for number in range(10):
        vault.kv2["secret/db"].append({"password": f"{number}"})
        await asyncio.sleep(1.5)
        assert other.value == str(number).encode()
    hung = vault.count("read", "slow/")
    assert LATE <= hung <= LATE * 3
    # They are all found well once they answer.
    vault.hangs = False
    await asyncio.sleep(2 * HANGS_S)
    assert all(observer.value == b"good" for observer in slow)
    await agent.source.close()


@pytest.mark.parametrize("asking", ["nobody", "push", "publish"])
@in_made_time
async def test_credentials_whose_answer_is_lost_again_and_again_are_asked_for_seldom_whoever_asks(asking: str) -> None:
    vault, seen = FakeVault(), Observer()
    vault.roles["database/creds/app"], vault.cut = Role(), True
    agent, ref = Agent(vault), ref_of("database/creds/app")
    agent.source.watch(ref, seen)
    ends = now() + 300
    while now() < ends:
        if asking == "push":
            agent.source.nudge("database/creds/app")
        elif asking == "publish":
            with suppress(Refused):
                await agent.source.fetch(ref)
        await asyncio.sleep(0.1)
    assert 30 < len(vault.made) < 70
    vault.cut = False
    await asyncio.sleep(6)
    assert seen.value is not None
    await agent.source.close()


@in_made_time
async def test_a_lost_answer_to_a_question_for_newer_credentials_leaves_time_for_others_before_the_old_die() -> None:
    vault = FakeVault()
    vault.roles["database/creds/app"] = Role(ttl=60, max_ttl=60)
    agent, ref = Agent(vault), ref_of("database/creds/app")
    agent.source.watch(ref, Observer())
    await asyncio.sleep(1)
    vault.cut = True
    await asyncio.sleep(45)
    assert len(vault.made) > 2
    vault.cut = False
    await asyncio.sleep(13)
    version = await agent.source.fetch(ref)
    assert version.label
    assert any(made.delivered for made in vault.live()[1:])
    await agent.source.close()
