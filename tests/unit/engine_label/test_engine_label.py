"""The label that says what a node can do: written when it is another, kept over what may pass, never taken away."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from agent.engine_label import LASTING_S, EngineLabel, wanted
from agent.kernel.calls import KernelError
from agent.model import EngineName
from agent.observe.conditions import Conditions
from agent.observe.metrics import Metrics
from agent.probe import ProbeFailed, may_pass
from apiclient.client import ApiClient
from apiclient.connection import Connection
from tests.unit.apiclient.fake_server import FakeApiServer, serving

ITER, TMPFS = EngineName.ITER, EngineName.TMPFS


@pytest.mark.parametrize(
    ("current", "engine", "passing", "becomes"),
    [
        (None, ITER, False, "iter"),
        (None, TMPFS, True, "tmpfs"),
        ("tmpfs", ITER, False, "iter"),
        ("iter", ITER, False, "iter"),
        ("iter", TMPFS, False, "tmpfs"),
        ("iter", TMPFS, True, "iter"),
        ("rewrite", TMPFS, True, "rewrite"),
        ("what nobody knows", TMPFS, True, "tmpfs"),
    ],
)
def test_a_label_gets_better_at_once_and_worse_only_for_a_reason_that_lasts(
    current: str | None, engine: EngineName, passing: bool, becomes: str
) -> None:
    assert wanted(current, engine, may_pass=passing) == becomes


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (KernelError("prog_load", errno.ENOMEM), True),
        (OSError(errno.EROFS, "read only"), True),
        (KernelError("prog_load", errno.EPERM), False),
        (KernelError("prog_load", errno.EINVAL), False),
        (ProbeFailed("a canary could not be read"), False),
    ],
)
def test_what_a_kernel_lacks_lasts_and_what_it_is_short_of_may_pass(error: BaseException, passes: bool) -> None:
    assert may_pass(error) is passes


class Scene:
    """A Node, its label's keeper, and pauses that take no time."""

    def __init__(self, fake: FakeApiServer, client: ApiClient) -> None:
        self.fake = fake
        self.conditions = Conditions(Metrics())
        self.pauses: list[float] = []
        self.wake = asyncio.Semaphore(0)
        self.label = EngineLabel(client, "node-1", self.conditions, sleep=self._sleep, chance=lambda: 0.5)
        self._paused = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._paused.set()
        await self.wake.acquire()

    async def turn(self) -> None:
        """The next pause has begun."""
        await self._paused.wait()
        self._paused.clear()

    def says(self, label: str = "engine") -> str | None:
        found: dict[str, str] = self.fake.objects["nodes", "", "node-1"]["metadata"].get("labels", {})
        return found.get(f"kernelsecret.io/{label}")

    def patches(self) -> int:
        return sum(one.method == "PATCH" for one in self.fake.requests)


@asynccontextmanager
async def keeping(engine: EngineName, *, passing: bool = False, label: str = "") -> AsyncIterator[Scene]:
    fake = FakeApiServer()
    labels = {"kernelsecret.io/engine": label, "kernelsecret.io/idmapped": "tmpfs"} if label else {}
    await fake.put("nodes", "node-1", metadata={"labels": labels})
    async with serving(fake) as url, ApiClient(Connection(url)) as client:
        scene = Scene(fake, client)
        running = asyncio.create_task(scene.label.run(engine, "tmpfs", may_pass=passing))
        try:
            await scene.turn()
            yield scene
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_the_label_is_written_once_and_looked_at_again() -> None:
    async with keeping(ITER) as scene:
        assert (scene.says(), scene.patches()) == ("iter", 1)
        scene.wake.release()
        await scene.turn()
        assert scene.patches() == 1
        await scene.fake.put("nodes", "node-1", metadata={"labels": {}})
        scene.wake.release()
        await scene.turn()
        assert scene.says() == "iter", "a node that registered anew has lost it"


async def test_both_labels_are_written_where_one_says_something_else() -> None:
    async with keeping(ITER) as scene:
        assert (scene.says(), scene.says("idmapped"), scene.patches()) == ("iter", "tmpfs", 1)
        labels = {"kernelsecret.io/engine": "iter", "kernelsecret.io/idmapped": "none"}
        await scene.fake.put("nodes", "node-1", metadata={"labels": labels})
        scene.wake.release()
        await scene.turn()
        assert (scene.says(), scene.says("idmapped"), scene.patches()) == ("iter", "tmpfs", 2)


async def test_a_label_that_says_so_already_is_not_written() -> None:
    async with keeping(ITER, label="iter") as scene:
        assert scene.patches() == 0


async def test_it_is_tried_until_it_is_done_and_told_while_it_is_not() -> None:
    async with keeping(ITER) as scene:
        scene.fake.token = "another"
        for _ in range(9):
            scene.wake.release()
            await scene.turn()
        (held,) = scene.conditions.holding()
        assert (held.reason.value, "401" in held.why) == ("engine-unpublished", True)
        assert scene.pauses[1:] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        scene.fake.token = ""
        scene.wake.release()
        await scene.turn()
        assert scene.conditions.holding() == []


async def test_a_worse_label_waits_until_its_reason_has_lasted() -> None:
    async with keeping(TMPFS, passing=True, label="iter") as scene:
        while sum(scene.pauses) < LASTING_S:
            assert scene.says() == "iter"
            scene.wake.release()
            await scene.turn()
        scene.wake.release()
        await scene.turn()
        assert scene.says() == "tmpfs"
