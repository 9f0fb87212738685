"""The audit trail of admission: taken in on the hot path without a system call, written by a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from telemetry.audit import AuditLog
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.observe.records import Record, to_line

WAITING = 20_000
"""Records that wait at most; more are counted as lost. Under a hundred bytes each on average, beside shared texts."""
EVERY_S = 0.1

log = get_logger("observe")


class Trail:
    """Use it on one event loop: `run` as a task, `close` at the end. `take` never waits and never raises."""

    def __init__(
        self, path: Path | None, setting: str, on_lost: Callable[[int], None], *, limit: int = WAITING
    ) -> None:
        self._on_lost = on_lost
        self._limit = limit
        self._waiting: list[Record] = []
        self._some = asyncio.Event()
        self._failed = False
        self._log = AuditLog(path, setting=setting, on_failure=self._note_failure)
        self._thread = ThreadPoolExecutor(1, "audit")

    def take(self, record: Record) -> None:
        """Take one record; it is in the file within a fraction of a second."""
        if len(self._waiting) >= self._limit:
            self._on_lost(1)
            return
        self._waiting.append(record)
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(EVERY_S)
            await self._flush()

    def reopen(self) -> None:
        """Open the path anew (after SIGHUP)."""
        self._thread.submit(self._log.reopen)

    async def close(self) -> None:
        """Write what waits, and close."""
        await self._flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
        self._thread.shutdown()

    async def _flush(self) -> None:
        self._some.clear()
        batch, self._waiting = self._waiting, []
        if batch:
            lost = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
            if lost:
                self._on_lost(lost)

    # In the thread, one batch after the other

    def _write(self, batch: list[Record]) -> int:
        """Append the records; how many were lost."""
        lines = []
        for record in batch:
            try:
                lines.append(to_line(record))
            except (TypeError, ValueError) as failure:
                log.error(Event.AUDIT_FAILED, **problem(failure))
        self._failed = False
        self._log.write(b"".join(lines))
        return len(batch) if self._failed else len(batch) - len(lines)

    def _note_failure(self) -> None:
        self._failed = True
