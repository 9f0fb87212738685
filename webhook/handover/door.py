"""The webhook's door for nodes, port 8444: an agent gets its certificate here, and what it lacks of its own pods.

POST /v1/identity is proven by the agent's own token, POST /v1/registrations by the node's certificate. Every refusal is
a `kernelsecret.node_api.Refusal`, and none of them tells a node of pods that are not its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import (
    CONTENT_TYPE,
    MAX_BODY,
    PATH_IDENTITY,
    PATH_REGISTRATIONS,
    STATUS,
    Identity,
    IdentityRequest,
    RegistrationRequest,
    node_of,
    refusal_of,
)
from kernelsecret.problems import quoted, shown
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.handover.issuer import Issuer
from webhook.handover.limits import Limiter
from webhook.handover.reviewing import TokenReviewer
from webhook.policy.pods import Pod

LONGEST_TOKEN = 12 * 1024
BODY_S = 5.0
AT_ONCE = 32
"""Requests that wait for the API server at once, for each of the two; more are sent away, to come again."""

_WHAT = {PATH_IDENTITY: "identity", PATH_REGISTRATIONS: "registration"}

log = get_logger("handover")
T = TypeVar("T")
_identities = msgspec.json.Decoder(IdentityRequest)
_registrations = msgspec.json.Decoder(RegistrationRequest)


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What the door is made of. `certify(csr, node)` signs; `peer_hosts` are the names in the verified client
    certificate of a request; `on_answer` counts (`identity-ok`, `registration-not-found`, `other-...`). `callers` is
    asked before a token is: by IP address, since nothing is known yet of whoever sends it.
    """

    issuer: Issuer
    reviewer: TokenReviewer
    certify: Callable[[str, str], str]
    peer_hosts: Callable[[Request], Sequence[str]]
    callers: Limiter
    identities: Limiter
    registrations: Limiter
    on_answer: Callable[[str], None] = lambda outcome: None
    on_given: Callable[[Pod], None] = lambda pod: None
    """Hears of each pod that a node was given a registration of."""


class _Shaped(Exception):
    """A request that is refused for its form, with the status that says so."""

    def __init__(self, status: int, refused: Refused) -> None:
        self.status = status
        self.refused = refused
        super().__init__(str(refused))


class NodeDoor:
    """`app` is the ASGI application."""

    def __init__(self, parts: DoorParts) -> None:
        self._parts = parts
        self._identity_slots = asyncio.Semaphore(AT_ONCE)
        self._registration_slots = asyncio.Semaphore(AT_ONCE)
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        self.app.add_api_route(PATH_IDENTITY, self._identity, methods=["POST"])
        self.app.add_api_route(PATH_REGISTRATIONS, self._registration, methods=["POST"])
        self.app.add_exception_handler(HTTPException, self._unrouted)

    async def _identity(self, request: Request) -> Response:
        return await self._explained(request, Event.IDENTITY_DENIED, self._answer_identity)

    async def _registration(self, request: Request) -> Response:
        return await self._explained(request, Event.REGISTRATION_WITHHELD, self._answer_registration)

    async def _answer_identity(self, request: Request) -> bytes:
        # Each token costs the API server a review; without this one pod could use up all of them.
        self._parts.callers.take(request.client.host if request.client else "")
        token = _bearer(request)
        asked = await _read(request, _identities)
        async with _slot(self._identity_slots):
            node = await self._parts.reviewer.node_of(token)
        if node != asked.node:
            why = f"{quoted(asked.node)} is not the node of the token, {quoted(node)}"
            raise Refused(Code.PERMISSION_DENIED, "node", why, "ask for the node that the agent runs on")
        self._parts.identities.take(node)
        certificate = self._parts.certify(asked.csr, node)
        log.info(Event.IDENTITY_ISSUED, node=node)
        return msgspec.json.encode(Identity(certificate=certificate))

    async def _answer_registration(self, request: Request) -> bytes:
        node = self._proven_node(request)
        self._parts.registrations.take(node)
        asked = await _read(request, _registrations)
        async with _slot(self._registration_slots):
            signed = await self._registration_for(asked, node)
        log.info(Event.REGISTRATION_GIVEN, node=node, namespace=asked.namespace, pod=asked.name, pod_uid=asked.pod_uid)
        return signed

    async def _registration_for(self, asked: RegistrationRequest, node: str) -> bytes:
        issuer = self._parts.issuer
        try:
            pod = await issuer.live(asked.namespace, asked.name)
        except Refused as refused:
            if refused.code is Code.NOT_FOUND:
                raise _no_such_pod() from None
            raise
        # One answer for all three: whether a pod of that name is elsewhere is not this node's to know.
        if pod.metadata.uid != asked.pod_uid or pod.spec.node_name != node:
            raise _no_such_pod()
        signed = msgspec.json.encode(await issuer.issue(pod))
        self._parts.on_given(pod)
        return signed

    def _proven_node(self, request: Request) -> str:
        hosts = self._parts.peer_hosts(request)
        node = node_of(hosts[0]) if len(hosts) == 1 else None
        if node is None:
            why = f"is for {shown(', '.join(hosts), 200)}, not for one node" if hosts else "none was shown"
            fix = f"a node gets one by POST {PATH_IDENTITY}"
            raise Refused(Code.PERMISSION_DENIED, "client certificate", why, fix)
        return node

    async def _explained(
        self, request: Request, event: Event, answer: Callable[[Request], Awaitable[bytes]]
    ) -> Response:
        path = request.url.path
        try:
            body = await answer(request)
        except _Shaped as shaped:
            return self._refuse(path, event, shaped.refused, shaped.status)
        except Refused as refused:
            return self._refuse(path, event, refused, STATUS[refused.code])
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as failure:  # noqa: BLE001 - the last resort
            log.error(Event.REQUEST_FAILED, path=path, **problem(failure))
            internal = Refused(Code.INTERNAL, "request", f"internal error ({type(failure).__name__})", "see the log")
            return self._refuse(path, event, internal, STATUS[Code.INTERNAL])
        self._count(_WHAT[path], "ok")
        return Response(body, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    def _refuse(self, path: str, event: Event, refused: Refused, status: int) -> Response:
        log.warning(event, path=path, **problem(refused))
        self._count(_WHAT[path], refused.code.value)
        return _refusal(refused, status)

    def _count(self, what: str, code: str) -> None:
        self._parts.on_answer(f"{what}-{code.lower().replace('_', '-')}")

    async def _unrouted(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        why = f"{shown(request.method, 20)} {shown(request.url.path)} is nothing that is answered here"
        fix = f"POST {PATH_IDENTITY} or {PATH_REGISTRATIONS}"
        code = Code.NOT_FOUND if status == 404 else Code.INVALID_ARGUMENT
        self._count("other", code.value)
        return _refusal(Refused(code, "request", why, fix), status)


def _refusal(refused: Refused, status: int) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(refusal_of(refused), status_code=status, media_type=CONTENT_TYPE, headers=headers)


def _no_such_pod() -> Refused:
    why = "there is no pod of this namespace, name and UID on this node"
    return Refused(Code.NOT_FOUND, "podUid", why, "it may have been deleted; kubelet asks for the one that is there")


def _bearer(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN or not token.isascii():
        fix = "send the agent's own service-account token"
        raise Refused(Code.PERMISSION_DENIED, "Authorization", "holds no bearer token", fix)
    return token


async def _read(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise _Shaped(415, Refused(Code.INVALID_ARGUMENT, "Content-Type", f"is not {CONTENT_TYPE}"))
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _Shaped(413, Refused(Code.INVALID_ARGUMENT, "body", f"has more than {MAX_BODY} bytes"))
    except TimeoutError:
        why = f"did not come within {BODY_S:.0f} s"
        raise _Shaped(408, Refused(Code.INVALID_ARGUMENT, "body", why)) from None
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.INVALID_ARGUMENT, "body", f"is not a {decoder.type.__name__} in JSON") from None


@asynccontextmanager
async def _slot(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """A place among those that wait for the API server. Raises Refused where there is none: nobody queues here."""
    if slots.locked():
        raise Refused(Code.UNAVAILABLE, "webhook", "too many nodes ask at once", "it is asked again by itself")
    async with slots:
        yield
