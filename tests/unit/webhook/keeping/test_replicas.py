"""Several replicas and one Secret: never two authorities, and nobody overwrites what he has not read."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from apiclient.errors import ApiError
from certs.keys import Stage
from tests.unit.apiclient.fake_server import Object
from tests.unit.apiclient.things import until
from tests.unit.webhook.keeping.cluster import (
    DAY,
    MUTATING,
    POLICY,
    SECRET,
    TRUST,
    Cluster,
    Gated,
    bundles_in,
    cluster,
    keys_in,
    settled,
    state_in,
)


def states(world: Cluster) -> list[Object]:
    """Every Secret that there ever was, in order."""
    return [thing for _, kind, key, thing in world.fake.history if key == SECRET and kind != "DELETED"]


@pytest.mark.parametrize("replicas", [2, 5])
async def test_replicas_that_all_take_themselves_for_the_leader_make_one_authority(replicas: int) -> None:
    async with cluster(Gated(read_together=replicas)) as world:
        await world.configurations("pods.kernelsecret.io")
        keepers = await asyncio.gather(*(world.leader() for _ in range(replicas)))
        await until(lambda: all(world.is_at_rest(keeper) for keeper in keepers))
        assert {state_in(secret).authority.certificate_pem for secret in states(world)} == world.bundles()
        assert {state_in(secret).signing_key.id for secret in states(world)} == {
            key.id for key in world.registration_keys()
        }
        assert all(keeper.problems() == [] for keeper in keepers)


async def test_replicas_that_all_rotate_make_one_next_authority() -> None:
    async with cluster(Gated()) as world:
        await world.configurations("pods.kernelsecret.io")
        keepers = [await world.leader() for _ in range(3)]
        await until(lambda: all(world.is_at_rest(keeper) for keeper in keepers))
        world.now += POLICY.authority_lifetime / 2
        await _look(world)
        await until(lambda: len(world.kept().authorities) == 2)
        await until(lambda: all(world.is_at_rest(keeper) for keeper in keepers))
        following = {
            kept.item.certificate_pem
            for secret in states(world)
            for kept in state_in(secret).authorities
            if kept.stage is Stage.NEXT
        }
        assert len(following) == 1


async def test_a_leader_whose_term_has_passed_changes_nothing() -> None:
    async with cluster(Gated(read_together=2)) as world:
        await world.fake.put("secrets", SECRET[2], SECRET[1], type="Opaque")
        late, early = await world.term(), await world.term()
        outcomes = await asyncio.gather(late.round(), early.round(), return_exceptions=True)
        assert [one for one in outcomes if one is True] == [True]
        [refused] = [one for one in outcomes if isinstance(one, ApiError)]
        assert refused.status == 409
        assert world.writes(SECRET) == 2  # the empty one, and one with keys


async def test_at_every_moment_what_is_in_use_was_published_before() -> None:
    async with cluster() as world:
        await world.configurations("pods.kernelsecret.io")
        term = await world.term()
        await settled(term)
        first, seen = world.kept(), []
        for days in [1] * 33 + [29] * 5 + [1] * 8:
            world.now += days * DAY
            await settled(term)
            trust = world.kept().trust(world.now)
            assert world.bundles() == {trust.authorities}
            assert world.registration_keys() == list(trust.registration_keys)
            seen.append((days, world.kept(), trust))
        assert world.kept().authority != first.authority
        assert world.kept().signing_key != first.signing_key

        had: dict[tuple[str, str, str], Object] = {}
        for _, _, key, thing in world.fake.history:
            had[key] = thing
            if key == SECRET and TRUST in had:
                # Both had it when the Secret began to say that it is in use.
                assert state_in(thing).authority.certificate_pem in had[TRUST]["data"]["ca.crt"]
                assert state_in(thing).authority.certificate_pem in bundles_in(had[MUTATING])[0]
                assert state_in(thing).signing_key.public in keys_in(had[TRUST])
        for (_, _, read), (days, state, _) in pairwise(seen):
            if days == 1:
                # Whoever read a day ago, which is the overlap, believes what is in use now.
                assert state.authority.certificate_pem in read.authorities
                assert state.signing_key.public in read.registration_keys


async def test_nothing_new_is_used_while_a_configuration_is_away() -> None:
    async with cluster() as world:
        await world.configurations("pods.kernelsecret.io")
        term = await world.term()
        await settled(term)
        before = world.kept()
        await world.fake.remove(MUTATING[0], MUTATING[2])
        for wait in (POLICY.signing_lifetime / 2, POLICY.overlap, POLICY.overlap):
            world.now += wait
            await settled(term)
        assert len(world.registration_keys()) == 2
        assert world.kept().signing_key == before.signing_key
        assert world.kept().signing_keys[1].published_at is None
        await world.configurations("pods.kernelsecret.io")
        await settled(term)
        assert world.kept().signing_key == before.signing_key
        world.now += POLICY.overlap
        await settled(term)
        assert world.kept().signing_key != before.signing_key


async def test_a_new_leader_goes_on_where_the_last_one_stopped() -> None:
    async with cluster() as world:
        await world.configurations("pods.kernelsecret.io")
        await settled(await world.term())
        old = world.kept().authority
        world.now += POLICY.authority_lifetime / 2
        await settled(await world.term())
        following = world.kept().authorities[1].item
        world.now += POLICY.overlap
        await settled(await world.term())
        assert world.kept().authority == following
        assert [kept.item for kept in world.kept().authorities] == [following, old]


async def _look(world: Cluster) -> None:
    """Let leaders look again, as they do each minute: any change of what they watch is news to them."""
    await world.fake.put(TRUST[0], TRUST[2], TRUST[1], **world.fake.objects[TRUST])


async def test_the_end_of_a_term_is_heard_even_when_news_come_with_it() -> None:
    async with cluster() as world:
        keeper = await world.keeper()
        await world.configurations("pods.kernelsecret.io")
        for _ in range(3):
            term = asyncio.ensure_future(keeper.lead())
            await until(lambda: keeper._leading is not None and world.is_at_rest(keeper))
            keeper._news.set()
            await asyncio.sleep(0)  # the news has arrived, and its reader has not gone on yet
            term.cancel()
            async with asyncio.timeout(5):
                await asyncio.wait({term})
            assert term.cancelled()
