from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from agent.notices import Notices, read_revisions
from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.names import NOTICES_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import FIELD_NOTICES, Board, Notice
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.things import until
from tests.unit.webhook.cluster.scene import running


class Scene:
    def __init__(self) -> None:
        self.fake = FakeApiServer()
        self.nudged: list[str] = []
        self.heard: list[int] = []
        self.notices: Notices

    def nudge(self, source: str, path: str) -> int:
        self.nudged.append(f"{source}:{path}")
        if path == "broken":
            raise ValueError("canary")
        return 2

    async def put(self, **revisions: int) -> None:
        """The ConfigMap with a notice for each path."""
        board = Board(
            notices=tuple(Notice(source="vault", path=path, revision=number) for path, number in revisions.items())
        )
        await self.put_text(msgspec.json.encode(board).decode())

    async def put_text(self, text: str) -> None:
        await self.fake.put("configmaps", NOTICES_OBJECT, SYSTEM_NAMESPACE, data={FIELD_NOTICES: text})


@asynccontextmanager
async def listening(**revisions: int) -> AsyncIterator[Scene]:
    """An agent that started when these were there already."""
    scene = Scene()
    if revisions:
        await scene.put(**revisions)
    async with serving(scene.fake) as url, ApiClient(Connection(url)) as client:
        scene.notices = Notices(client, scene.nudge, scene.heard.append)
        async with running(scene.notices.run()):
            await until(lambda: scene.fake.watches == 1)
            yield scene


async def test_what_stands_there_at_the_start_nudges_nothing() -> None:
    async with listening(a=1, b=2) as scene:
        await scene.put(a=1, b=2, c=3)
        await until(lambda: bool(scene.nudged))
        assert scene.nudged == ["vault:c"]
        assert scene.heard == [2]


async def test_the_first_push_ever_is_heard() -> None:
    async with listening() as scene:
        await scene.put(a=1)
        await until(lambda: scene.nudged == ["vault:a"])


async def test_each_notice_nudges_once_and_one_that_comes_again_again() -> None:
    async with listening(a=1) as scene:
        await scene.put(a=2)
        await scene.put(a=2, b=3)
        await scene.put(b=3, a=4)
        await until(lambda: len(scene.nudged) == 3)
        assert Counter(scene.nudged) == {"vault:a": 2, "vault:b": 1}


async def test_what_was_pushed_while_the_watch_was_broken_is_heard_after_it() -> None:
    async with listening(a=1, b=1) as scene:
        scene.fake.token = "nobody's"
        await scene.fake.cut_watches()
        await until(lambda: scene.fake.watches == 0)
        await scene.put(a=1, b=2, c=3)
        await scene.fake.compact()
        scene.fake.token = ""
        await until(lambda: len(scene.nudged) == 2)
        assert sorted(scene.nudged) == ["vault:b", "vault:c"]


async def test_a_source_that_fails_does_not_keep_the_others_from_being_told() -> None:
    async with listening() as scene:
        await scene.put(broken=1, good=2)
        await until(lambda: len(scene.nudged) == 2)
        assert scene.heard == [2]


@pytest.mark.parametrize("damage", ["nonsense", "[]", "[" * 5000, None])
async def test_damage_and_loss_change_nothing_and_it_is_heard_again_afterwards(damage: str | None) -> None:
    async with listening(a=1) as scene:
        if damage is None:
            await scene.fake.remove("configmaps", NOTICES_OBJECT, SYSTEM_NAMESPACE)
        else:
            await scene.put_text(damage)
        await scene.put(a=1, b=2)
        await until(lambda: bool(scene.nudged))
        assert scene.nudged == ["vault:b"]


def test_another_object_is_passed_over() -> None:
    thing: dict[str, Any] = {"metadata": {"name": "other", "namespace": SYSTEM_NAMESPACE}}
    assert read_revisions(msgspec.json.encode(thing)) is None
    thing = {"metadata": {"name": NOTICES_OBJECT, "namespace": "default"}}
    assert read_revisions(msgspec.json.encode(thing)) is None
    thing = {"metadata": {"name": NOTICES_OBJECT, "namespace": SYSTEM_NAMESPACE}}
    assert read_revisions(msgspec.json.encode(thing)) == {}
