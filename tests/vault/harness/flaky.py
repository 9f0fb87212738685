"""A proxy in front of Vault, with TLS on both sides, that goes wrong on purpose.

with Flaky.before(vault) as flaky:         # flaky.url, trusted by vault.ca_file
    with flaky.failing(answers(503)):       # every request, until the block ends
        ...
    with flaky.failing(resets(), on="/metadata/", times=3):
        ...
    flaky.seen                              # what came, in order, and what became of it
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakSet

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.waiting import until
from tests.vault.harness.server import HOST, VaultServer

T = TypeVar("T")

HOP_BY_HOP: Final = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
PASSED: Final = "passed"
GOODBYE_S: Final = 0.1
"""How long a caller is given to end TLS in order when the proxy closes."""


@dataclass(frozen=True)
class Answer:
    """What Vault answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Ask = Callable[[], Awaitable[Answer]]
"""Asks Vault, the first time that it is awaited."""
Act = Callable[[web.Request, Ask], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """One way to go wrong; `name` is what `Seen.became` says."""

    name: str
    act: Act


@dataclass(frozen=True)
class Seen:
    """A request that came: `path` begins with /v1/; `became` is the name of the fault, or `passed`."""

    method: str
    path: str
    became: str


def answers(status: int, *errors: str, **headers: str) -> Fault:
    """Vault's kind of refusal, without asking it; `retry_after="1"` becomes a header Retry-After."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        body = json.dumps({"errors": list(errors)})
        return web.Response(status=status, text=body, content_type="application/json", headers=named)

    return Fault(f"answers {status}", act)


def sealed() -> Fault:
    """As a sealed Vault answers."""
    return answers(503, "Vault is sealed")


def standby(leader: str) -> Fault:
    """As a standby that does not forward: 307 to the same path at the leader, like `https://127.0.0.1:8200`."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": leader + request.raw_path})

    return Fault("standby", act)


def delays(seconds: float) -> Fault:
    """Vault's own answer, late."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return _response(await ask())

    return Fault(f"delays {seconds:g} s", act)


def resets() -> Fault:
    """The connection is reset before an answer."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        _reset(request)
        return web.Response()

    return Fault("resets", act)


def half_a_body() -> Fault:
    """Vault's status and headers, half of the body that they announce, then the end of the connection."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        answer = await ask()
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return Fault("half a body", act)


def garbles(body: bytes = b'{"data": {"data"') -> Fault:
    """Status 200 with this body, which need not be JSON."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return Fault("garbles", act)


def silent() -> Fault:
    """A black hole: the request is taken, and no answer comes while the fault lasts. Then the connection is reset."""

    async def act(request: web.Request, ask: Ask) -> web.StreamResponse:
        await request.app[LASTS].wait()
        _reset(request)
        return web.Response()

    return Fault("silent", act)


LASTS: Final = web.AppKey("lasts", asyncio.Event)
"""Set when no fault lasts any more: who hangs goes on."""


class Flaky:
    """The proxy, in a thread of its own. `fault` may be set at any time, from any thread; None passes requests on.

    `certificate` (chain, key) is what it shows; by default one of the server's authority.
    """

    def __init__(self, upstream: str, ca_file: Path, certificate: tuple[Path, Path]) -> None:
        self.port = free_port()
        self.url = f"https://{HOST}:{self.port}"
        self.seen: list[Seen] = []
        self.connections = 0
        """How many connections brought a request."""
        self._known: WeakSet[Any] = WeakSet()
        self._upstream = upstream
        self._faults: list[_Rule] = []
        self._serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._serves.load_cert_chain(*certificate)
        self._trusts = ssl.create_default_context(cafile=str(ca_file))
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._loop.run_forever, name="flaky", daemon=True)
        self._thread.start()
        self._call(self._open())

    @classmethod
    @contextmanager
    def before(cls, server: VaultServer, *, certificate: tuple[Path, Path] | None = None) -> Iterator[Flaky]:
        """One in front of a server; it ends with the block. Vault may be away meanwhile."""
        shown = certificate or server.certificates.server("flaky", HOST, "localhost")
        proxy = cls(server.url, server.ca_file, shown)
        try:
            yield proxy
        finally:
            proxy.close()

    @contextmanager
    def failing(self, fault: Fault, *, on: str = "", times: int | None = None) -> Iterator[None]:
        """A while in which requests go wrong: those with `on` in their path, and only so many of them if `times`.

        Where several last, the one that began last and that is for the request.
        """
        rule = _Rule(fault, on, times)
        self._faults.insert(0, rule)
        try:
            yield
        finally:
            self._faults.remove(rule)
            self._call(self._let_go())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """A while in which nobody listens: connections are refused, and those that there were are reset."""
        self._call(self._close_door())
        try:
            yield
        finally:
            self._call(self._open_door())

    def shows(self, chain: Path, key: Path) -> None:
        """Another certificate from the next connection on; those that there are end."""
        self._serves.load_cert_chain(chain, key)
        with self.refusing():
            pass

    def count(self, on: str = "", became: str = "") -> int:
        """How many requests came with `on` in their path, and became so."""
        return sum(on in one.path and one.became.startswith(became) for one in list(self.seen))

    def close(self) -> None:
        """End all connections."""
        self._call(self._end())
        # Connections end a little later, those whose TLS never began among them; one socket is the loop's own.
        until(lambda: len(self._selector.get_map()) <= 1, "all connections of the proxy are closed")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._trusts, limit=0),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        await self._open_door()

    async def _open_door(self) -> None:
        app = web.Application(client_max_size=0)
        app[LASTS] = asyncio.Event()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._app = app
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        assert self._runner.server
        self._server = await self._loop.create_server(
            self._runner.server, HOST, self.port, ssl=self._serves, ssl_shutdown_timeout=GOODBYE_S
        )

    async def _close_door(self) -> None:
        self._app[LASTS].set()
        self._server.close()
        await self._runner.cleanup()

    async def _end(self) -> None:
        await self._close_door()
        await self._session.close()

    async def _let_go(self) -> None:
        self._app[LASTS].set()
        await asyncio.sleep(0)
        self._app[LASTS].clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport not in self._known:
            self._known.add(request.transport)
            self.connections += 1
        body = await request.read()
        rule = next((rule for rule in list(self._faults) if rule.takes(request.path)), None)
        self.seen.append(Seen(request.method, request.path, rule.fault.name if rule else PASSED))

        async def ask() -> Answer:
            return await self._ask(request, body)

        try:
            return await rule.fault.act(request, ask) if rule else _response(await ask())
        except ClientError:
            _reset(request)
            return web.Response()

    async def _ask(self, request: web.Request, body: bytes) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = self._upstream + request.raw_path
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            given = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return Answer(answer.status, given, await answer.read())


@dataclass(eq=False)
class _Rule:
    """A fault, and which requests it takes."""

    fault: Fault
    on: str
    left: int | None

    def takes(self, path: str) -> bool:
        if self.on not in path or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


def _response(answer: Answer) -> web.StreamResponse:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def _reset(request: web.Request) -> None:
    if request.transport:
        # Closed with nothing to linger for, the kernel says RST rather than FIN.
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
