"""The ring buffer of events: refusals, first reads of a generation, containers that start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ctypes import addressof

from agent.kernel import calls
from agent.kernel._libbpf import ffi, lib
from agent.kernel.layout import Event

BATCH = 256


class EventRing:
    """Drains events in batches; `fd` becomes readable when there are some."""

    def __init__(self, map_fd: int, handle: Callable[[Event], None]) -> None:
        self._ring = lib.ks_ring_open(map_fd, calls.size_of(Event), BATCH)
        if self._ring == ffi.NULL:
            raise calls.KernelError("ring_buffer_open", ffi.errno)
        self._records = (Event * BATCH)()
        self._handle = handle
        self.fd = int(lib.ks_ring_fd(self._ring))

    def drain(self) -> int:
        """Hand every waiting event to the handler; how many there were. The record is valid during the call only."""
        total = 0
        while True:
            count = calls.checked(
                "ring_drain", lib.ks_ring_drain(self._ring, ffi.cast("void *", addressof(self._records)))
            )
            for index in range(count):
                self._handle(self._records[index])
            total += count
            if count < BATCH:
                return total

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drain whenever the kernel says that there is something."""
        loop.add_reader(self.fd, self.drain)

    def close(self) -> None:
        """Free the buffer's mapping; remove the reader from the loop first."""
        lib.ks_ring_close(self._ring)
