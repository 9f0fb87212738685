from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from apiclient.client import ApiClient
from tests.unit.apiclient.fake_server import FakeApiServer
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.webhook.cluster.scene import known, put_interceptor, put_namespace, put_node, watched
from webhook.cluster import refresh
from webhook.cluster.refresh import Refresher
from webhook.cluster.view import ClusterView
from webhook.policy.steps import Doubt


def refresher(view: ClusterView, client: ApiClient, **more: Any) -> tuple[Refresher, Counter[str]]:
    results: Counter[str] = Counter()

    def count(result: str) -> None:
        results[result] += 1

    return Refresher(client, view, on_read=count, **more), results


def reads(fake: FakeApiServer) -> list[str]:
    return [request.path for request in fake.requests if "watch" not in request.query and "limit" not in request.query]


async def test_what_the_watch_has_not_brought_is_read() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        await put_namespace(fake, team="a")
        await put_interceptor(fake)
        await put_node(fake)
        look, results = refresher(view, client)
        assert await look.look(namespace="payments", interceptors=["payments-db"], node="node-1")
        assert view.namespace_labels("payments") == {"team": "a"}
        assert known(view) is not None
        assert view.nodes.get("node-1") is not None
        assert results == {"read": 3}


async def test_all_interceptors_can_be_read_at_once() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        for name in ("a", "b"):
            await put_interceptor(fake, name)
        look, _ = refresher(view, client)
        assert await look.look(interceptors=["*"])
        assert known(view, "a")
        assert known(view, "b")


async def test_what_was_read_is_not_undone_by_what_the_watch_brings_later() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        for team in ("a", "b", "c"):
            await put_namespace(fake, team=team)
        look, _ = refresher(view, client)
        await look.look(namespace="payments")
        seen: list[Any] = []
        view.on_change = lambda: seen.append(view.namespace_labels("payments"))
        running = asyncio.create_task(view.run())
        await until(lambda: view.namespace_reflector.resource_version == str(fake.version))
        assert view.namespace_labels("payments") == {"team": "c"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_older_answer_does_not_replace_what_the_watch_has_brought() -> None:
    fake = FakeApiServer()
    await put_namespace(fake, team="a")
    async with watched(fake) as (view, _):
        old = {"metadata": {"name": "payments", "labels": {"team": "a"}, "resourceVersion": str(fake.version)}}
        await put_namespace(fake, team="b")
        await until(lambda: view.namespace_labels("payments") == {"team": "b"})
        view.namespace_reflector.absorb(json.dumps(old).encode())
        assert view.namespace_labels("payments") == {"team": "b"}


async def test_who_asks_for_the_same_at_the_same_time_shares_one_read() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        await put_namespace(fake)
        look, results = refresher(view, client)
        assert all(await asyncio.gather(*[look.look(namespace="payments") for _ in range(50)]))
        assert results == {"read": 1}


async def test_one_who_goes_away_does_not_take_the_read_from_the_others() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        await put_namespace(fake)
        fake.answer_delay = asyncio.Event()
        look, _ = refresher(view, client)
        first, second = (asyncio.create_task(look.look(namespace="payments")) for _ in range(2))
        await until(lambda: len(reads(fake)) == 1)
        first.cancel()
        fake.answer_delay.set()
        assert await second


async def test_what_was_read_just_now_is_not_read_again_and_later_it_is() -> None:
    fake = FakeApiServer()
    now = 100.0
    async with watched(fake, watching=False) as (view, client):
        view.namespace_reflector._watching = True
        await put_namespace(fake)
        look, results = refresher(view, client, clock=lambda: now)
        assert await look.look(namespace="payments")
        assert await look.look(namespace="payments")
        assert results == {"read": 1}
        now += refresh.FRESH_S
        assert await look.look(namespace="payments")
        assert results == {"read": 2}


async def test_while_the_watch_is_broken_what_was_read_just_now_is_read_again() -> None:
    """Nothing else would bring the label that was set between a refusal and the next attempt."""
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        view.namespace_reflector._watching = False
        look, results = refresher(view, client, clock=lambda: 100.0)
        await put_namespace(fake)
        for _ in range(2):
            assert await look.look(namespace="payments")
        assert results == {"read": 2}


@pytest.mark.parametrize("name", ["missing", "Not A Name", "../secrets", "x" * 300, "\u202e"])
async def test_what_is_not_there_is_known_not_to_be(name: str) -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        look, results = refresher(view, client)
        assert await look.look(namespace=name, interceptors=[name])
        assert results == {"read": 2}
        assert all(path.endswith("/missing") for path in reads(fake))


async def test_the_rate_is_bounded_whoever_asks() -> None:
    fake = FakeApiServer()
    now = 100.0
    async with watched(fake, watching=False) as (view, client):
        look, results = refresher(view, client, clock=lambda: now)
        looks = [await look.look(namespace=f"n-{number}") for number in range(50)]
        assert looks.count(False) == 10
        assert results == {"read": 40, "limited": 10}
        now += 0.5
        assert await look.look(namespace="n-later")


async def test_a_slow_api_server_is_not_waited_for(log_lines: LogLines) -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        fake.answer_delay = asyncio.Event()
        look, results = refresher(view, client, within_s=0.05)
        assert not await look.look(namespace="payments")
        assert results == {"failed": 1}
        assert log_lines.lines[-1]["event"] == "object could not be read again"
        fake.answer_delay.set()


async def test_an_answer_that_is_no_object_is_no_knowledge() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        await put_namespace(fake)
        fake.objects["namespaces", "", "payments"]["metadata"]["resourceVersion"] = "x"
        look, _ = refresher(view, client)
        assert not await look.look(namespace="payments")
        assert view.namespace_labels("payments") is None


async def test_of_all_nodes_the_watch_must_be_current() -> None:
    fake = FakeApiServer()
    async with watched(fake) as (view, client):
        look, results = refresher(view, client)
        assert await look.look(node="*")
        view.node_reflector._clock = lambda: 1e12
        view.node_reflector._watching = False
        assert not await look.look(node="*")
        assert results == {}


async def test_a_refusal_that_cannot_be_made_sure_of_is_to_say_how_old_the_view_is() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        look, _ = refresher(view, client, clock=lambda: 0.0)
        assert await look.second_look(Doubt("payments", "payments-db")) == ""
        look._left = 0.0
        assert "is 0 s old" in await look.second_look(Doubt("other"))
        view.node_reflector._heard_at -= 42
        assert "is 42 s old" in await look.second_look(Doubt("other"))
        view.node_reflector._synced.clear()
        assert "is not complete yet" in await look.second_look(Doubt("other"))


async def test_a_refusal_for_an_interceptor_that_cannot_work_is_to_say_why_it_cannot() -> None:
    fake = FakeApiServer()
    async with watched(fake, watching=False) as (view, client):
        await put_interceptor(fake, secrets=[])
        look, _ = refresher(view, client)
        note = await look.second_look(Doubt("payments", "payments-db"))
        assert note.startswith("the interceptor 'payments-db' is there, but it cannot work: spec.secrets: empty")
