"""The agent's door for admission, port 9474, for the webhook's certificate only: PUT and GET of a pod's registration,
and GET of how the secrets of this node do.

TLS 1.3 with a client certificate that the current trust verifies; a node's own certificate is of the same authority and
is refused by its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from agent.registrations.book import Held, RegistrationBook
from agent.registrations.contexts import NodeContexts
from agent.registrations.listener import TlsListener, bind
from certs.signing import open_registration
from kernelsecret.errors import Code, Refused
from kernelsecret.names import HOST_WEBHOOK
from kernelsecret.node_api import (
    CONTENT_TYPE,
    MAX_BODY,
    MOST_SERVED,
    PATH_REGISTRATIONS,
    PATH_SERVED,
    STATUS,
    Served,
    ServedSecret,
    refusal_of,
)
from kernelsecret.problems import quoted, shown
from kernelsecret.registration import Registration, SignedRegistration
from kernelsecret.trust import RegistrationKey
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

BODY_S = 5.0
TOLD = 32
TOLD_PER_S = 1.0
"""Refusals that are logged and told: so many at once, so many a second; the next one says how many were not."""

log = get_logger("registrations")
_signed = msgspec.json.Decoder(SignedRegistration)


@dataclass(frozen=True, slots=True)
class DoorEvents:
    """Who wants to know. Called on the event loop; what they raise is logged and changes no answer."""

    on_registered: Callable[[Registration], None] = lambda registration: None
    on_refused: Callable[[str, Refused], None] = lambda pod_uid, refused: None
    """The pod's UID as the path has it (escaped and cut), and why: for audit and metrics."""
    served: Callable[[], Sequence[ServedSecret]] = tuple
    """How the secrets of this node do."""


class RegistrationDoor:
    """Serves on `host`:`port` (port 0: any free one). `keys` are those that may have signed, asked at each request."""

    def __init__(
        self,
        node: str,
        host: str,
        port: int,
        contexts: NodeContexts,
        keys: Callable[[], Sequence[RegistrationKey]],
        book: RegistrationBook,
        now: Callable[[], datetime],
        events: DoorEvents | None = None,
    ) -> None:
        self._node, self._host, self._port = node, host, port
        self._contexts, self._keys, self._book, self._now = contexts, keys, book, now
        self._events = events or DoorEvents()
        self._left, self._left_at, self._untold = float(TOLD), now(), 0
        self._listener: TlsListener | None = None
        app = web.Application(middlewares=[self._explained], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.put(PATH_REGISTRATIONS + "/{uid}", self._put),
                web.get(PATH_REGISTRATIONS + "/{uid}", self._get, allow_head=False),
                web.get(PATH_SERVED, self._get_served, allow_head=False),
            ]
        )
        app.on_response_prepare.append(_no_banner)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, keepalive_timeout=60.0
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; only after `start`."""
        assert self._listener is not None
        return self._listener.address

    async def start(self) -> None:
        """Listen. Raises Refused where the address cannot be had."""
        bound = bind(self._host, self._port)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._listener = TlsListener(bound, self._contexts.server, server)
        self._listener.start()
        log.info(Event.SERVING, address=f"{self._host}:{self.address[1]}")

    async def stop(self) -> None:
        """Stop listening; a request under way has a second to end. Idempotent."""
        if self._listener is not None:
            await self._listener.stop()
        await self._runner.cleanup()

    # Requests

    @web.middleware
    async def _explained(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal is a document that says field, reason and remedy; no exception's words get out."""
        uid = shown(request.match_info.get("uid", ""))
        try:
            _require_webhook(request)
        except Refused as refused:
            answer = self._refuse(uid, refused, STATUS[refused.code])
            answer.force_close()  # the next request is another handshake
            return answer
        try:
            return await handler(request)
        except web.HTTPException as error:
            code = Code.NOT_FOUND if error.status == 404 else Code.INVALID_ARGUMENT
            return self._refuse(uid, Refused(code, "request", f"{error.reason}"), error.status)
        except Refused as refused:
            return self._refuse(uid, refused, STATUS[refused.code])
        except Exception as failure:  # noqa: BLE001 - the last resort
            log.error(Event.REQUEST_FAILED, **problem(failure))
            why = f"internal error ({type(failure).__name__}), see the agent's log"
            return self._refuse(uid, Refused(Code.INTERNAL, "request", why), STATUS[Code.INTERNAL])

    def _refuse(self, uid: str, refused: Refused, status: int) -> web.Response:
        if refused.code is not Code.NOT_FOUND and self._may_tell():
            log.warning(
                Event.REGISTRATION_DENIED, pod_uid=uid or None, dropped=self._untold or None, **problem(refused)
            )
            self._untold = 0
            _call(lambda: self._events.on_refused(uid, refused))
        return web.Response(body=refusal_of(refused), status=status, content_type=CONTENT_TYPE)

    def _may_tell(self) -> bool:
        """Whoever is refused over and over must not fill the node's disk with being told so."""
        now = self._now()
        self._left = min(TOLD, self._left + (now - self._left_at).total_seconds() * TOLD_PER_S)
        self._left_at = now
        if self._left < 1:
            self._untold += 1
            return False
        self._left -= 1
        return True

    async def _put(self, request: web.Request) -> web.Response:
        signed = await _read(request)
        registration = open_registration(signed, self._keys(), self._now())
        if registration.node != self._node:
            why = f"{quoted(registration.node)} is not this node {quoted(self._node)}"
            raise Refused(Code.PERMISSION_DENIED, "registration.node", why, "hand it to the agent of its own node")
        uid = request.match_info["uid"]
        if registration.pod_uid != uid:
            why = f"{quoted(registration.pod_uid)} is not the UID of the path {quoted(uid)}"
            raise Refused(Code.INVALID_ARGUMENT, "registration.podUid", why)
        self._book.admit(Held(registration, signed))
        log.info(
            Event.REGISTRATION_HELD,
            namespace=registration.namespace,
            pod=registration.name,
            pod_uid=registration.pod_uid,
            interceptor=registration.interceptor,
        )
        _call(lambda: self._events.on_registered(registration))
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.Response:
        held = self._book.get(request.match_info["uid"])
        if held is None:
            raise Refused(Code.NOT_FOUND, "podUid", "no registration is held for it", "it may have expired")
        return web.Response(body=msgspec.json.encode(held.signed), content_type=CONTENT_TYPE)

    async def _get_served(self, _request: web.Request) -> web.Response:
        answer = Served(secrets=tuple(self._events.served())[:MOST_SERVED])
        return web.Response(body=msgspec.json.encode(answer), content_type=CONTENT_TYPE)


def _require_webhook(request: web.Request) -> None:
    """The handshake proved the authority; the name says whose certificate it is."""
    shown_certificate = request.get_extra_info("peercert") or {}
    names = [value for kind, value in shown_certificate.get("subjectAltName", ()) if kind == "DNS"]
    if HOST_WEBHOOK not in names:
        why = f"is for {shown(', '.join(names), 200) or 'nobody'}, not for {HOST_WEBHOOK}"
        raise Refused(Code.PERMISSION_DENIED, "client certificate", why, "only the webhook hands registrations over")


async def _read(request: web.Request) -> SignedRegistration:
    if request.content_type != CONTENT_TYPE:
        raise web.HTTPUnsupportedMediaType(reason=f"Content-Type must be {CONTENT_TYPE}")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason=f"the body did not come within {BODY_S:.0f} s") from None
    try:
        return _signed.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.INVALID_ARGUMENT, "body", "is not a SignedRegistration in JSON") from None


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception as failure:  # noqa: BLE001 - others' errors are no reason to refuse what is valid
        log.error(Event.REQUEST_FAILED, **problem(failure))


async def _no_banner(_request: web.Request, response: web.StreamResponse) -> None:
    with suppress(KeyError):
        del response.headers["Server"]
    response.headers["Cache-Control"] = "no-store"
