from __future__ import annotations

import asyncio

import pytest

from apiclient import objects, paths
from apiclient.backoff import Backoff
from apiclient.client import ApiClient
from tests.unit.apiclient.fake_server import FakeApiServer, Fault
from tests.unit.apiclient.things import Thing, colors, held, until, watching
from tests.unit.conftest import LogLines


async def test_what_is_there_is_listed_and_what_changes_is_followed_in_order() -> None:
    fake = FakeApiServer()
    await fake.put("nodes", "a", color="red")
    async with watching(fake) as (reflector, seen):
        assert not reflector.synced
        assert await reflector.wait_synced(5)
        assert held(reflector) == {"a": "red"}
        await fake.put("nodes", "b", color="blue")
        await fake.put("nodes", "a", color="green")
        await fake.remove("nodes", "b")
        await until(lambda: held(reflector) == {"a": "green"})
        assert reflector.is_current
    changes = [(key, old and old.color, new and new.color) for key, old, new in seen.told]
    assert changes == [("a", None, "red"), ("b", None, "blue"), ("a", "red", "green"), ("b", "blue", None)]


async def test_a_large_collection_comes_in_pages_of_one_moment() -> None:
    fake = FakeApiServer()
    for number in range(25):
        await fake.put("nodes", f"n{number}")
    async with watching(fake, page=10) as (reflector, _):
        assert await reflector.wait_synced(5)
        assert held(reflector) == colors(fake)
    assert [request.query.get("limit") for request in fake.requests[:3]] == ["10"] * 3


async def test_pages_that_are_too_large_are_asked_for_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = ApiClient.get.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "max_bytes", 700)
    fake = FakeApiServer()
    for number in range(9):
        await fake.put("nodes", f"n{number}", color="c" * 100)
    async with watching(fake, page=8) as (reflector, _):
        assert await reflector.wait_synced(5)
        assert held(reflector) == colors(fake)
    assert {request.query.get("limit") for request in fake.requests} >= {"8", "4", "2"}


async def test_nothing_is_told_where_nothing_that_is_kept_has_changed() -> None:
    fake = FakeApiServer()
    await fake.put("nodes", "a", color="red")
    async with watching(fake) as (reflector, seen):
        await reflector.wait_synced(5)
        await fake.put("nodes", "a", color="red", heartbeat=1)
        await fake.put("nodes", "b")
        await until(lambda: "b" in reflector.items)
    assert [key for key, _, _ in seen.told] == ["a", "b"]


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SILENCE])
async def test_a_watch_goes_on_after(fault: Fault, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines) -> None:
    monkeypatch.setattr(objects.Lines.__init__, "__defaults__", (1024,))
    fake = FakeApiServer()
    await fake.put("nodes", "a", color="red")
    fake.on_watch.append(fault)
    async with watching(fake) as (reflector, seen):
        await reflector.wait_synced(5)
        await fake.put("nodes", "b", color="blue")
        await fake.remove("nodes", "a")
        await fake.put("nodes", "c", color="green")
        await until(lambda: held(reflector) == {"b": "blue", "c": "green"})
        assert seen.items == dict(reflector.items)
    assert "canary" not in log_lines.text


@pytest.mark.parametrize("fault", [Fault.GONE, Fault.GONE_IN_STREAM, Fault.ERROR_IN_STREAM])
async def test_what_was_deleted_while_the_watch_was_too_old_is_found_by_a_new_list(fault: Fault) -> None:
    fake = FakeApiServer()
    for name in "abc":
        await fake.put("nodes", name, color="red")
    async with watching(fake) as (reflector, seen):
        await reflector.wait_synced(5)
        await until(lambda: fake.watches == 1)
        fake.on_watch.append(fault)
        await fake.cut_watches()
        await fake.remove("nodes", "a")
        await fake.put("nodes", "b", color="blue")
        await fake.compact()
        await until(lambda: held(reflector) == {"b": "blue", "c": "red"})
        await until(lambda: reflector.relists == 2)
        assert seen.items == dict(reflector.items)
    assert [key for key, _, _ in seen.told[3:]] == ["a", "b"]


async def test_a_watch_that_only_broke_goes_on_where_it_was_without_a_new_list() -> None:
    fake = FakeApiServer()
    async with watching(fake) as (reflector, _):
        await reflector.wait_synced(5)
        for name in "abcdefgh":
            await until(lambda: fake.watches == 1)
            await fake.cut_watches()
            await fake.put("nodes", name)
            await until(lambda name=name: name in reflector.items)  # type: ignore[misc]
    assert reflector.relists == 1


async def test_a_watch_that_cannot_go_on_from_one_place_is_given_up_for_a_list() -> None:
    fake = FakeApiServer()
    fake.on_watch.extend([Fault.GARBAGE] * 3)
    async with watching(fake) as (reflector, _):
        await until(lambda: reflector.relists == 2)


async def test_a_server_that_says_gone_again_and_again_is_asked_ever_more_seldom() -> None:
    waits: list[float] = []

    class Noted(Backoff):
        def next_s(self, asked_s: float | None = None) -> float:
            waits.append(super().next_s(asked_s))
            return 0

    fake = FakeApiServer()
    fake.on_watch.extend([Fault.GONE_IN_STREAM] * 4 + [Fault.GONE] * 4)
    async with watching(fake, backoff=Noted(0.5, 30, chance=lambda: 1.0)) as (reflector, _):
        await until(lambda: fake.watches == 1)
        assert reflector.relists == 9
        assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
        await fake.put("nodes", "a")
        await until(lambda: "a" in reflector.items)
        await fake.cut_watches()
        await until(lambda: len(waits) == 9)
    assert waits[8] == 0.5


@pytest.mark.parametrize(
    "fault", [Fault.BUSY, Fault.BROKEN, Fault.NOT_JSON, Fault.CUT, Fault.GONE, Fault.BODY_WITH_SECRET]
)
async def test_a_list_is_tried_again_after(fault: Fault, log_lines: LogLines) -> None:
    fake = FakeApiServer(page_most=2)
    for name in "abcde":
        await fake.put("nodes", name)
    fake.on_list.extend([fault, fault])
    async with watching(fake) as (reflector, _):
        assert await reflector.wait_synced(5)
        assert held(reflector) == colors(fake)
    assert "canary" not in log_lines.text


async def test_a_continue_token_that_ran_out_starts_the_list_anew() -> None:
    fake = FakeApiServer(page_most=2)
    for name in "abcde":
        await fake.put("nodes", name)
    gate = asyncio.Event()
    async with watching(fake) as (reflector, _):
        await until(lambda: len(fake.requests) == 1)
        fake.answer_delay = gate
        await until(lambda: len(fake.requests) == 2)
        await fake.compact()
        await fake.remove("nodes", "a")
        gate.set()
        assert await reflector.wait_synced(5)
        assert held(reflector) == colors(fake)


async def test_a_connection_that_died_silently_is_noticed() -> None:
    fake = FakeApiServer()
    fake.on_watch.append(Fault.SILENCE)
    async with watching(fake, silence_s=0.05) as (reflector, _):
        await reflector.wait_synced(5)
        await fake.put("nodes", "a")
        await until(lambda: "a" in reflector.items)
    assert reflector.relists == 1


async def test_what_is_held_counts_as_current_for_a_while_after_the_watch_broke() -> None:
    now = [100.0]
    fake = FakeApiServer()
    async with watching(fake, clock=lambda: now[0]) as (reflector, _):
        assert [reflector.is_current, await reflector.wait_synced(5)] == [False, True]
        await fake.put("nodes", "a")
        await until(lambda: "a" in reflector.items)
        now[0] += 1000
        assert reflector.is_current
        fake.on_watch.extend([Fault.BROKEN] * 10_000)
        fake.on_list.extend([Fault.BROKEN] * 10_000)
        await fake.cut_watches()
        await until(lambda: fake.watches == 0 and len(fake.on_watch) < 10_000)
        assert reflector.is_current
        now[0] += 31
        assert not bool(reflector.is_current)
        fake.on_watch.clear()
        fake.on_list.clear()
        await until(lambda: reflector.is_current)


async def test_an_object_that_nobody_can_read_counts_as_absent_until_it_can(log_lines: LogLines) -> None:
    fake = FakeApiServer()
    await fake.put("nodes", "a", color="unreadable")
    await fake.put("nodes", "b", color="red")
    async with watching(fake) as (reflector, seen):
        await reflector.wait_synced(5)
        assert held(reflector) == {"b": "red"}
        assert reflector.unreadable == 1
        await fake.put("nodes", "b", color="unreadable")
        await fake.put("nodes", "a", color="green")
        await until(lambda: held(reflector) == {"a": "green"})
        assert seen.items == dict(reflector.items)
    assert [line["object"] for line in log_lines.lines if line["event"] == "object cannot be used"] == ["a", "b"]
    assert "canary" not in log_lines.text


async def test_an_object_that_is_left_out_goes_and_comes_like_any_other() -> None:
    fake = FakeApiServer()
    await fake.put("nodes", "a", color="hidden")
    async with watching(fake) as (reflector, _):
        await reflector.wait_synced(5)
        assert not reflector.items
        await fake.put("nodes", "a", color="red")
        await until(lambda: held(reflector) == {"a": "red"})
        await fake.put("nodes", "a", color="hidden")
        await until(lambda: not reflector.items)


async def test_a_callback_that_raises_is_logged_and_changes_nothing(log_lines: LogLines) -> None:
    def broken(key: str, _old: Thing | None, _new: Thing | None) -> None:
        raise RuntimeError(f"canary {key}")

    fake = FakeApiServer()
    await fake.put("nodes", "a")
    async with watching(fake, on_change=broken) as (reflector, _):
        await reflector.wait_synced(5)
        await fake.put("nodes", "b")
        await until(lambda: len(reflector.items) == 2)
    assert [line["object"] for line in log_lines.lines if line["event"] == "change could not be handled"] == ["a", "b"]
    assert "canary" not in log_lines.text


async def test_keys_are_the_callers_own_and_may_change_with_the_object() -> None:
    fake = FakeApiServer()
    await fake.put("pods", "a", "one", color="red")
    await fake.put("pods", "a", "two", color="blue")
    async with watching(fake, path=paths.pods(), key=lambda thing: f"by {thing.color}") as (reflector, seen):
        await reflector.wait_synced(5)
        assert set(reflector.items) == {"by red", "by blue"}
        await fake.put("pods", "a", "one", color="green")
        await fake.remove("pods", "a", "two")
        await until(lambda: set(reflector.items) == {"by green"})
        await fake.compact()
        await fake.cut_watches()
        await fake.remove("pods", "a", "one")
        await until(lambda: not reflector.items)
        assert not seen.items


async def test_a_namespace_and_selectors_are_asked_of_the_server() -> None:
    fake = FakeApiServer()
    await fake.put("pods", "a", "one")
    await fake.put("pods", "b", "two")
    selectors = {"labelSelector": "kernelsecret.io/injected=true", "fieldSelector": "spec.nodeName=n1"}
    async with watching(fake, path=paths.pods("one"), selectors=selectors) as (reflector, _):
        await until(lambda: fake.watches == 1)
        assert set(reflector.items) == {"a"}
    for request in fake.requests[:2]:
        assert request.path == "/api/v1/namespaces/one/pods"
        assert {name: request.query[name] for name in selectors} == selectors
    assert fake.requests[1].query["allowWatchBookmarks"] == "true"
    assert 300 <= int(fake.requests[1].query["timeoutSeconds"]) <= 600


async def test_waiting_for_the_first_list_ends_in_time() -> None:
    fake = FakeApiServer(answer_delay=asyncio.Event())
    async with watching(fake) as (reflector, _):
        assert not await reflector.wait_synced(0.01)
        assert not reflector.synced
        assert fake.answer_delay is not None
        fake.answer_delay.set()
        assert await reflector.wait_synced(5)


async def test_bookmarks_carry_the_watch_over_a_compaction_without_a_list() -> None:
    fake = FakeApiServer()
    async with watching(fake) as (reflector, _):
        await until(lambda: fake.watches == 1)
        await fake.put("pods", "elsewhere", "one")
        await until(lambda: reflector.resource_version == str(fake.version))
        fake.compacted = fake.version
        await fake.cut_watches()
        await fake.put("nodes", "a")
        await until(lambda: "a" in reflector.items)
    assert reflector.relists == 1
