"""Who gets a registration: a live pod that was injected and is still given what it was injected with.

The judgement is pure. Around it: the live read, a second look where what is known may be old, and the signature.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from apiclient import paths
from apiclient.client import ApiClient, ApiError
from certs.signing import SigningKey, sign_registration
from kernelsecret.errors import Code, Refused
from kernelsecret.names import (
    ANNOTATION_INJECT,
    ANNOTATION_INJECT_ANY,
    ANNOTATION_INTERCEPTOR,
    LABEL_INJECTED,
    LABEL_INJECTED_YES,
)
from kernelsecret.problems import quoted
from kernelsecret.registration import LIFETIME_S, NONCE_BYTES, Registration, SignedRegistration
from webhook.policy.lookup import FIELD_INJECT, named_interceptor, opted_in_labels
from webhook.policy.pods import Pod, read_pod
from webhook.policy.steps import Refusal
from webhook.policy.view import View

Refresh = Callable[[str, Sequence[str]], Awaitable[None]]
"""Reads a namespace and interceptors (by name) anew, so that a refusal is not due to an old view."""


def injected_interceptor(pod: Pod) -> str:
    """The interceptor that admission wrote into the pod, empty where it was not injected."""
    name = pod.annotations.get(ANNOTATION_INTERCEPTOR, "")
    shows = any(volume.is_ours and volume.csi and volume.csi.interceptor == name for volume in pod.spec.volumes or ())
    return name if name and shows and pod.labels.get(LABEL_INJECTED) == LABEL_INJECTED_YES else ""


def require_given(pod: Pod, view: View) -> None:
    """Raises Refused unless the pod is still given the interceptor that it was injected with."""
    name, namespace = injected_interceptor(pod), pod.metadata.namespace or ""
    if not name:
        why = "admission did not inject this pod"
        raise Refused(Code.FAILED_PRECONDITION, f"metadata.annotations[{ANNOTATION_INTERCEPTOR}]", why)
    if pod.metadata.deletion_timestamp:
        raise Refused(Code.FAILED_PRECONDITION, "metadata.deletionTimestamp", "the pod is being deleted")
    if pod.annotations.get(ANNOTATION_INJECT) not in (ANNOTATION_INJECT_ANY, name):
        why = f"the pod does not opt in to the interceptor {quoted(name)} any more"
        raise Refused(Code.FAILED_PRECONDITION, FIELD_INJECT, why, "create the pod anew")
    try:
        named_interceptor(name, pod, namespace, opted_in_labels(namespace, view), view)
    except Refusal as refusal:
        problem = refusal.problem
        raise Refused(Code.PERMISSION_DENIED, problem.field, problem.why, problem.fix) from None


def registration_of(pod: Pod, now: datetime, nonce: str) -> Registration:
    """The statement about a bound pod that was judged."""
    meta = pod.metadata
    return Registration(
        pod_uid=meta.uid or "",
        namespace=meta.namespace or "",
        name=meta.name or "",
        service_account=pod.spec.service_account_name or "default",
        interceptor=injected_interceptor(pod),
        node=pod.spec.node_name or "",
        expires_at=now + timedelta(seconds=LIFETIME_S),
        nonce=nonce,
    )


class Issuer:
    """Reads pods as they are now, and signs for those that may have a registration. `now` has a zone."""

    def __init__(
        self,
        client: ApiClient,
        view: View,
        refresh: Refresh,
        signing_key: Callable[[], SigningKey],
        now: Callable[[], datetime],
        *,
        nonce: Callable[[], str] = lambda: secrets.token_hex(NONCE_BYTES),
    ) -> None:
        self._client, self._view, self._refresh = client, view, refresh
        self._signing_key, self._now, self._nonce = signing_key, now, nonce

    async def live(self, namespace: str, name: str) -> Pod:
        """The pod as the API server has it. Raises Refused: NOT_FOUND, or UNAVAILABLE."""
        try:
            raw = await self._client.get(paths.pod(namespace, name))
        except ApiError as error:
            if error.code is Code.NOT_FOUND:
                raise
            raise unasked(error) from None
        try:
            pod = read_pod(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Refused(Code.UNAVAILABLE, f"pod {namespace}/{name}", "the API server sent no pod") from None
        if (pod.metadata.namespace, pod.metadata.name) != (namespace, name) or not pod.metadata.uid:
            raise Refused(Code.UNAVAILABLE, f"pod {namespace}/{name}", "the API server sent another object")
        return pod

    async def issue(self, pod: Pod) -> SignedRegistration:
        """The signed registration of a live, bound pod. Raises Refused with the field that stands against it."""
        try:
            require_given(pod, self._view)
        except Refused as refused:
            if refused.code is not Code.PERMISSION_DENIED:
                raise
            # What the pod itself says is fresh; the rest may have changed since it was seen.
            await self._refresh(pod.metadata.namespace or "", [injected_interceptor(pod)])
            require_given(pod, self._view)
        registration = registration_of(pod, self._now(), self._nonce())
        try:
            return sign_registration(self._signing_key(), registration)
        except Refused as refused:  # about our key, not about the pod
            raise Refused(Code.UNAVAILABLE, f"signing {refused.field}", refused.why, refused.fix) from None


def unasked(error: ApiError) -> Refused:
    """What a node is told where the API server did not answer us: even a 403 was about our rights, not about its."""
    return Refused(Code.UNAVAILABLE, error.field, error.why, error.fix)
