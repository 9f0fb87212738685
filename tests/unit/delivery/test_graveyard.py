"""Nothing is freed before it was cut, a grace period has passed, and its time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent.delivery.graveyard import Graveyard
from tests.unit.delivery.clock import run


class Scene:
    """A graveyard that writes down what it does, and when."""

    def __init__(self, fence: Callable[[], None] = lambda: None) -> None:
        self.said: list[str] = []
        self.failures: list[BaseException] = []
        self.successes = 0
        self._fence = fence
        self.yard = Graveyard(self._note_fence, self.failures.append, self._note_success)

    def _note_success(self) -> None:
        self.successes += 1

    def _note_fence(self) -> None:
        self._fence()
        self.said.append("fence")

    def bury(self, name: str, after_s: float) -> None:
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()

        def note(what: str) -> None:
            self.said.append(f"{what} {name} {round(loop.time() - began, 3):g}")

        self.yard.bury(after_s, lambda: note("cut"), lambda: note("free"))

    async def work(self, seconds: float) -> None:
        """Let it run for a while."""
        running = asyncio.create_task(self.yard.run())
        await asyncio.sleep(seconds)
        running.cancel()


def test_what_is_due_is_cut_then_fenced_then_freed() -> None:
    async def story() -> list[str]:
        scene = Scene()
        scene.bury("a", 2)
        await scene.work(1.9)
        assert scene.said == []
        await scene.work(0.2)
        return scene.said

    said = run(story())
    assert [line.split()[0] for line in said] == ["cut", "fence", "free"]
    assert said[0].startswith("cut a 2")


def test_what_is_due_together_shares_one_grace_period() -> None:
    async def story() -> list[str]:
        scene = Scene()
        scene.bury("b", 1)
        scene.bury("a", 1)
        await scene.work(3)
        return [line.rpartition(" ")[0] or line for line in scene.said]

    assert run(story()) == ["cut b", "cut a", "fence", "free b", "free a"]


def test_what_is_due_earlier_goes_first_however_late_it_was_buried() -> None:
    async def story() -> list[str]:
        scene = Scene()
        running = asyncio.create_task(scene.yard.run())
        scene.bury("late", 60)
        await asyncio.sleep(1)
        scene.bury("soon", 0)
        await asyncio.sleep(1)
        running.cancel()
        return [line.rpartition(" ")[0] or line for line in scene.said]

    assert run(story()) == ["cut soon", "fence", "free soon"]


def test_flush_frees_everything_due_or_not() -> None:
    async def story() -> list[str]:
        scene = Scene()
        scene.bury("a", 3600)
        scene.bury("b", 0)
        await scene.yard.flush()
        return [line.rpartition(" ")[0] or line for line in scene.said]

    assert run(story()) == ["cut b", "cut a", "fence", "free b", "free a"]


def test_what_was_freed_without_a_failure_is_told_as_that() -> None:
    async def story() -> list[int]:
        scene = Scene()

        def broken() -> None:
            raise OSError("no")

        scene.yard.bury(0, lambda: None, broken)
        scene.bury("other", 0)
        await scene.yard.flush()
        told = [scene.successes]
        scene.bury("third", 0)
        await scene.yard.flush()
        return [*told, scene.successes]

    assert run(story()) == [0, 1]


def test_flush_of_nothing_waits_for_nothing() -> None:
    async def story() -> list[str]:
        scene = Scene()
        await scene.yard.flush()
        return scene.said

    assert run(story()) == []


def test_one_that_cannot_be_freed_does_not_keep_the_others() -> None:
    async def story() -> Scene:
        scene = Scene()

        def broken() -> None:
            raise OSError("no")

        scene.yard.bury(0, lambda: None, broken)
        scene.bury("other", 0)
        await scene.yard.flush()
        return scene

    scene = run(story())
    assert [line.rpartition(" ")[0] or line for line in scene.said] == ["cut other", "fence", "free other"]
    assert [str(failure) for failure in scene.failures] == ["no"]


def test_where_the_kernel_gives_no_grace_period_nothing_is_freed_until_it_does() -> None:
    tries = iter([OSError("out of memory"), OSError("out of memory"), None])

    def fence() -> None:
        if (failure := next(tries)) is not None:
            raise failure

    async def story() -> Scene:
        scene = Scene(fence)
        scene.bury("a", 0)
        await scene.work(60)
        return scene

    scene = run(story())
    assert [line.split()[0] for line in scene.said] == ["cut", "cut", "cut", "fence", "free"]
    assert [str(failure) for failure in scene.failures] == ["out of memory"] * 2


def test_two_who_flush_at_once_free_each_grave_once() -> None:
    async def story() -> list[str]:
        scene = Scene()
        for name in "abc":
            scene.bury(name, 1)
        await asyncio.gather(scene.yard.flush(), scene.yard.flush())
        return scene.said

    said = run(story())
    assert sorted(line.split()[1] for line in said if line.startswith("free")) == ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 100])
def test_graves_of_one_moment_are_freed_in_the_order_in_which_they_were_buried(count: int) -> None:
    async def story() -> list[str]:
        scene = Scene()
        for number in range(count):
            scene.bury(str(number), 1)
        await scene.yard.flush()
        return [line.split()[1] for line in scene.said if line.startswith("free")]

    assert run(story()) == [str(number) for number in range(count)]
