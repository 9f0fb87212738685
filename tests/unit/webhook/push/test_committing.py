from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections import Counter

import pytest

from kernelsecret.names import NOTICES_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import FIELD_NOTICES, HEADER_NONCE, HEADER_TIME, PushedSecret
from tests.unit.apiclient.fake_server import SECRET
from tests.unit.apiclient.things import until
from tests.unit.webhook.push.scene import API, DB, NOW_NS, OTHER_KEY, Scene, body_of, gathered, pushing, refusal, signed
from webhook.push import committing
from webhook.push.committing import MOST_AT_ONCE, Key, in_turn


def writes(scene: Scene) -> list[str]:
    return [one.method for one in scene.fake.requests if one.method in ("PUT", "POST")]


async def test_the_first_push_makes_the_config_map_and_others_change_it() -> None:
    async with pushing() as scene:
        await scene.one.push()
        await scene.one.push(time=NOW_NS + 1)
        assert writes(scene) == ["POST", "PUT"]
        [notice] = scene.stored()["notices"]
        assert notice["told"] == {"ci": NOW_NS + 1}


async def test_what_others_keep_in_the_config_map_stays() -> None:
    async with pushing() as scene:
        await scene.fake.put(
            "configmaps",
            NOTICES_OBJECT,
            SYSTEM_NAMESPACE,
            data={"note": "of an admin"},
            metadata={"labels": {"team": "a"}},
        )
        assert (await scene.one.push()).status == 202
        kept = scene.fake.objects["configmaps", SYSTEM_NAMESPACE, NOTICES_OBJECT]
        assert kept["data"]["note"] == "of an admin"
        assert kept["metadata"]["labels"] == {"team": "a"}


async def test_a_board_that_somebody_damaged_begins_anew() -> None:
    async with pushing() as scene:
        data = {FIELD_NOTICES: "nonsense"}
        await scene.fake.put("configmaps", NOTICES_OBJECT, SYSTEM_NAMESPACE, data=data)
        assert (await scene.one.push()).status == 202
        assert scene.told() == [str(DB)]


async def test_a_replay_is_refused_by_every_replica() -> None:
    async with pushing(replicas=2) as scene:
        first, second = scene.replicas
        body = body_of(DB)
        headers = signed(body)
        assert (await first.send(body, headers)).status == 202
        there, here = await second.send(body, headers), await first.send(body, headers)
        assert (there.status, refusal(there)["field"]) == (409, HEADER_TIME)
        assert (here.status, refusal(here)["field"]) == (409, HEADER_NONCE)
        assert len(writes(scene)) == 1


async def test_a_push_that_goes_to_both_replicas_at_once_is_taken_by_one() -> None:
    async with pushing(replicas=2) as scene:
        for number in range(20):
            body = body_of(DB)
            headers = signed(body, time=NOW_NS + number)
            answers = await gathered(*(one.send(body, headers) for one in scene.replicas))
            assert sorted(one.status for one in answers) == [202, 409]


async def test_pushes_of_two_replicas_at_once_are_all_written() -> None:
    async with pushing(replicas=2) as scene:
        secrets = [PushedSecret("vault", f"secret/data/{number}") for number in range(40)]
        scene.named = frozenset(secrets)
        pushes = [scene.replicas[number % 2].push(secret) for number, secret in enumerate(secrets)]
        assert Counter(one.status for one in await gathered(*pushes)) == {202: 40}
        assert sorted(scene.told()) == sorted(map(str, secrets))


async def test_what_waits_goes_in_one_write() -> None:
    async with pushing() as scene:
        scene.named = frozenset(PushedSecret("vault", str(number)) for number in range(100))
        answers = await gathered(*(scene.one.push(secret) for secret in scene.named))
        assert {one.status for one in answers} == {202}
        assert len(scene.told()) == 100
        assert len(writes(scene)) < 20


async def test_of_many_pushes_of_one_secret_the_first_is_written_at_once_and_the_last_is_never_lost() -> None:
    async with pushing(every_s=0.1) as scene:
        began = time.monotonic()
        await scene.one.push()
        first_s = time.monotonic() - began
        pushes = [scene.one.push(time=NOW_NS + 1 + number) for number in range(300)]
        # As they come over several connections: out of order.
        answers = await gathered(*pushes[1::2], *pushes[::2])
        took_s = time.monotonic() - began
        assert {one.status for one in answers} == {202}
        [notice] = scene.stored()["notices"]
        assert notice["told"] == {"ci": NOW_NS + 300}
        assert first_s < 0.1 <= took_s
        assert len(writes(scene)) <= 2 + took_s / 0.1


async def test_another_secret_does_not_wait_for_one_that_is_pushed_all_the_time() -> None:
    async with pushing(every_s=3600.0) as scene:
        assert (await scene.one.push(DB)).status == 202
        waits = asyncio.create_task(scene.one.push(DB, time=NOW_NS + 1))
        assert (await scene.one.push(API)).status == 202
        assert not waits.done()
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        await until(lambda: scene.one.committer.waiting == 0)


async def test_a_push_with_more_secrets_than_one_write_takes_loses_none() -> None:
    async with pushing() as scene:
        scene.named = frozenset(PushedSecret("vault", f"{number:04}") for number in range(MOST_AT_ONCE + 100))
        secrets = sorted(scene.named)
        parts = [secrets[start : start + 50] for start in range(0, len(secrets), 50)]
        answers = await gathered(*(scene.one.push(*part) for part in parts))
        assert {one.status for one in answers} == {202}
        assert sorted(scene.told()) == [str(one) for one in secrets]


async def test_too_many_that_wait_are_a_429_and_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "MOST_WAITING", 8)
    async with pushing(every_s=3600.0) as scene:
        await scene.one.push()
        waiting = [asyncio.create_task(scene.one.push(time=NOW_NS + 1 + number)) for number in range(8)]
        await until(lambda: scene.one.committer.waiting == 8)
        said = await scene.one.push(API)
        assert (said.status, said.headers[b"retry-after"]) == (429, b"1")
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await scene.one.push(API, time=NOW_NS + 1)).status == 202


async def test_a_sender_whose_pushes_fill_its_share_leaves_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "MOST_WAITING_OF_ONE", 4)
    async with pushing(every_s=3600.0) as scene:
        await scene.one.push()
        waiting = [asyncio.create_task(scene.one.push(time=NOW_NS + 1 + number)) for number in range(4)]
        await until(lambda: scene.one.committer.waiting == 4)
        assert (await scene.one.push(API)).status == 429
        assert (await scene.one.push(API, sender="vault", key=OTHER_KEY)).status == 202
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def test_senders_are_written_in_turn_however_much_one_of_them_pushes() -> None:
    keys = [Key("ci", (PushedSecret("vault", f"{number}"),)) for number in range(100)]
    other = Key("vault", (DB,))
    assert in_turn([*keys, other])[:3] == [keys[0], other, keys[1]]


async def test_an_api_server_that_is_away_is_a_503_and_the_next_push_is_written() -> None:
    async with pushing() as scene:
        await scene.one.push()
        scene.fake.token = "another"
        said = await scene.one.push(time=NOW_NS + 1)
        assert (said.status, refusal(said)["code"]) == (503, "UNAVAILABLE")
        assert said.headers[b"retry-after"] == b"1"
        assert SECRET not in str(said)
        scene.fake.token = ""
        assert (await scene.one.push(time=NOW_NS + 2)).status == 202
        assert scene.one.writes["failed"] == 1


async def test_a_config_map_that_is_deleted_is_made_again() -> None:
    async with pushing() as scene:
        await scene.one.push()
        await scene.fake.remove("configmaps", NOTICES_OBJECT, SYSTEM_NAMESPACE)
        assert (await scene.one.push(time=NOW_NS + 1)).status == 202
        assert scene.told() == [str(DB)]
        assert scene.one.writes["conflict"] == 1


async def test_spam_is_flat_in_memory() -> None:
    async with pushing(sender=(10**6, 1.0)) as scene:

        async def spam(rounds: int) -> None:
            for number in range(rounds):
                scene.now_ns += 1000
                body = body_of(DB)
                await scene.one.send(body, signed(body, time=scene.now_ns, signature="0" * 64))
                await scene.one.push(sender=f"stranger-{number}")
                if number % 20 == 0:
                    assert (await scene.one.push(sender="vault", key=OTHER_KEY, time=scene.now_ns)).status == 202
            scene.fake.requests.clear()
            scene.fake.history.clear()
            scene.one.records.clear()
            gc.collect()

        await spam(200)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await spam(400)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 100_000
        assert len(scene.stored()["notices"]) == 1
