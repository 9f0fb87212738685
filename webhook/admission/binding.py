"""Bindings are hints: always allowed, at once, whatever is in them. Pure but for the offer, which must not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from webhook.admission.answer import Answer, Outcome
from webhook.admission.review import MAX_BYTES, Request, Review, Unfit, allowed, read
from webhook.hints import Hint

TARGETS: Final = ("pods/binding", "bindings")
"""The scheduler's way, and the legacy one, which binds without calling a webhook of the first."""


class _Meta(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None


class _Target(msgspec.Struct, frozen=True, gc=False):
    kind: str | None = None
    name: str | None = None


class Binding(msgspec.Struct, frozen=True, gc=False):
    """A v1 Binding: the pod in its metadata, the node as its target."""

    metadata: _Meta = _Meta()
    target: _Target = _Target()


_DECODER: Final = msgspec.json.Decoder(Review[Binding | None])


def binding(body: bytes, offer: Callable[[Hint], bool], *, limit: int = MAX_BYTES) -> Answer:
    """Allow it, and offer a hint where there is one. `offer` says whether it was taken. Raises BadReview."""
    try:
        request = read(body, _DECODER, limit=limit)
    except Unfit as unfit:
        return Answer(allowed(unfit.uid), Outcome.MALFORMED, unfit.uid, "", "", "", "", False, message=str(unfit))
    hint = hint_of(request)
    taken = hint is not None and not request.dry_run and offer(hint)
    return Answer(
        allowed(request.uid),
        Outcome.HINTED if taken else Outcome.ALLOWED,
        request.uid,
        request.operation,
        request.target,
        request.namespace,
        hint.name if hint else request.name,
        bool(request.dry_run),
    )


def hint_of(request: Request[Binding | None]) -> Hint | None:
    """What a binding says, None where it is none or says too little."""
    made = request.object
    if made is None or request.operation != "CREATE" or request.target not in TARGETS:
        return None
    namespace = request.namespace or made.metadata.namespace or ""
    name = made.metadata.name or request.name
    node = made.target.name or ""
    if not (namespace and name and node) or made.target.kind not in ("Node", "", None):
        return None
    return Hint(namespace, name, made.metadata.uid or None, node)
