"""The API server as far as Secrets go: rights by verb, a token for each account, values in base64, watches by name.

The tests of `tests/apiserver` use a real one; here are the faults that a real one shows only under duress.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web

NAMESPACE, NAME = "payments", "db"


class Fault(Enum):
    """What a request meets instead of its answer."""

    BROKEN = "500"
    BUSY = "429"
    CUT = "the connection ends"
    HALF = "half an answer"
    NOT_JSON = "something else"
    ANOTHER_KIND = "an object of another kind"
    NOT_BASE64 = "a value that is no base64"
    HUGE = "an answer without an end"
    SILENCE = "no answer at all"
    GONE = "410 as an event"
    UNREADABLE = "a line that is no event"


@dataclass
class FakeSecrets:
    """One Secret, `payments/db`. `may` are the verbs that every token may use."""

    may: set[str] = field(default_factory=lambda: {"get", "watch"})
    token: str = "token-1"
    values: Mapping[str, bytes] | None = None
    extra: str = ""
    """Beside the metadata, in every answer and notice: something that must go nowhere."""
    version: int = 10
    on_get: deque[Fault] = field(default_factory=deque)
    on_watch: deque[Fault] = field(default_factory=deque)
    gets: int = 0
    watches: int = 0
    """Watches that are open now."""
    watches_opened: int = 0
    forms: list[str] = field(default_factory=list)
    """What watches asked to accept."""
    tokens: list[str] = field(default_factory=list)
    """Those that were shown, in order."""
    get_allowed: asyncio.Event | None = None
    """Where set, answers to GET wait for it."""
    _lines: list[bytes] = field(default_factory=list)
    _cut: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, **values: bytes) -> None:
        """Create or replace the Secret."""
        kind = "ADDED" if self.values is None else "MODIFIED"
        self.values = values
        await self._tell(kind)

    async def annotate(self) -> None:
        """A new version with the same values."""
        await self._tell("MODIFIED")

    async def remove(self) -> None:
        """Delete it."""
        self.values = None
        await self._tell("DELETED")

    async def cut_watches(self) -> None:
        """Break every watch that is open."""
        self._cut += 1
        async with self._news:
            self._news.notify_all()

    async def _tell(self, kind: str) -> None:
        self.version += 1
        self._lines.append(self._line(kind))
        async with self._news:
            self._news.notify_all()

    def _meta(self) -> dict[str, object]:
        annotations = {"last-applied": self.extra}
        return {
            "name": NAME,
            "namespace": NAMESPACE,
            "resourceVersion": str(self.version),
            "annotations": annotations,
        }

    def _line(self, kind: str) -> bytes:
        thing = {"kind": "PartialObjectMetadata", "metadata": self._meta()}
        return json.dumps({"type": kind, "object": thing}).encode() + b"\n"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
        if token != self.token:
            return _status(401, "Unauthorized", self.extra)
        secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
        if request.path == secrets and request.query.get("watch") == "true":
            assert request.query["fieldSelector"] == f"metadata.name={NAME}"
            assert request.query["resourceVersion"] == "0"
            return await self._watch(request)
        assert request.path == f"{secrets}/{NAME}"
        self.gets += 1
        return await self._get(request)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if self.get_allowed is not None:
            await self.get_allowed.wait()
        if "get" not in self.may:
            return _status(403, "Forbidden", self.extra)
        if self.on_get:
            return await self._faulty(request, self.on_get.popleft())
        if self.values is None:
            return _status(404, "NotFound", self.extra)
        return web.Response(body=self._secret(), content_type="application/json")

    def _secret(self, kind: str = "Secret") -> bytes:
        data = {name: base64.b64encode(value).decode() for name, value in (self.values or {}).items()}
        return json.dumps({"kind": kind, "metadata": self._meta(), "data": data}).encode()

    async def _faulty(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        match fault:
            case Fault.BROKEN:
                return _status(500, "InternalError", self.extra)
            case Fault.BUSY:
                return _status(429, "TooManyRequests", self.extra, {"Retry-After": "0"})
            case Fault.NOT_JSON:
                return web.Response(text=f"<html>{self.extra}</html>")
            case Fault.ANOTHER_KIND:
                return web.Response(body=self._secret("ConfigMap"))
            case Fault.NOT_BASE64:
                meta = {"resourceVersion": "1"}
                return web.json_response({"kind": "Secret", "metadata": meta, "data": {"password": f"?{self.extra}"}})
            case Fault.SILENCE:
                await asyncio.Event().wait()
        response = web.StreamResponse()
        if fault is Fault.HALF:
            response.content_length = 10_000
        await response.prepare(request)
        if fault is Fault.HUGE:
            for _ in range(80):
                await response.write(b" " * (1 << 16))
        elif fault is Fault.HALF:
            await response.write(self._secret()[:20])
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.forms.append(request.headers["Accept"])
        if "watch" not in self.may:
            return _status(403, "Forbidden", self.extra)
        fault = self.on_watch.popleft() if self.on_watch else None
        if fault in (Fault.BROKEN, Fault.BUSY, Fault.CUT):
            assert fault is not None
            return await self._faulty(request, fault)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if fault is Fault.GONE:
            await response.write(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n')
            return response
        if fault is Fault.UNREADABLE:
            await response.write(f'{{"type": {self.extra}\n'.encode())
            return response
        self.watches += 1
        self.watches_opened += 1
        sent, cut = len(self._lines), self._cut
        try:
            await response.write(self._line("ADDED" if self.values is not None else "BOOKMARK"))
            while True:
                async with self._news:
                    while self._cut == cut and len(self._lines) == sent:
                        await self._news.wait()
                if self._cut != cut:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                new, sent = self._lines[sent:], len(self._lines)
                await response.write(b"".join(new))
        finally:
            self.watches -= 1


def _status(code: int, reason: str, extra: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": extra}
    return web.json_response(body, status=code, headers=headers)


@asynccontextmanager
async def serving(fake: FakeSecrets, port: int = 0) -> AsyncIterator[str]:
    """The fake on a port of loopback; yields its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        host, bound = runner.addresses[0][:2]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
