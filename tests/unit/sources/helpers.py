"""A file source on a real folder with real inotify, and an observer whose news can be awaited, each wait bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from agent.model import SecretRef, SecretVersion

BOUND_S = 5.0
REF = SecretRef("file", "payments/db")


class Recorder:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.versions: list[SecretVersion] = []
        self.failures: list[str] = []
        self.log: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def changed(self, version: SecretVersion) -> None:
        self.versions.append(version)
        self.log.append("changed")
        self._look()

    def failed(self, ref: SecretRef, problem: str) -> None:
        self.failures.append(problem)
        self.log.append("failed")
        self._look()

    def _look(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, at most BOUND_S, until the condition holds after some news."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        await asyncio.wait_for(future, BOUND_S)

    async def value(self, key: str, value: bytes) -> SecretVersion:
        """Wait until the last version has this value."""
        await self.until(lambda: bool(self.versions) and self.versions[-1].values.get(key) == value)
        return self.versions[-1]

    async def failure(self, text: str) -> str:
        """Wait until a failure speaks of this."""
        await self.until(lambda: bool(self.failures) and text in self.failures[-1])
        return self.failures[-1]

    async def next_version(self, cause: Callable[[], object]) -> SecretVersion:
        """Do something and wait for the version that comes of it."""
        before = len(self.versions)
        cause()
        await self.until(lambda: len(self.versions) > before)
        return self.versions[before]


def put(folder: Path, name: str, value: bytes) -> None:
    """Replace a key as careful writers do: a file of its own, renamed."""
    unfinished = folder / f".{name}.new"
    unfinished.write_bytes(value)
    unfinished.rename(folder / name)


def lay_out(folder: Path, generation: str, values: dict[str, bytes]) -> None:
    """As kubelet's writer does it: a new folder, the link `..data` swapped, links for keys, the old folder removed."""
    fresh = folder / f"..{generation}"
    fresh.mkdir()
    for name, value in values.items():
        (fresh / name).write_bytes(value)
    data = folder / "..data"
    old = data.resolve() if data.is_symlink() else None
    swap = folder / "..data_tmp"
    swap.symlink_to(fresh.name)
    os.replace(swap, data)
    for name in values:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    if old:
        for stale in old.iterdir():
            stale.unlink()
        old.rmdir()


async def drain() -> None:
    """Let everything that is queued on the loop and in inotify be handled: one turn to poll, one to tell."""
    for _ in range(5):
        await asyncio.sleep(0)
