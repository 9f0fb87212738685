"""Agents that die at a chosen step of what they do, and what is then asked of the node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.csi.client import CallError
from tests.agent.harness import DEADLINE_S, HERE, Node, until, wait_for_end

MOST_TRIED = 60
ZYGOTE = "tests.agent.zygote"
NEVER = 0


class Mortal:
    """Starts a node's agents so that they can be told where to die."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._steps = node.base / "steps"
        self._order = node.base / "steps.die"
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", ZYGOTE], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End the zygote; agents that run go on."""
        self._zygote.communicate(timeout=DEADLINE_S)

    def start(self, die_at: int | None = None) -> None:
        """Start an agent; with `die_at` its steps count from its first instant."""
        self._steps.write_text("")
        order = {
            "env": self.node.env,
            "log": str(self.node.log),
            "steps": str(self._steps),
            "die_at": die_at,
        }
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        self.node.pid = int(self._zygote.stdout.readline())

    async def arm(self, die_at: int) -> None:
        """From now on count steps, and die at this one (NEVER: only count)."""
        self._order.write_text(str(die_at))
        self._steps.write_text("")
        os.kill(self.node.pid, signal.SIGUSR1)
        await until(lambda: self._steps.read_text().startswith("armed\n"), "the agent counts its steps")

    def steps(self) -> list[str]:
        """What was counted so far."""
        return [line for line in self._steps.read_text().splitlines() if line != "armed"]

    async def dies(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something in which the agent dies."""
        with suppress(CallError):
            await work()
        assert wait_for_end(self.node.pid, DEADLINE_S), f"the agent lives; its steps were {self.steps()}"


def chosen(steps: list[str], most: int = MOST_TRIED) -> list[int]:
    """Numbers of the steps to die at, from 1: all of them if there are no more than `most`; else without those that
    follow one of their own kind, and then the first of each kind with as many others as there is room for."""
    numbers = list(range(1, len(steps) + 1))
    if len(numbers) <= most:
        return numbers
    numbers = [number for number in numbers if number == 1 or steps[number - 1] != steps[number - 2]]
    if len(numbers) <= most:
        return numbers
    first = {steps.index(kind) + 1 for kind in set(steps)}
    left = max(0, most - len(first))
    return sorted(first | {numbers[index * len(numbers) // left] for index in range(left)})


async def nothing() -> None:
    """The agent is at work by itself."""
