"""What the admin and the health server have in common: an aiohttp application that never shows an exception's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from kernelsecret.errors import Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

log = get_logger("observe")


def json_answer(document: Mapping[str, Any], status: int = 200) -> web.Response:
    """A JSON response; raises what msgspec raises for a document that is not JSON-ready."""
    return web.Response(body=msgspec.json.encode(document) + b"\n", status=status, content_type="application/json")


@web.middleware
async def _no_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """aiohttp's own error page shows the traceback when asyncio is in debug mode, so no exception gets that far."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Refused as refused:
        return json_answer({"code": refused.code.value, "field": refused.field, "error": str(refused)}, status=503)
    except Exception as failure:  # noqa: BLE001 - the last resort
        log.error(Event.REQUEST_FAILED, path=request.path, **problem(failure))
        return json_answer(
            {"code": "INTERNAL", "error": f"internal error ({type(failure).__name__}), see the agent's log"}, status=500
        )


async def _no_banner(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
    response.headers["Cache-Control"] = "no-store"


def runner_for(routes: list[web.RouteDef]) -> web.AppRunner:
    """A runner whose requests are small, whose access is not logged, and whose handlers end when the client goes."""
    app = web.Application(middlewares=[_no_words], client_max_size=1024)
    app.add_routes(routes)
    app.on_response_prepare.append(_no_banner)
    return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, keepalive_timeout=30.0)
