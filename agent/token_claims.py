"""A pod's service-account tokens judged by what they say of themselves, where no API server can be asked.

That catches mistakes, and a token that was meant for another pod. It proves nothing: who issued the token is for the
one to verify whom it is presented to.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping

import msgspec

from agent.credentials import PodToken
from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

MAX_TOKEN = 64 * 1024


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Bound(msgspec.Struct, frozen=True):
    namespace: str = ""
    pod: _Named = _Named()
    serviceaccount: _Named = _Named()
    node: _Named = _Named()


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    exp: float
    aud: list[str] | str = ""
    bound: _Bound = msgspec.field(name="kubernetes.io", default=_Bound())


_decoder = msgspec.json.Decoder(_Claims)


class ClaimsCheck:
    """Verifies tokens by their claims, see `agent.pod_tokens.Verify`."""

    def __init__(self, node: str, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._node, self._clock = node, wall_clock

    async def __call__(self, pod: PodRef, tokens: Mapping[str, str]) -> Mapping[str, PodToken]:
        """Each token with its end. Raises Refused (PERMISSION_DENIED) with the claim named, never shown."""
        return {audience: self._checked(pod, audience, token) for audience, token in tokens.items()}

    def _checked(self, pod: PodRef, audience: str, token: str) -> PodToken:
        at = f"serviceAccount.tokens[{quoted(audience)}]"
        claims = _claims(token)
        if claims is None:
            raise Refused(Code.PERMISSION_DENIED, at, "is not a service-account token", "look at how kubelet got it")
        bound = claims.bound
        pairs = (
            ("sub", claims.sub, f"system:serviceaccount:{pod.namespace}:{pod.service_account}"),
            ("kubernetes.io.namespace", bound.namespace, pod.namespace),
            ("kubernetes.io.serviceaccount.name", bound.serviceaccount.name, pod.service_account),
            ("kubernetes.io.pod.name", bound.pod.name, pod.name),
            ("kubernetes.io.pod.uid", bound.pod.uid, pod.uid),
            ("kubernetes.io.node.name", bound.node.name or self._node, self._node),
        )
        for claim, said, wanted in pairs:
            if said != wanted:
                raise Refused(Code.PERMISSION_DENIED, f"{at}.{claim}", f"is not the live pod's {quoted(wanted)}")
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if audience and audience not in audiences:
            raise Refused(Code.PERMISSION_DENIED, f"{at}.aud", f"is not {quoted(audience)}")
        if claims.exp <= self._clock():
            raise Refused(Code.PERMISSION_DENIED, f"{at}.exp", "it has ended", "look at the node's clock")
        return PodToken(token, claims.exp)


def _claims(token: str) -> _Claims | None:
    """What a JWT says; None for anything else. The parsers' own errors are dropped here, with what they may quote."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_TOKEN:
        return None
    try:
        return _decoder.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError, RecursionError):
        return None
