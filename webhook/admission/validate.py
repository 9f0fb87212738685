"""`/validate`: what came out of admission is what was decided, nothing is forged, and interceptors can work. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from kernelsecret.names import GROUP
from kernelsecret.problems import Invalid
from kernelsecret.validation import read_interceptor
from webhook.admission.answer import Answer, Outcome
from webhook.admission.mutate import unfit_answer
from webhook.admission.review import MAX_BYTES, Request, Review, Unfit, allowed, denied, read, said_of
from webhook.policy.judging import interceptor_problems, interceptor_warnings
from webhook.policy.pods import Pod, read_pod
from webhook.policy.rules import ephemeral_problems, pod_create_problems, pod_update_problems
from webhook.policy.steps import Doubt, Refusal, Rule
from webhook.policy.view import View

T = TypeVar("T")

_DECODER: Final = msgspec.json.Decoder(Review[Raw])
_INTERCEPTORS: Final = f"secretinterceptors.{GROUP}"
_SHOWN: Final = 8
"""Refusals that one message names; the first is always among them."""


class _Found(NamedTuple):
    """What a judge found. Names are for the records."""

    refusals: Sequence[Refusal]
    name: str = ""
    warnings: Sequence[str] = ()
    interceptor: str = ""
    mode: str = ""


def validate(body: bytes, view: View, *, limit: int = MAX_BYTES) -> Answer:
    """Answer one review. Raises BadReview, and nothing else, whatever the body is."""
    try:
        request = read(body, _DECODER, limit=limit)
        judge = _JUDGES.get((request.operation, request.target))
        if judge is None:
            asked = f"{request.operation or 'no operation'} of {request.target or 'nothing'}"
            text = f"request: {asked} is not asked about here; look at the rules of the webhook configuration"
            raise Unfit(request.uid, 422, text)
        found = judge(request, view)
    except Unfit as unfit:
        return unfit_answer(unfit)
    return _answer(request, found)


def _answer(request: Request[Raw], found: _Found) -> Answer:
    uid = request.uid
    facts = (request.operation, request.target, request.namespace, found.name or request.name, bool(request.dry_run))
    if not found.refusals:
        body = allowed(uid, warnings=found.warnings)
        return Answer(body, Outcome.ALLOWED, uid, *facts, interceptor=found.interceptor, mode=found.mode)
    first, *others = found.refusals[:_SHOWN]
    message = " | ".join([first.message, *(str(other.problem) for other in others)])
    audit = {"decision": "refused", "rule": first.rule.value}
    body = denied(uid, 403, message, warnings=found.warnings, audit=audit)
    return Answer(
        body,
        Outcome.REFUSED,
        uid,
        *facts,
        rule=first.rule.value,
        message=message,
        user=request.user_info.username,
        doubt=_together([refusal.doubt for refusal in found.refusals]),
    )


def _together(doubts: Sequence[Doubt]) -> Doubt | None:
    """All that has to be read anew. Nothing, unless each of the refusals could be a matter of a late view."""
    if not all(any(doubt) for doubt in doubts):
        return None
    return Doubt(*(next(filter(None, names), "") for names in zip(*doubts, strict=True)))


def _created_pod(request: Request[Raw], view: View) -> _Found:
    pod = _pod(request, request.object, "object")
    refusals, decision = pod_create_problems(pod, _namespace(request, pod), view)
    injection = decision.injection
    name, mode = (injection.interceptor.metadata.name, injection.choice.mode.value) if injection else ("", "")
    return _Found(refusals, pod.display_name, decision.warnings, name, mode)


def _updated_pod(request: Request[Raw], view: View) -> _Found:
    old, new = _pod(request, request.old_object, "oldObject"), _pod(request, request.object, "object")
    return _Found(pod_update_problems(old, new, _namespace(request, new)), new.display_name)


def _debugged_pod(request: Request[Raw], view: View) -> _Found:
    old, new = _pod(request, request.old_object, "oldObject"), _pod(request, request.object, "object")
    namespace = _namespace(request, new)
    refusals = [*pod_update_problems(old, new, namespace), *ephemeral_problems(old, new, namespace, view)]
    return _Found(refusals, new.display_name)


def _interceptor(request: Request[Raw], view: View) -> _Found:
    thing = _object(request, request.object, "object", msgspec.json.decode)
    old = (
        _object(request, request.old_object, "oldObject", msgspec.json.decode) if _is_there(request.old_object) else {}
    )
    if not isinstance(thing, dict) or not isinstance(old, dict):
        raise Unfit(request.uid, 422, "request.object: not an object")
    meta = thing.get("metadata")
    ending = isinstance(meta, dict) and meta.get("deletionTimestamp")
    if request.operation == "UPDATE" and (ending or thing.get("spec") == old.get("spec")):
        # A finalizer, a label: nothing that could begin or cease to work.
        return _Found([])
    try:
        interceptor = read_interceptor(thing)
    except Invalid as error:
        return _Found([Refusal(Rule.SPEC, problem.field, problem.why, problem.fix) for problem in error.problems])
    problems = interceptor_problems(interceptor)
    refusals = [Refusal(Rule.SPEC, problem.field, problem.why, problem.fix) for problem in problems]
    warnings = [f"kernelsecret: {text}" for text in interceptor_warnings(interceptor, view.vault_agent)]
    return _Found(refusals, interceptor.metadata.name, warnings, interceptor.metadata.name)


_JUDGES: Final[dict[tuple[str, str], Callable[[Request[Raw], View], _Found]]] = {
    ("CREATE", "pods"): _created_pod,
    ("UPDATE", "pods"): _updated_pod,
    ("UPDATE", "pods/status"): _updated_pod,
    ("UPDATE", "pods/ephemeralcontainers"): _debugged_pod,
    ("CREATE", _INTERCEPTORS): _interceptor,
    ("UPDATE", _INTERCEPTORS): _interceptor,
}


def _pod(request: Request[Raw], raw: Raw, field: str) -> Pod:
    return _object(request, raw, field, read_pod)


def _object(request: Request[Raw], raw: Raw, field: str, decode: Callable[[Raw], T]) -> T:
    """An object of the request. Raises Unfit where it is missing or not of its kind."""
    if not _is_there(raw):
        raise Unfit(request.uid, 400, f"request.{field}: missing, but {request.target} is written")
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(request.uid, 422, said_of(error, f"request.{field}")) from None


def _is_there(raw: Raw | None) -> bool:
    return bool(raw) and bytes(raw or b"").strip() != b"null"


def _namespace(request: Request[Raw], pod: Pod) -> str:
    return request.namespace or pod.metadata.namespace or ""
