"""What a Service is to the API server: one port, whose connections go to the replicas that are ready.

There is no kube-proxy here. The webhook's Service becomes one of type ExternalName that leads to this port, so that the
API server resolves the Service itself and expects its name in the certificate, as in a cluster.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.apiserver.harness.processes import free_port

PROBE_EVERY_S: Final = 0.1
LATE_S: Final = 1.0
"""How long a replica that is not ready any more is still given connections: kubelet, API server and every node's proxy
need that time to hear of it.
"""
PROBE_WITHIN_S: Final = 2.0


@dataclass
class Target:
    """One replica: the port of loopback where it serves, and whether it is given connections."""

    port: int
    ready: bool = False
    unready_since: float | None = None

    def probed(self, answered: bool, now: float) -> None:
        """Note what a probe found at this time of the loop."""
        if answered:
            self.ready, self.unready_since = True, None
        elif self.unready_since is None:
            self.unready_since = now
        elif now - self.unready_since >= LATE_S:
            self.ready = False


class Balancer:
    """Passes bytes on, in a thread of its own. New connections go to ready targets in turn, live ones stay."""

    def __init__(self, port: int = 0, probe: str = "/readyz") -> None:
        self.port = port or free_port()
        self._probe = probe
        self._targets: dict[str, Target] = {}
        self._turn = itertools.count()
        self.turned_away = 0
        """Connections that came while no target was ready, or that its target did not take."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer", daemon=True)
        self._thread.start()
        self._server = self._call(self._listen())
        self._probing = asyncio.run_coroutine_threadsafe(self._probe_forever(), self._loop)

    def add(self, name: str, port: int) -> None:
        """A replica that serves at this port, from when it is ready."""
        self._targets[name] = Target(port)

    def remove(self, name: str) -> None:
        """Give it no new connections; those that it has stay."""
        self._targets.pop(name, None)

    def ready(self) -> set[str]:
        """Names of the replicas that are ready."""
        return {name for name, target in list(self._targets.items()) if target.ready}

    def close(self) -> None:
        """End all connections."""
        self._probing.cancel()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            ready = [target for _, target in sorted(self._targets.items()) if target.ready]
            if not ready:
                self.turned_away += 1
            else:
                await self._pass_on(reader, writer, ready[next(self._turn) % len(ready)])
        except asyncio.CancelledError:
            pass  # by `close`; asyncio's own callback for a connection's end does not bear it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target.port)
        except OSError:
            self.turned_away += 1
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        finally:
            far_writer.close()

    async def _probe_forever(self) -> None:
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        while True:
            for target in list(self._targets.values()):
                target.probed(await self._is_ready(target, unverified), self._loop.time())
            await asyncio.sleep(PROBE_EVERY_S)

    async def _is_ready(self, target: Target, unverified: ssl.SSLContext) -> bool:
        """As kubelet probes: does not verify the certificate."""
        writer = None
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port, ssl=unverified)
                writer.write(f"GET {self._probe} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            if writer:
                writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on until the end of one side, which the other side is told."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
