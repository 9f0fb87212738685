"""POST /v1/push at the admission port: who sends it, that it is signed and new, what it names, and then the notice.

Strangers cost little: what the headers say is judged before the body is read, a body is bounded while it comes, and few
are read at once. Every refusal is a `kernelsecret.node_api.Refusal` that names the field and the remedy.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from kernelsecret.node_api import CONTENT_TYPE, refusal_of
from kernelsecret.problems import from_decoder, quoted, shown
from kernelsecret.push import (
    HEADER_NONCE,
    HEADER_SENDER,
    HEADER_SIGNATURE,
    HEADER_TIME,
    MAX_PUSH,
    MAX_SECRETS,
    PATH_PUSH,
    SKEW_S,
    Accepted,
    Push,
    PushedSecret,
    is_signed,
    nonce_problem,
    secret_problem,
    sender_problem,
    signature_problem,
    time_problem,
)
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.handover.limits import Limiter, TooOften
from webhook.push.board import Told
from webhook.push.committing import Committer
from webhook.push.keys import SenderKeys
from webhook.push.nonces import Nonces
from webhook.push.outcomes import STATUS, Outcome, PushRefused
from webhook.push.telling import Teller

BODY_S: Final = 5.0
READING: Final = 128
"""Bodies that are read at once: 8 MB at most."""
READING_OF_ONE: Final = 64
"""From one address: who only knows a sender's name must not keep all others out."""
SENDER: Final = (2000, 1500.0)
"""Pushes of one sender: so many at once, so many a second."""

log = get_logger("push")
_push: Final = msgspec.json.Decoder(Push)


@dataclass(frozen=True, slots=True)
class PushParts:
    """What the door is made of. `named` gives what interceptors name now, None before they are known."""

    keys: SenderKeys
    committer: Committer
    named: Callable[[], Container[PushedSecret] | None]
    teller: Teller
    senders: Limiter
    now_ns: Callable[[], int] = time.time_ns
    is_draining: Callable[[], bool] = lambda: False


class _Signed(NamedTuple):
    """The headers."""

    sender: str
    time: str
    nonce: str
    signature: str


class _Seen:
    """What is known of a request so far, for whoever is told of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sender = ""
        self.secrets: tuple[PushedSecret, ...] = ()
        self.is_read = False
        """Whether the whole body came: without that the connection cannot go on."""


class PushDoor:
    """`add_to` an application."""

    def __init__(self, parts: PushParts) -> None:
        self._parts = parts
        self._nonces = Nonces()
        self._reading: Counter[str] = Counter()

    def add_to(self, app: FastAPI) -> None:
        """Answer at `PATH_PUSH`."""
        app.add_api_route(PATH_PUSH, self.answer, methods=["POST"], response_model=None)

    async def answer(self, request: Request) -> Response:
        """One push."""
        began = time.perf_counter()
        seen = _Seen(request.client.host if request.client else "")
        try:
            await self._take(request, seen)
        except PushRefused as refused:
            return self._refuse(seen, refused)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as failure:  # noqa: BLE001 - the last resort
            log.error(Event.REQUEST_FAILED, path=PATH_PUSH, **problem(failure))
            why = f"internal error ({type(failure).__name__})"
            return self._refuse(seen, PushRefused(Outcome.FAILED, "request", why, "see the webhook's log"))
        self._parts.teller.tell(
            Outcome.ACCEPTED,
            sender=seen.sender,
            address=seen.address,
            secrets=seen.secrets,
            seconds=time.perf_counter() - began,
        )
        body = msgspec.json.encode(Accepted(notices=len(seen.secrets)))
        return self._response(body, STATUS[Outcome.ACCEPTED], {})

    async def _take(self, request: Request, seen: _Seen) -> None:
        """Returns once agents are told. Raises PushRefused and ClientDisconnect."""
        parts = self._parts
        signed = _headers(request, seen)
        key = parts.keys.of(signed.sender)
        body = await self._body(request, seen.address)
        seen.is_read = True
        if not is_signed(key, *signed[:3], body, signed.signature):
            why = f"is not that of this body, time and nonce by the key of {quoted(signed.sender)}"
            fix = "sign by every byte of the key in the Secret, and send the body as it was signed (docs/push.md)"
            raise PushRefused(Outcome.BAD_SIGNATURE, HEADER_SIGNATURE, why, fix)
        time_ns = int(signed.time)
        # What is sent again need not be sent by the sender, and takes nothing of what that may send.
        self._require_near(time_ns)
        self._nonces.require_new(signed.sender, signed.nonce)
        try:
            parts.senders.take(signed.sender)
        except TooOften as often:
            raise _limited(f"{quoted(signed.sender)} pushes too often", often.wait_s) from None
        self._nonces.use(signed.sender, signed.nonce)
        asked = _secrets(body)
        seen.secrets = tuple(sorted(set(asked)))
        self._require_named(asked)
        await parts.committer.commit(Told(signed.sender, time_ns, signed.nonce, seen.secrets))

    def _require_near(self, time_ns: int) -> None:
        away_s = (time_ns - self._parts.now_ns()) / 1e9
        if abs(away_s) > SKEW_S:
            why = (
                f"is {abs(away_s):.0f} s {'ahead of' if away_s > 0 else 'behind'} the webhook's clock, at most {SKEW_S}"
            )
            raise PushRefused(Outcome.SKEW, HEADER_TIME, why, "set the clocks, and sign when you send")

    def _require_named(self, secrets: tuple[PushedSecret, ...]) -> None:
        named = self._parts.named()
        if named is None:
            why = "the interceptors are not known yet"
            raise PushRefused(Outcome.UNAVAILABLE, "webhook", why, "push again in a moment", wait_s=1.0)
        for index, secret in enumerate(secrets):
            if secret not in named:
                why = f"no interceptor names {shown(str(secret), 200)}"
                fix = "write source and path as the interceptor's spec.secrets[].source has them"
                raise PushRefused(Outcome.UNKNOWN_SECRET, f"secrets[{index}]", why, fix)

    async def _body(self, request: Request, address: str) -> bytes:
        if self._reading.total() >= READING or self._reading[address] >= READING_OF_ONE:
            raise _limited("too many bodies come at once", 1.0)
        self._reading[address] += 1
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_PUSH:
                        raise _too_large()
        except TimeoutError:
            why = f"did not come within {BODY_S:.0f} s"
            raise PushRefused(Outcome.TOO_SLOW, "body", why, "send it at once") from None
        finally:
            self._reading[address] -= 1
            if not self._reading[address]:
                del self._reading[address]
        return bytes(body)

    def _refuse(self, seen: _Seen, refused: PushRefused) -> Response:
        self._parts.teller.tell(
            refused.outcome, sender=seen.sender, address=seen.address, secrets=seen.secrets, why=str(refused)
        )
        headers = {} if seen.is_read else {"Connection": "close"}
        if refused.wait_s:
            headers["Retry-After"] = str(math.ceil(refused.wait_s))
        return self._response(refusal_of(refused), STATUS[refused.outcome], headers)

    def _response(self, body: bytes, status: int, headers: dict[str, str]) -> Response:
        if self._parts.is_draining():
            headers["Connection"] = "close"
        return Response(body, status, {"Cache-Control": "no-store", **headers}, CONTENT_TYPE)


def _headers(request: Request, seen: _Seen) -> _Signed:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > MAX_PUSH:
        raise _too_large()
    found = _Signed(
        *(request.headers.get(name, "") for name in (HEADER_SENDER, HEADER_TIME, HEADER_NONCE, HEADER_SIGNATURE))
    )
    seen.sender = shown(found.sender, 63)
    if why := sender_problem(found.sender):
        raise PushRefused(Outcome.UNKNOWN_SENDER, HEADER_SENDER, why, "name yourself as the Secret of keys does")
    if why := signature_problem(found.signature):
        raise PushRefused(Outcome.BAD_SIGNATURE, HEADER_SIGNATURE, why, "sign it as docs/push.md says")
    if why := time_problem(found.time):
        raise PushRefused(Outcome.MALFORMED, HEADER_TIME, why)
    if why := nonce_problem(found.nonce):
        raise PushRefused(Outcome.MALFORMED, HEADER_NONCE, why)
    return found


def _secrets(body: bytes) -> tuple[PushedSecret, ...]:
    """The secrets of a body, as they were named. Raises PushRefused."""
    fix = 'send {"secrets": [{"source": "vault", "path": "secret/data/payments/db"}]}'
    try:
        push = _push.decode(body)
    except msgspec.ValidationError as error:
        found = from_decoder(str(error))
        field = "body" if found.field.startswith("(") else shown(found.field, 120)
        raise PushRefused(Outcome.MALFORMED, field, shown(found.why, 200), fix) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise PushRefused(Outcome.MALFORMED, "body", "is not JSON", fix) from None
    if not 1 <= len(push.secrets) <= MAX_SECRETS:
        why = f"has {len(push.secrets)} secrets, must have 1 to {MAX_SECRETS}"
        raise PushRefused(Outcome.MALFORMED, "secrets", why, "send several pushes" if push.secrets else fix)
    for index, secret in enumerate(push.secrets):
        if wrong := secret_problem(secret):
            raise PushRefused(Outcome.MALFORMED, f"secrets[{index}]", wrong, fix)
    return push.secrets


def _too_large() -> PushRefused:
    return PushRefused(Outcome.TOO_LARGE, "body", f"has more than {MAX_PUSH} bytes", "send several pushes")


def _limited(why: str, wait_s: float) -> PushRefused:
    fix = "wait as Retry-After says; one push for many changes is enough"
    return PushRefused(Outcome.LIMITED, "request", why, fix, wait_s=wait_s)
