"""An API server as far as clients can tell: lists in pages, watches with bookmarks, resource versions, compaction,
optimistic writes; over real HTTP on loopback. And the faults that a real one shows only under duress, in order.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web

Object = dict[str, Any]
Key = tuple[str, str, str]  # resource, namespace, name


class Fault(Enum):
    """What a list or a watch meets instead of an answer (before it, or in the stream of a watch)."""

    BUSY = "429 with Retry-After"
    BROKEN = "500"
    GONE = "410 as the status"
    GONE_IN_STREAM = "410 as an ERROR event"
    ERROR_IN_STREAM = "500 as an ERROR event"
    BUSY_IN_STREAM = "429 as an ERROR event"
    GARBAGE = "a line that is no JSON"
    HALF_LINE = "cut in the middle of an event"
    CUT = "the connection ends at once"
    END = "the watch ends as it should, at once"
    SILENCE = "nothing comes any more"
    TWICE = "every event comes twice"
    NOT_JSON = "200 with something else"
    LONG_LINE = "a line without an end"
    BODY_WITH_SECRET = "403 whose body quotes a secret"


SECRET = "canary-5f1e"


@dataclass
class FakeApiServer:
    """`put` and `remove` are the cluster's other clients. `on_list` and `on_watch` hold faults for the next ones."""

    token: str = ""
    page_most: int = 500
    objects: dict[Key, Object] = field(default_factory=dict)
    version: int = 10
    compacted: int = 0
    history: list[tuple[int, str, Key, Object]] = field(default_factory=list)
    on_list: deque[Fault] = field(default_factory=deque)
    on_watch: deque[Fault] = field(default_factory=deque)
    requests: list[web.Request] = field(default_factory=list)
    watches: int = 0
    """Watches that are open now."""
    answer_delay: asyncio.Event | None = None
    """Where set, answers wait for it."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _snapshots: dict[str, tuple[int, list[Object]]] = field(default_factory=dict)
    _cut: int = 0

    async def put(self, resource: str, name: str, namespace: str = "", **fields: Any) -> Object:
        """Create or replace an object."""
        key = (resource, namespace, name)
        self.version += 1
        meta = {"name": name, "resourceVersion": str(self.version)} | ({"namespace": namespace} if namespace else {})
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = made = {**fields, "metadata": {**fields.get("metadata", {}), **meta}}
        await self._tell(kind, key, made)
        return made

    async def remove(self, resource: str, name: str, namespace: str = "") -> None:
        """Delete an object, if it is there."""
        gone = self.objects.pop((resource, namespace, name), None)
        if gone is not None:
            self.version += 1
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
            await self._tell("DELETED", (resource, namespace, name), gone)

    async def compact(self) -> None:
        """Forget the history, and what continue tokens stand for."""
        self.compacted = self.version
        self.history.clear()
        self._snapshots.clear()

    async def cut_watches(self) -> None:
        """Break every watch that is open, without a word."""
        self._cut += 1
        await self._wake()

    async def _tell(self, kind: str, key: Key, thing: Object) -> None:
        self.history.append((self.version, kind, key, thing))
        await self._wake()

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer_delay is not None:
            await self.answer_delay.wait()
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        resource, namespace, name = _parse(request.path)
        if request.method == "GET" and not name:
            if request.query.get("watch") == "true":
                return await self._watch(request, resource, namespace)
            return self._list(request, resource, namespace)
        if request.method == "POST":
            name = (await request.json())["metadata"]["name"]
        return await self._one(request, (resource, namespace, name))

    async def _one(self, request: web.Request, key: Key) -> web.Response:
        found = self.objects.get(key)
        if request.method == "POST" and found is not None:
            return _status(409, "AlreadyExists")
        if request.method != "POST" and found is None:
            return _status(404, "NotFound")
        if request.method == "DELETE":
            await self.remove(key[0], key[2], key[1])
            return _status(200, "")
        if request.method in ("POST", "PUT", "PATCH"):
            body = await request.json()
            found = self.objects.get(key)  # another may have written meanwhile
            asked = body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
            if asked and found is not None and asked != found["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            content = {**(found or {}), **body} if request.method == "PATCH" else body
            found = await self.put(key[0], key[2], key[1], **content)
        return web.json_response(found)

    def _list(self, request: web.Request, resource: str, namespace: str) -> web.Response:
        fault = self.on_list.popleft() if self.on_list else None
        if answer := _refusal(fault):
            return answer
        if fault is Fault.CUT:
            assert request.transport is not None
            request.transport.abort()
        onward = request.query.get("continue", "")
        if onward and onward not in self._snapshots:
            return _status(410, "Expired")
        version, items = self._snapshots.pop(onward, (self.version, self._selected(resource, namespace)))
        limit = min(int(request.query.get("limit", "500")), self.page_most)
        meta = {"resourceVersion": str(version)}
        if len(items) > limit:
            meta["continue"] = f"c{version}-{len(items)}"
            self._snapshots[meta["continue"]] = (version, items[limit:])
        return web.json_response({"kind": "List", "metadata": meta, "items": items[:limit]})

    def _selected(self, resource: str, namespace: str) -> list[Object]:
        return [thing for key, thing in sorted(self.objects.items()) if _matches(key, resource, namespace)]

    async def _watch(self, request: web.Request, resource: str, namespace: str) -> web.StreamResponse:
        fault = self.on_watch.popleft() if self.on_watch else None
        if answer := _refusal(fault):
            return answer
        sent = int(request.query["resourceVersion"])
        if sent < self.compacted:
            return _status(410, "Gone")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if fault in _IN_STREAM:
            await response.write(_IN_STREAM[fault])
        if fault is Fault.END or fault in _ENDS:
            return response
        if fault is Fault.SILENCE:
            await asyncio.Event().wait()
        cut = self._cut
        self.watches += 1
        try:
            while True:
                if sent < self.compacted:  # what came in between is forgotten
                    await response.write(_IN_STREAM[Fault.GONE_IN_STREAM])
                    return response
                for version, kind, key, thing in [entry for entry in self.history if entry[0] > sent]:
                    sent = version
                    if _matches(key, resource, namespace):
                        await response.write(_line(kind, thing) * (2 if fault is Fault.TWICE else 1))
                await response.write(_line("BOOKMARK", {"metadata": {"resourceVersion": str(sent)}}))
                async with self._news:
                    while self._cut == cut and self.version <= sent:
                        await self._news.wait()
                if self._cut != cut or fault in (Fault.CUT, Fault.HALF_LINE):
                    if fault is Fault.HALF_LINE:
                        await response.write(_line("ADDED", {"metadata": {"name": "half"}})[:-9])
                    assert request.transport is not None
                    request.transport.abort()
                    return response
        finally:
            self.watches -= 1


_IN_STREAM = {
    Fault.GONE_IN_STREAM: b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n',
    Fault.ERROR_IN_STREAM: b'{"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError"}}\n',
    Fault.BUSY_IN_STREAM: b'{"type":"ERROR","object":{"kind":"Status","code":429,"reason":"TooManyRequests"}}\n',
    Fault.GARBAGE: b'{"type": nonsense\n',
    Fault.NOT_JSON: b"<html>\xff</html>\n",
    Fault.LONG_LINE: b'{"type":"ADDED","object":{"x":"' + b"y" * 4096,
}
_ENDS = {Fault.GONE_IN_STREAM, Fault.ERROR_IN_STREAM, Fault.BUSY_IN_STREAM}


def _refusal(fault: Fault | None) -> web.Response | None:
    match fault:
        case Fault.BUSY:
            return _status(429, "TooManyRequests", {"Retry-After": "0"})
        case Fault.BROKEN:
            return _status(500, "InternalError")
        case Fault.GONE:
            return _status(410, "Expired")
        case Fault.BODY_WITH_SECRET:
            return web.json_response({"reason": "Forbidden", "message": f"no {SECRET}", "code": 403}, status=403)
        case Fault.NOT_JSON:
            return web.Response(text=f"<html>{SECRET}</html>")
        case _:
            return None


def _status(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code, headers=headers)


def _line(kind: str, thing: Object) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def _matches(key: Key, resource: str, namespace: str) -> bool:
    return key[0] == resource and namespace in ("", key[1])


def _parse(path: str) -> Key:
    """Resource, namespace and name of a path; subresources are the object itself."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] == "namespaces" and len(parts) > 2:
        return parts[2], parts[1], parts[3] if len(parts) > 3 else ""
    return parts[0], "", parts[1] if len(parts) > 1 else ""


@asynccontextmanager
async def serving(fake: FakeApiServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The fake on a port of loopback; yields its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()
