from __future__ import annotations

import time

import pytest

from certs.authority import create_authority
from certs.leaf import load_leaf, node_csr
from kernelsecret.errors import Code, Refused
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.webhook.keeping.cluster import DAY, MUTATING, SECRET, TRUST, VALIDATING, Gated, cluster


async def test_a_leader_makes_publishes_and_loads_keys() -> None:
    async with cluster() as world:
        keeper = await world.led()
        state = keeper.current()
        assert world.bundles() == {state.authority.certificate_pem}
        assert world.registration_keys() == [state.signing_key.public]
        assert keeper.signing_key() == state.signing_key
        assert keeper.problems() == []
        assert await keeper.wait_ready(1)


async def test_a_replica_that_does_not_lead_loads_what_the_leader_made_and_writes_nothing() -> None:
    async with cluster() as world:
        follower = await world.keeper()
        await until(lambda: follower.problems() != [])
        assert not follower.is_ready
        assert not await follower.wait_ready(0.001)
        assert world.writes(SECRET) == 0
        leader = await world.led()
        await until(lambda: world.is_at_rest(follower))
        assert follower.current() == leader.current()
        assert follower.problems() == []


async def test_before_there_are_keys_everything_is_refused_with_the_reason() -> None:
    async with cluster() as world:
        keeper = await world.keeper()
        for ask in (
            keeper.current,
            keeper.signing_key,
            keeper.server_context,
            keeper.node_context,
            keeper.client_context,
            lambda: keeper.certify("", "node-1"),
        ):
            with pytest.raises(Refused, match=r"^Secret kernelsecret-webhook-keys: there are no keys yet; ") as refused:
                ask()
            assert refused.value.code is Code.UNAVAILABLE


async def test_a_node_gets_its_certificate_from_the_current_authority() -> None:
    async with cluster() as world:
        keeper = await world.led()
        key, request = node_csr("node-1")
        leaf = load_leaf(keeper.certify(request, "node-1"), key)
        assert leaf.hosts == ("node-1.nodes.kernelsecret.io",)
        assert leaf.not_after - world.now <= DAY
        with pytest.raises(Refused, match=r"^csr: "):
            keeper.certify(request, "node-2")


async def test_listeners_are_told_at_once_and_at_every_change_even_when_one_of_them_fails(log_lines: LogLines) -> None:
    async with cluster() as world:
        keeper = await world.keeper()
        told: list[str] = []

        def fails() -> None:
            told.append("fails")
            raise RuntimeError("canary")

        keeper.on_change(fails)
        keeper.on_change(lambda: told.append("first"))
        await world.led()
        await until(lambda: world.is_at_rest(keeper))
        assert told[:2] == ["fails", "first"]
        keeper.on_change(lambda: told.append("late"))
        assert told[-1] == "late"
    assert "change could not be handled" in log_lines.text
    assert "canary" not in log_lines.text


@pytest.mark.parametrize(
    "damage",
    [
        {"state.json": "e30="},
        {"state.json": "eyJ2ZXJzaW9uIjoyfQ=="},
        {"tls.key": "AAAA"},
    ],
)
async def test_damaged_keys_are_not_replaced_and_the_last_good_ones_serve_on(
    damage: dict[str, str], log_lines: LogLines
) -> None:
    async with cluster() as world:
        keeper = await world.led()
        good, before = keeper.current(), keeper.server_context()
        secret = world.fake.objects[SECRET]
        damaged = await world.fake.put(*_named(SECRET), **(secret | {"data": damage}))
        await until(lambda: keeper.problems() != [])
        await until(lambda: "keys cannot be kept" in log_lines.text)
        assert world.fake.objects[SECRET] == damaged
        assert keeper.current() == good
        assert keeper.server_context() is before
        assert keeper.is_ready
        assert keeper.problems()[0].field == "Secret kernelsecret-webhook-keys"
        assert "keys cannot be used" in log_lines.text
        await world.fake.put(*_named(SECRET), **secret)
        await until(lambda: keeper.problems() == [])


async def test_a_new_replica_with_damaged_keys_only_is_not_ready_and_says_why() -> None:
    async with cluster() as world:
        await world.fake.put(*_named(SECRET), data={"state.json": "e30="})
        keeper = await world.leader()
        await until(lambda: len(keeper.problems()) == 2)
        assert not keeper.is_ready
        assert {one.code for one in keeper.problems()} == {Code.FAILED_PRECONDITION}
        assert world.writes(SECRET) == 1


async def test_keys_that_were_deleted_are_made_anew() -> None:
    async with cluster() as world:
        keeper = await world.led()
        old = keeper.current()
        await world.fake.remove(*_named(SECRET))
        await until(lambda: world.is_at_rest(keeper) and keeper.current().authority != old.authority)
        await until(lambda: world.bundles() == {keeper.current().authority.certificate_pem})
        assert keeper.problems() == []


async def test_an_empty_secret_that_was_installed_is_filled_and_keeps_its_labels() -> None:
    async with cluster() as world:
        await world.fake.put(*_named(SECRET), type="Opaque", metadata={"labels": {"part-of": "kernelsecret"}})
        await world.led()
        assert world.fake.objects[SECRET]["metadata"]["labels"] == {"part-of": "kernelsecret"}


async def test_a_certificate_that_has_expired_is_not_ready() -> None:
    async with cluster() as world:
        await world.led()
        follower = await world.keeper()
        await until(lambda: follower.is_ready)
        world.now += 31 * DAY
        assert not follower.is_ready
        assert [one.field for one in follower.problems()] == ["certificate"]


async def test_what_others_wrote_into_published_trust_is_repaired() -> None:
    async with cluster() as world:
        keeper = await world.led()
        right = {keeper.current().authority.certificate_pem}
        forged = create_authority(world.now, DAY).certificate_pem
        trust = world.fake.objects[TRUST]
        await world.fake.put(*_named(TRUST), **(trust | {"data": {"ca.crt": forged, "registration-keys.json": "[]"}}))
        await until(lambda: world.bundles() == right and world.registration_keys() == [keeper.signing_key().public])
        for which in (MUTATING, VALIDATING):
            await until(lambda: world.is_at_rest(keeper))
            edited = {
                **world.fake.objects[which],
                "webhooks": [{"name": "pods.kernelsecret.io", "clientConfig": {"caBundle": "AAAA"}}, {"name": "more"}],
            }
            await world.fake.put(*_named(which), **edited)
            await until(lambda: world.bundles() == right)
        await until(lambda: world.is_at_rest(keeper))
        await world.fake.remove(*_named(TRUST))
        await until(lambda: TRUST in world.fake.objects)
        assert world.bundles() == right


async def test_the_rest_of_a_configuration_is_left_as_it_is() -> None:
    async with cluster() as world:
        await world.led()
        found = world.fake.objects[MUTATING]
        assert found["apiVersion"] == "admissionregistration.k8s.io/v1"
        assert [webhook["name"] for webhook in found["webhooks"]] == [
            "pods.kernelsecret.io",
            "interceptors.kernelsecret.io",
        ]
        assert all(webhook["timeoutSeconds"] == 5 for webhook in found["webhooks"])
        assert all("service" in webhook["clientConfig"] for webhook in found["webhooks"])


async def test_at_rest_nothing_is_written() -> None:
    async with cluster() as world:
        keeper = await world.led()
        before = world.fake.version
        world.now += DAY
        await world.fake.put("configmaps", "other", "kernelsecret-system")  # news, so the leader looks
        asked = len(world.fake.requests)
        await until(lambda: len(world.fake.requests) >= asked + 4)
        await until(lambda: keeper.problems() == [])
        assert world.fake.version == before + 1


async def test_configurations_that_are_not_there_are_awaited_and_not_made() -> None:
    async with cluster() as world:
        keeper = await world.leader()
        await until(lambda: keeper.is_ready and TRUST in world.fake.objects)
        assert MUTATING not in world.fake.objects
        assert keeper.current().authorities[0].published_at is None
        await world.configurations("pods.kernelsecret.io")
        await until(lambda: world.is_at_rest(keeper))
        assert world.bundles() == {keeper.current().authority.certificate_pem}


async def test_somebody_who_insists_on_another_bundle_does_not_make_the_leader_run_hot() -> None:
    async with cluster() as world:
        keeper = await world.led()
        began, written = time.monotonic(), world.fake.version
        rounds = 4
        for _ in range(rounds):
            edited = {**world.fake.objects[MUTATING], "webhooks": [{"name": "x", "clientConfig": {"caBundle": "AAAA"}}]}
            await world.fake.put(*_named(MUTATING), **edited)
            await until(lambda: world.bundles() == {keeper.current().authority.certificate_pem})
        assert world.fake.version == written + 2 * rounds
        # Each wait is at least half of 20, 40 and 80 ms.
        assert time.monotonic() - began >= 0.07


async def test_a_leader_that_may_not_write_says_so_once_and_goes_on(log_lines: LogLines) -> None:
    fake = Gated()
    async with cluster(fake) as world:
        fake.is_read_only = True
        await world.configurations("pods.kernelsecret.io")
        keeper = await world.leader()
        await until(lambda: "keys cannot be kept" in log_lines.text)
        asked = len(fake.requests)
        await until(lambda: len(fake.requests) >= asked + 3)
        assert keeper.problems()[0].code is Code.PERMISSION_DENIED
        assert log_lines.text.count("keys cannot be kept") == 1
        fake.is_read_only = False
        await until(lambda: world.is_at_rest(keeper))
        assert keeper.problems() == []


async def test_no_key_is_in_the_log_in_errors_or_in_what_is_shown(log_lines: LogLines) -> None:
    async with cluster() as world:
        keeper = await world.led()
        state = keeper.current()
        await world.fake.put(
            *_named(SECRET), data={"state.json": world.fake.objects[SECRET]["data"]["state.json"][:-8]}
        )
        await until(lambda: keeper.problems() != [])
        shown = log_lines.text + repr(keeper) + repr(vars(keeper)) + repr(keeper.problems())
        published = str([world.fake.objects[key] for key in (TRUST, MUTATING, VALIDATING)])
        secrets = [
            *(line for kept in state.authorities for line in kept.item.key_pem.splitlines()[1:-1]),
            *state.leaf.key_pem.splitlines()[1:-1],
            *(repr(kept.item.private_key)[2:-1] for kept in state.signing_keys),
            world.fake.objects[SECRET]["data"]["state.json"][:64],
        ]
        for secret in secrets:
            assert secret not in shown
            assert secret not in published
    assert log_lines.dropped == 0


def _named(key: tuple[str, str, str]) -> tuple[str, str, str]:
    """As `FakeApiServer.put` and `remove` want it: resource, name, namespace."""
    return key[0], key[2], key[1]
