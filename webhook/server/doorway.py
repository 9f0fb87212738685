"""A listening socket whose connections shake hands before they are anybody's.

A handshake that goes on holds some 50 KB, so there are few at once, each has a short time, and one address has but a
share of them. Whoever comes beyond that waits as a bare socket, and the address that has the fewest is called next: a
stranger who only connects is in the way of its own address alone. Nothing here is done per request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

HANDSHAKES = 256
SHARE = 32
"""Of the handshakes, for one address."""
HANDSHAKE_S = 5.0
"""The API server gives up a review after as long."""
MOST_WAITING = 1024
"""Beyond that the address that has most waiting gives up its oldest."""
PAUSE_S = 0.5
"""How long accepting rests when the process has no descriptor left, instead of spinning."""
_AT_ONCE = 32
"""Accepted before others have their turn on the loop."""

log = get_logger("webhook")


class Doorway:
    """Accepts on `bound`, shakes hands by `context`, and then makes `protocol()` talk."""

    def __init__(
        self, bound: socket.socket, context: ssl.SSLContext, protocol: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._socket, self._context, self._protocol = bound, context, protocol
        self._handshakes: set[asyncio.Task[None]] = set()
        self._shares: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[float, socket.socket]]] = {}
        self._is_open = False

    @property
    def handshakes(self) -> int:
        """How many go on."""
        return len(self._handshakes)

    @property
    def waiting(self) -> int:
        """How many connections wait for their handshake to begin."""
        return sum(map(len, self._waiting.values()))

    def open(self) -> None:
        """Accept from now on, on the running loop."""
        self._socket.setblocking(False)
        self._is_open = True
        self._resume()

    def close(self) -> None:
        """Accept no more. Those that wait are let go; handshakes and connections go on. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for queue in self._waiting.values():
            for _since, client in queue:
                client.close()
        self._waiting.clear()

    async def end(self) -> None:
        """Give up the handshakes that still go on."""
        left = list(self._handshakes)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def sweep(self) -> None:
        """Let go who has waited for as long as a handshake may take. To be called now and then."""
        too_old = asyncio.get_running_loop().time() - HANDSHAKE_S
        for address, queue in list(self._waiting.items()):
            while queue and queue[0][0] < too_old:
                queue.popleft()[1].close()
            if not queue:
                del self._waiting[address]

    def _resume(self) -> None:
        if self._is_open:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error(Event.CANNOT_ACCEPT, **problem(error))
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                loop.call_later(PAUSE_S, self._resume)
                return
            client.setblocking(False)
            self._arrived(client, address[0])

    def _arrived(self, client: socket.socket, address: str) -> None:
        if len(self._handshakes) < HANDSHAKES and self._shares[address] < SHARE:
            self._begin(client, address)
            return
        now = asyncio.get_running_loop().time()
        self._waiting.setdefault(address, deque()).append((now, client))
        if self.waiting > MOST_WAITING:
            most = max(self._waiting, key=lambda one: len(self._waiting[one]))
            self._take(most).close()

    def _take(self, address: str) -> socket.socket:
        """Its oldest that waits. The address goes behind the others, so that equals take turns."""
        queue = self._waiting.pop(address)
        _since, client = queue.popleft()
        if queue:
            self._waiting[address] = queue
        return client

    def _begin(self, client: socket.socket, address: str) -> None:
        self._shares[address] += 1
        task = asyncio.create_task(self._greet(client))
        self._handshakes.add(task)
        task.add_done_callback(partial(self._ended, client, address))

    def _ended(self, client: socket.socket, address: str, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        if task.cancelled():
            client.close()
        self._shares[address] -= 1
        if not self._shares[address]:
            del self._shares[address]
        able = [one for one in self._waiting if self._shares[one] < SHARE]
        if able:
            chosen = min(able, key=self._shares.__getitem__)
            self._begin(self._take(chosen), chosen)

    async def _greet(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError:  # of TLS too: what strangers send is not worth a line
            client.close()
