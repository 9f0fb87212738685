"""The three doors of admission as bare ASGI callables: body in, decision, answer out, counted and audited.

A door never answers 500 and never lets an exception out. Where a decision fails in a way that nobody expected, the
review is denied in general words (a binding, which is only a hint, is allowed), and the log says where it was.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.admission.answer import Answer, Outcome
from webhook.admission.review import BadReview, allowed, denied
from webhook.observe.metrics import Metrics
from webhook.observe.records import Reviewed
from webhook.policy.steps import Doubt

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LookAgain = Callable[[Doubt], Awaitable[str]]

BIND: Final = "bind"
FAILED: Final = "failed"
_AUDITED: Final = {Outcome.INJECTED: "injected", Outcome.REFUSED: "refused", Outcome.MALFORMED: "refused"}
_SORRY: Final = (
    "kernelsecret met an error of its own and does not decide; its log says where, and trying again may help"
)
_NO_TIME: Final = "not all of it could be read again in time: try again"
LOOK_FOR_S: Final = 2.0
"""After this time no further look is begun: the API server waits for 5 s, and the last look takes time too."""

log = get_logger("admission")


class _Gone(Exception):
    """The client has left."""


class Door:
    """One endpoint. `judge` answers a body at once, or raises BadReview; `look_again` is awaited before a refusal that
    has a doubt. What it returns is added to the message where the review is refused all the same.
    """

    def __init__(
        self,
        name: str,
        judge: Callable[[bytes], Answer],
        metrics: Metrics,
        take: Callable[[Reviewed], None],
        *,
        max_body: int,
        look_again: LookAgain | None = None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self._judge, self._metrics, self._take = judge, metrics, take
        self._max_body, self._look_again = max_body, look_again
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await self._body(scope, receive)
        except _Gone:
            return
        except BadReview as bad:
            await self._refuse(send, bad)
            return
        began = time.perf_counter()
        outcome = FAILED
        try:
            answer = self._judge(body)
            if answer.doubt is not None and self._look_again is not None:
                answer = await self._made_sure(body, answer, answer.doubt, self._look_again)
            outcome = answer.outcome
        except BadReview as bad:
            await self._refuse(send, bad)
            return
        except Exception as failure:  # noqa: BLE001 - the last resort: never a 500, never a crash
            answer = self._sorry(body, failure)
        try:
            self._note(answer, outcome, time.perf_counter() - began)
        except Exception as failure:  # noqa: BLE001 - whoever waits for the answer is not to suffer for our books
            self._failed(failure)
        await self._send(send, 200, answer.body)

    async def _made_sure(self, body: bytes, answer: Answer, doubt: Doubt | None, look_again: LookAgain) -> Answer:
        """The answer after what it doubts was read anew.

        What then stands against the pod may be doubtful too: a namespace that was not known hides an interceptor that
        is not, and that one a node. The same doubt is looked into once.
        """
        note, looked, end = "", set[Doubt](), time.perf_counter() + LOOK_FOR_S
        while doubt is not None and doubt not in looked:
            if time.perf_counter() > end:
                note = _NO_TIME
                break
            looked.add(doubt)
            note = await look_again(doubt)
            answer = self._judge(body)
            doubt = answer.doubt
        return with_note(answer, note) if note and doubt is not None else answer

    async def _refuse(self, send: Send, bad: BadReview) -> None:
        self._metrics.bad_request(bad.status)
        await self._send(send, bad.status, msgspec.json.encode({"error": str(bad)}), close=True)

    def _note(self, answer: Answer, outcome: str, seconds: float) -> None:
        self._metrics.review(self.name, outcome, seconds)
        if answer.outcome not in _AUDITED or self.name == BIND:  # bindings are never refused
            return
        if answer.outcome is Outcome.INJECTED:
            self._metrics.injection(answer.mode)
        else:
            self._metrics.refusal(self.name, answer.rule)
        record = Reviewed(
            _AUDITED[answer.outcome],
            time.time_ns(),
            self.name,
            answer.uid,
            answer.operation,
            answer.resource,
            answer.namespace,
            answer.name,
            answer.dry_run,
            answer.interceptor,
            answer.mode,
            answer.containers,
            answer.rule,
            answer.message,
            answer.user,
        )
        self._take(record)

    def _sorry(self, body: bytes, failure: Exception) -> Answer:
        self._failed(failure)
        uid = _uid(body)
        made = allowed(uid) if self.name == BIND else denied(uid, 500, _SORRY)
        return Answer(made, Outcome.MALFORMED, uid, "", "", "", "", False, rule=FAILED, message=type(failure).__name__)

    def _failed(self, failure: Exception) -> None:
        self._metrics.failure(failure)
        log.error(Event.REVIEW_FAILED, path=f"/{self.name}", **problem(failure))

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises BadReview, and _Gone where the client left first."""
        kind = length = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"content-length":
                length = value
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise BadReview(415, "Content-Encoding: send the review as it is, not compressed")
        if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
            raise BadReview(415, "Content-Type: must be application/json")
        if length.isdigit() and int(length[:20]) > self._max_body:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            return body
        return await self._parts(message, receive)

    async def _parts(self, message: Message, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()
        raise _Gone

    def _too_large(self) -> BadReview:
        return BadReview(413, f"the body has more than {self._max_body} bytes")

    async def _send(self, send: Send, status: int, body: bytes, *, close: bool = False) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if close or self._is_draining():
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Asked(msgspec.Struct, frozen=True):
    uid: str = ""


class _Review(msgspec.Struct, frozen=True):
    request: _Asked = _Asked()


def _uid(body: bytes) -> str:
    """The uid to answer to, empty where it cannot be found."""
    try:
        return msgspec.json.decode(body, type=_Review).request.uid
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def with_note(answer: Answer, note: str) -> Answer:
    """A denial with more to say."""
    review = msgspec.json.decode(answer.body)
    message = f"{answer.message}; {note}"
    review["response"]["status"]["message"] = message
    return answer._replace(body=msgspec.json.encode(review), message=message)
