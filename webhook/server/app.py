"""The application of the admission port: FastAPI for every route but the hot path, which goes past it to bare doors."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.observe.metrics import Metrics
from webhook.server.readiness import Readiness

log = get_logger("server")


class App(FastAPI):
    """`doors` by path (`/mutate`) take POST. Routing and middleware of FastAPI would cost more than the decision."""

    def __init__(self, doors: Mapping[str, ASGIApp], readiness: Readiness, metrics: Metrics) -> None:
        super().__init__(title="KernelSecret webhook", openapi_url=None, docs_url=None, redoc_url=None)
        self.router.redirect_slashes = False
        self._doors = dict(doors)
        self._readiness = readiness
        self._metrics = metrics
        for path, door in doors.items():  # for what is not POST, which is answered by 405
            self.router.routes.append(Route(path, door, methods=["POST"]))
        self.add_api_route("/healthz", self._healthz, methods=["GET"], response_model=None)
        self.add_api_route("/readyz", self._readyz, methods=["GET"], response_model=None)
        self.add_api_route("/metrics", self._get_metrics, methods=["GET"], response_model=None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            door = self._doors.get(scope["path"])
            if door is not None:
                await door(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def _healthz(self) -> Response:
        """The event loop answers."""
        return _json(b'{"ok":true}')

    async def _readyz(self) -> Response:
        """Whether it should be asked, and what is missing where it should not."""
        return _json(self._readiness.document(), 200 if self._readiness.is_ready else 503)

    async def _get_metrics(self) -> Response:
        try:
            text = self._metrics.render()
        except Exception as failure:  # noqa: BLE001 - operators must see a clear answer, not a 500
            self._metrics.failure(failure)
            log.error(Event.REQUEST_FAILED, path="/metrics", **problem(failure))
            return _json(b'{"error":"metrics cannot be collected, see the log"}', 503)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body + b"\n", status, {"Cache-Control": "no-store"}, "application/json")
