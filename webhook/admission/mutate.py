"""`/mutate`: pods that ask for secrets are given them or refused; all others are left alone. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from webhook.admission.answer import Answer, Outcome
from webhook.admission.review import MAX_BYTES, Request, Review, Unfit, allowed, denied, read
from webhook.policy.decision import Decision, decide
from webhook.policy.patch import operations
from webhook.policy.pods import Pod
from webhook.policy.steps import Rule
from webhook.policy.view import View

_DECODER: Final = msgspec.json.Decoder(Review[Pod | None])
_ENCODE: Final = msgspec.json.Encoder().encode


def mutate(body: bytes, view: View, *, limit: int = MAX_BYTES) -> Answer:
    """Answer one review. Raises BadReview, and nothing else, whatever the body is."""
    try:
        request = read(body, _DECODER, limit=limit)
    except Unfit as unfit:
        return unfit_answer(unfit)
    if request.operation != "CREATE" or request.target != "pods":
        text = (
            f"request: {request.operation or 'no operation'} of {request.target or 'nothing'} is not asked about here"
        )
        return unfit_answer(Unfit(request.uid, 422, f"{text}; look at the rules of the webhook configuration"))
    pod = request.object
    if pod is None:
        return unfit_answer(Unfit(request.uid, 400, "request.object: missing, but a pod is created"))
    namespace = request.namespace or pod.metadata.namespace or ""
    return _answer(request, pod, namespace, decide(pod, namespace, view))


def _answer(request: Request[Pod | None], pod: Pod, namespace: str, decision: Decision) -> Answer:
    """Facts first, then the bytes of the kind that the decision calls for."""
    facts = (request.operation, "pods", namespace, pod.display_name, bool(request.dry_run))
    uid, injection, refusal = request.uid, decision.injection, decision.refusal
    user = request.user_info.username
    if refusal is not None:
        audit = {"decision": "refused", "rule": refusal.rule.value}
        body = denied(uid, 403, refusal.message, warnings=decision.warnings, audit=audit)
        return Answer(
            body,
            Outcome.REFUSED,
            uid,
            *facts,
            rule=refusal.rule.value,
            message=refusal.message,
            user=user,
            doubt=refusal.doubt if any(refusal.doubt) else None,
        )
    if injection is None:
        return Answer(allowed(uid, warnings=decision.warnings), Outcome.NOT_ASKED, uid, *facts)
    made = operations(pod, injection)
    name, mode, containers = injection.interceptor.metadata.name, injection.choice.mode.value, injection.containers
    audit = {"decision": "injected", "interceptor": name, "mode": mode}
    body = allowed(uid, patch=_ENCODE(made) if made else None, warnings=decision.warnings, audit=audit)
    shown = ",".join(containers)
    return Answer(body, Outcome.INJECTED, uid, *facts, interceptor=name, mode=mode, containers=shown, user=user)


def unfit_answer(unfit: Unfit) -> Answer:
    """The denial of a review that makes no sense."""
    message = f"kernelsecret cannot judge this: {unfit}"
    body = denied(unfit.uid, unfit.code, message)
    return Answer(body, Outcome.MALFORMED, unfit.uid, "", "", "", "", False, rule=Rule.REVIEW.value, message=message)
