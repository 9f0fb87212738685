"""Asks sources for secrets: one question at a time for each, however many volumes wait for its answer; and keeps the
newest version at hand of what somebody waits for, so that nothing older is shown than what was heard meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from agent.model import SecretRef, SecretVersion, Source

_ROUNDS = 3
"""Fetches, where the secret changes during each of them; the watch has the last word then."""


class Fetching:
    """Use it on one event loop."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._holders: Counter[SecretRef] = Counter()
        self._newest: dict[SecretRef, SecretVersion] = {}
        self._heard: Counter[SecretRef] = Counter()
        self._asking: dict[SecretRef, asyncio.Task[None]] = {}
        self._waiting: Counter[SecretRef] = Counter()

    @contextmanager
    def holding(self, refs: Iterable[SecretRef]) -> Iterator[None]:
        """Somebody waits for these: they stay watched, and their newest version stays at hand."""
        held = sorted(set(refs))
        self._holders.update(held)
        try:
            yield
        finally:
            for ref in held:
                self._holders[ref] -= 1
                if not self._holders[ref]:
                    del self._holders[ref]
                    self._heard.pop(ref, None)
                    self._newest.pop(ref, None)

    def held(self) -> set[SecretRef]:
        """What somebody waits for now."""
        return set(self._holders)

    def newest(self, ref: SecretRef) -> SecretVersion:
        """The newest version that was heard of or fetched; only while it is held, after `ask`."""
        return self._newest[ref]

    def heard(self, version: SecretVersion) -> None:
        """A source told of a version by itself."""
        if version.ref in self._holders:
            self._heard[version.ref] += 1
            self._newest[version.ref] = version

    def take(self, version: SecretVersion) -> None:
        """A version that is at hand already."""
        if version.ref in self._holders:
            self._newest[version.ref] = version

    async def ask(self, ref: SecretRef) -> None:
        """Have the version that is current when this returns as `newest`. The secret is held. Raises Refused."""
        task = self._asking.get(ref)
        if task is None or task.cancelling():
            task = self._asking[ref] = asyncio.create_task(self._ask(ref))
            task.add_done_callback(lambda done: self._asked(ref, done))
        self._waiting[ref] += 1
        try:
            await asyncio.shield(task)
        finally:
            self._waiting[ref] -= 1
            if not self._waiting[ref]:
                del self._waiting[ref]
                task.cancel()  # whoever waited for it has given up, or has its answer

    async def close(self) -> None:
        """Stop asking. Idempotent."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, ref: SecretRef) -> None:
        for _ in range(_ROUNDS):
            before = self._heard[ref]
            fetched = await self._sources[ref.source].fetch(ref)
            if self._heard[ref] == before:  # else a newer one may have come meanwhile
                self.take(fetched)
                return

    def _asked(self, ref: SecretRef, task: asyncio.Task[None]) -> None:
        if self._asking.get(ref) is task:
            del self._asking[ref]
        if not task.cancelled():
            task.exception()  # where nobody waits any more, nobody else looks at it
