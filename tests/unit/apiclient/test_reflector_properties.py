from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.apiclient.fake_server import FakeApiServer, Fault
from tests.unit.apiclient.things import colors, held, until, watching

names = st.sampled_from("abcdef")
faults = st.sampled_from([fault for fault in Fault if fault is not Fault.SILENCE])
events = st.one_of(
    st.tuples(st.just("put"), names, st.sampled_from(["red", "blue", "hidden"])),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("compact")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("on_list"), faults),
    st.tuples(st.just("on_watch"), faults),
    st.tuples(st.just("pass"), st.integers(1, 30)),
)


async def play(fake: FakeApiServer, what: str, *how: Any) -> None:
    match what:
        case "put":
            await fake.put("nodes", how[0], color=how[1])
        case "remove":
            await fake.remove("nodes", how[0])
        case "compact":
            await fake.compact()
        case "cut":
            await fake.cut_watches()
        case "on_list" | "on_watch":
            getattr(fake, what).append(how[0])
        case _:
            for _ in range(how[0]):
                await asyncio.sleep(0)


@settings(max_examples=60)
@given(st.lists(events, max_size=40))
def test_whatever_happens_what_is_held_becomes_what_the_server_has_and_the_changes_told_lead_there(
    story: list[tuple[Any, ...]],
) -> None:
    async def told() -> None:
        fake = FakeApiServer(page_most=2)
        async with watching(fake, page=2) as (reflector, seen):
            for what, *how in story:
                await play(fake, what, *how)
                assert seen.items == dict(reflector.items)
            # A last sign, so that a reflector which still holds an older state cannot pass by chance.
            await fake.put("nodes", "last", color="green")
            await until(lambda: held(reflector) == colors(fake))
            assert seen.items == dict(reflector.items)

    asyncio.run(told())
