from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.observe.events import EventHub, Gap, Subscription
from agent.observe.records import Record
from kernelsecret.errors import Code, Refused
from tests.unit.observe.samples import read


async def rest(subscription: Subscription) -> list[Record | Gap]:
    subscription.close()
    return [item async for item in subscription]


async def test_every_subscriber_gets_every_event_in_order() -> None:
    hub = EventHub()
    one, other = hub.subscribe(), hub.subscribe()
    records = [read(pid=number) for number in range(5)]
    for record in records:
        hub.publish(record)
    assert await rest(one) == records
    assert await rest(other) == records
    assert hub.subscribers == 0


async def test_a_waiting_subscriber_is_woken() -> None:
    hub = EventHub()
    subscription = hub.subscribe()
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert not waiting.done()
    hub.publish(read(pid=1))
    assert await waiting == read(pid=1)


async def test_a_slow_subscriber_loses_the_oldest_is_told_how_many_and_holds_nobody_up() -> None:
    dropped: list[int] = []
    hub = EventHub(capacity=3, on_dropped=dropped.append)
    slow, quick = hub.subscribe(), hub.subscribe()
    seen: list[Record | Gap] = []
    for number in range(10):
        hub.publish(read(pid=number))
        seen.append(await anext(quick))
    assert seen == [read(pid=number) for number in range(10)]
    assert slow.dropped == sum(dropped) == 7
    assert await rest(slow) == [Gap(7), read(pid=7), read(pid=8), read(pid=9)]


async def test_a_late_subscriber_sees_the_last_events_first() -> None:
    hub = EventHub(kept=4)
    for number in range(10):
        hub.publish(read(pid=number))
    late = hub.subscribe(replay=3)
    hub.publish(read(pid=10))
    assert await rest(late) == [read(pid=number) for number in (7, 8, 9, 10)]
    assert await rest(hub.subscribe()) == []
    assert len(await rest(hub.subscribe(replay=100))) == 4


async def test_a_replay_longer_than_the_queue_says_what_is_missing() -> None:
    hub = EventHub(kept=5, capacity=2)
    for number in range(5):
        hub.publish(read(pid=number))
    assert await rest(hub.subscribe(replay=5)) == [Gap(3), read(pid=3), read(pid=4)]


async def test_watchers_are_limited_and_make_room_when_they_leave() -> None:
    hub = EventHub(max_subscribers=1)
    first = hub.subscribe()
    with pytest.raises(Refused) as caught:
        hub.subscribe()
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    first.close()
    first.close()
    hub.subscribe()


async def test_closing_the_hub_ends_every_stream_and_refuses_new_ones() -> None:
    hub = EventHub()
    subscription = hub.subscribe()
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(Refused, match="stopping"):
        hub.subscribe()


def test_nonsense_sizes_are_refused() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"kept": -1}, {"capacity": 0}, {"max_subscribers": 0})
    for wrong in wrongs:
        with pytest.raises(ValueError, match="are needed"):
            EventHub(**wrong)


def test_a_hub_that_keeps_nothing_still_takes_events() -> None:
    hub = EventHub(kept=0)
    hub.publish(read())
    assert hub.recent() == []
