"""An event loop whose time passes only when nothing else is to be done: waiting costs no test any time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingSelector(selectors.DefaultSelector):
    """Where it would sleep, it moves the clock on; it waits for real only where there is nothing to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.at_work = 0
        """Calls that threads are working on: their time is real."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        is_free_to_jump = timeout and not self.at_work
        ready = super().select(0 if is_free_to_jump or timeout == 0 else None)
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, on the jumping selector's clock."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """A thread's work, during which the clock does not jump."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.at_work += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: object) -> None:
        self._jumping.at_work -= 1

    def time(self) -> float:
        return self._jumping.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on such a loop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)
