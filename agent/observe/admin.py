"""The admin socket: what `kernelsecret-ctl status` and `trace` ask. Root only, on a unix socket; it shows, and changes
nothing.

`GET /status` is one JSON document, `GET /health` says ok, `GET /events?replay=N&follow=0|1` is a stream of JSON lines.
An empty line now and then keeps the stream alive; `{"event": "dropped", "count": n}` stands where events are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from agent.observe.events import EventHub, Gap
from agent.observe.http import json_answer, runner_for
from agent.observe.peers import ROOT, RootOnly
from agent.observe.records import Record, to_line
from agent.sockets import Listener, listen_privately
from telemetry.logkeys import Event
from telemetry.logs import get_logger

KEEP_ALIVE_S = 15.0

log = get_logger("observe")


def _line(item: Record | Gap) -> bytes:
    if isinstance(item, Gap):
        return msgspec.json.encode({"event": "dropped", "count": item.dropped}) + b"\n"
    return to_line(item)


class AdminServer:
    """Serves status and events on `socket_path`.

    `status` gives a JSON-ready mapping without secrets; it is called at each request.
    """

    def __init__(
        self,
        socket_path: Path,
        status: Callable[[], Mapping[str, Any]],
        hub: EventHub,
        *,
        allowed_uid: int = ROOT,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._path = socket_path
        self._status = status
        self._hub = hub
        self._allowed_uid = allowed_uid
        self._keep_alive_s = keep_alive_s
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None
        self._runner = runner_for(
            [
                web.get("/status", self._get_status),
                web.get("/health", self._get_health),
                web.get("/events", self._get_events),
            ]
        )

    async def start(self) -> None:
        """Listen. Raises Refused where the socket cannot be had."""
        listener = listen_privately(self._path)
        try:
            await self._runner.setup()
            http = self._runner.server
            assert http is not None
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: RootOnly(http, self._allowed_uid), sock=listener.sock
            )
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        log.info(Event.SERVING, socket=self._path)

    async def stop(self) -> None:
        """End every stream and take the socket away. Idempotent."""
        if self._server is not None and self._listener is not None:
            self._listener.remove()  # first: the server closes the socket, and only an open one knows its file
            self._server.close()
            self._server = None
            self._hub.close()
            await self._runner.cleanup()

    async def _get_status(self, _request: web.Request) -> web.Response:
        return json_answer(self._status())

    async def _get_health(self, _request: web.Request) -> web.Response:
        return json_answer({"ok": True})

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        replay = request.query.get("replay", "0")
        if not replay.isascii() or not replay.isdigit() or len(replay) > 6:
            return json_answer(
                {"code": "INVALID_ARGUMENT", "field": "replay", "error": "replay: a number of events is needed"}, 400
            )
        follow = request.query.get("follow", "1")
        if follow not in ("0", "1"):
            return json_answer(
                {"code": "INVALID_ARGUMENT", "field": "follow", "error": "follow: 0 or 1 is needed"}, 400
            )
        subscription = self._hub.subscribe(int(replay))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await response.prepare(request)
            if follow == "0":
                subscription.close()
            await response.write(b"\n")  # headers and a first byte at once: the client knows that it is connected
            ended = False
            while not ended:
                try:
                    async with asyncio.timeout(self._keep_alive_s):
                        item = await anext(subscription)
                except TimeoutError:
                    await response.write(b"\n")
                except StopAsyncIteration:
                    ended = True
                else:
                    await response.write(_line(item))
            await response.write_eof()
        except ConnectionResetError:
            pass  # the watcher left
        finally:
            subscription.close()
        return response
