"""The way to Vault, which may be shut or lead nowhere for a while. TLS is Vault's own; bytes are passed on at once, so
that no burst of requests is held up by it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.vault.harness.server import HOST, VaultServer

T = TypeVar("T")


class Gate:
    """In a thread of its own. `url` leads to the server; `most` is how many connections there were at a time."""

    def __init__(self, server: VaultServer) -> None:
        self.target = server.port
        self.joined: set[_Outer] = set()
        self.most = 0
        self.loses = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="gate", daemon=True)
        self._thread.start()
        self._port = 0
        self._server: asyncio.Server
        self._do(self._open)
        self.url = f"https://{HOST}:{self._port}"

    @classmethod
    @contextmanager
    def before(cls, server: VaultServer) -> Iterator[Gate]:
        """One that ends with the block."""
        gate = cls(server)
        try:
            yield gate
        finally:
            gate._do(gate._close)
            gate.loop.call_soon_threadsafe(gate.loop.stop)
            gate._thread.join()
            gate.loop.close()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Nobody listens meanwhile; connections that there were are reset."""
        self._do(self._close)
        try:
            yield
        finally:
            self._do(self._open)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """What comes is taken and forgotten, as where packets are dropped. Connections from before or of this while
        never answer again: who waits on one of them waits in vain, also afterwards."""
        self.loses = True
        self._do(self._lose)
        try:
            yield
        finally:
            self.loses = False

    def _do(self, work: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self.loop).result(30)

    async def _open(self) -> None:
        self._server = await self.loop.create_server(lambda: _Outer(self), HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _lose(self) -> None:
        for outer in self.joined:
            outer.is_lost = True

    async def _close(self) -> None:
        self._server.close()
        for outer in tuple(self.joined):
            outer.end()
        while self.joined:  # noqa: ASYNC110 - their ends come with the loop's next turns
            await asyncio.sleep(0)
        await self._server.wait_closed()


class _Outer(asyncio.Protocol):
    """The agent's side of one connection."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.is_lost = gate.loses
        self._joining: asyncio.Task[None] | None = None
        self._inner: _Inner | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        self._gate.joined.add(self)
        self._gate.most = max(self._gate.most, len(self._gate.joined))
        self._joining = self._gate.loop.create_task(self._join())

    async def _join(self) -> None:
        try:
            _, self._inner = await self._gate.loop.create_connection(lambda: _Inner(self), HOST, self._gate.target)
            self.transport.resume_reading()
        except OSError:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._inner is not None and not self.is_lost:
            self._inner.transport.write(data)

    def back(self, data: bytes) -> None:
        if not self.is_lost:
            self.transport.write(data)

    def end(self) -> None:
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.joined.discard(self)
        if self._joining is not None:
            self._joining.cancel()
        if self._inner is not None:
            self._inner.transport.close()


class _Inner(asyncio.Protocol):
    """Vault's side of it."""

    def __init__(self, outer: _Outer) -> None:
        self._outer = outer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._outer.back(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outer.transport.close()
