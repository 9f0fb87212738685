"""Health and metrics over TCP, on the loopback unless told otherwise. Whoever can reach the port can read them, so no
names and no reasons in full.

`/healthz`: the event loop answers (a liveness probe restarts the agent when it does not). `/readyz`: volumes can be
published. `/metrics`: Prometheus.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from agent.observe.conditions import Conditions
from agent.observe.http import json_answer, runner_for
from agent.observe.metrics import Metrics
from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

READY_WITHIN_S = 2.0

log = get_logger("observe")


class HealthServer:
    """Serves on `host`:`port` (port 0: any free one).

    `ready` says whether a publish could work now; it has `ready_within_s` to answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        conditions: Conditions,
        ready: Callable[[], Awaitable[bool]],
        *,
        ready_within_s: float = READY_WITHIN_S,
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._conditions = conditions
        self._ready = ready
        self._ready_within_s = ready_within_s
        self._started = False
        self._runner = runner_for(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._get_metrics),
            ]
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; only after `start`."""
        host, port = self._runner.addresses[0][:2]
        return host, port

    async def start(self) -> None:
        """Listen. Raises Refused where the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=16).start()
        except (OSError, socket.gaierror) as failure:
            await self._runner.cleanup()
            raise Refused(
                Code.FAILED_PRECONDITION,
                "KERNELSECRET_HTTP_ADDRESS",
                f"{self._host}:{self._port} cannot be bound ({errno.errorcode.get(failure.errno or 0, 'unknown')})",
                "name an address of this node and a free port",
            ) from None
        self._started = True
        log.info(Event.SERVING, address=f"{self._host}:{self.address[1]}")

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._started:
            self._started = False
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return json_answer({"ok": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready = False
        try:
            async with asyncio.timeout(self._ready_within_s):
                ready = await self._ready()
        except Exception as failure:  # noqa: BLE001 - not ready is the answer; the log has the rest
            log.error(Event.REQUEST_FAILED, path="/readyz", **problem(failure))
        return json_answer({"ready": ready, "degraded": self._conditions.reasons()}, status=200 if ready else 503)

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
