"""A reflector of things over the fake API server, and what it told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from apiclient import paths
from apiclient.backoff import Backoff
from apiclient.client import ApiClient
from apiclient.connection import Connection
from apiclient.reflector import Reflector
from tests.unit.apiclient.fake_server import FakeApiServer, serving


class Thing(msgspec.Struct, frozen=True):
    name: str
    color: str = ""


class _Metadata(msgspec.Struct):
    name: str


class _Raw(msgspec.Struct):
    metadata: _Metadata
    color: str = ""


def decode(raw: bytes) -> Thing | None:
    thing = msgspec.json.decode(raw, type=_Raw)
    if thing.color == "unreadable":
        raise ValueError("canary-of-an-object")
    return None if thing.color == "hidden" else Thing(thing.metadata.name, thing.color)


class Seen:
    """What a reflector told, replayed: at any moment it must be what `items` is."""

    def __init__(self) -> None:
        self.items: dict[str, Thing] = {}
        self.told: list[tuple[str, Thing | None, Thing | None]] = []
        self.wrong: list[str] = []  # a reflector survives what a callback raises, so it is judged afterwards

    def __call__(self, key: str, old: Thing | None, new: Thing | None) -> None:
        if self.items.get(key) != old or old == new:
            self.wrong.append(f"{key}: {self.items.get(key)} / {old} -> {new}")
        self.told.append((key, old, new))
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new


async def until(condition: Callable[[], bool]) -> None:
    """Yields to the loop until it is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - others' state, which has no event
            await asyncio.sleep(0)


@asynccontextmanager
async def watching(fake: FakeApiServer, **given: Any) -> AsyncIterator[tuple[Reflector[Thing], Seen]]:
    seen = Seen()
    settings: dict[str, Any] = {"key": lambda thing: thing.name, "on_change": seen, "backoff": Backoff(0.001, 0.004)}
    settings |= given
    async with serving(fake) as url, ApiClient(Connection(url)) as client:
        reflector = Reflector(client, settings.pop("path", paths.nodes()), decode, **settings)
        running = asyncio.create_task(reflector.run())
        try:
            yield reflector, seen
            assert not seen.wrong
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def colors(fake: FakeApiServer) -> dict[str, str]:
    """What the server has, as the reflector should keep it."""
    return {key[2]: thing.get("color", "") for key, thing in fake.objects.items() if thing.get("color") != "hidden"}


def held(reflector: Reflector[Thing]) -> dict[str, str]:
    return {key: thing.color for key, thing in reflector.items.items()}
