"""What a pod's service-account token says of itself, and whether that is the pod that kubelet asks for. Pure.

Nothing here looks at a signature: that is the API server's to judge (`agent.kube.token_review`), or, where there is
none, of whoever the token is shown to.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from agent.credentials import PodToken
from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

_FIX = "kubelet brings the pod's own token; look at who else can call the driver's socket"


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Kubernetes(msgspec.Struct, frozen=True):
    namespace: str = ""
    serviceaccount: _Named = _Named()
    pod: _Named = _Named()
    node: _Named = _Named()


class Claims(msgspec.Struct, frozen=True):
    """The claims of a token that are looked at. `exp` is in seconds since the epoch, 0 where there is none."""

    sub: str = ""
    aud: tuple[str, ...] | str = ()
    exp: float = 0.0
    kubernetes: _Kubernetes = msgspec.field(default=_Kubernetes(), name="kubernetes.io")

    @property
    def audiences(self) -> tuple[str, ...]:
        """For whom it is."""
        return (self.aud,) if isinstance(self.aud, str) else self.aud


_claims = msgspec.json.Decoder(Claims)


@dataclass(frozen=True, slots=True)
class Bound:
    """Whose token it is: what must be the live pod's. `node` is "" where the token does not say."""

    user: str
    pod: str
    pod_uid: str
    node: str


def at(audience: str) -> str:
    """The field of the request that a token came in, for people."""
    return f"serviceAccount.tokens[{quoted(audience)}]"


def denied(field: str, why: str, fix: str = _FIX) -> Refused:
    """Never with anything of a token in it but names."""
    return Refused(Code.PERMISSION_DENIED, field, why, fix)


def claims_of(token: str, audience: str) -> Claims:
    """What a token says, unverified. Raises Refused, which holds nothing of the token, for what is none."""
    parts = token.split(".")
    try:
        if len(parts) != 3:
            raise ValueError
        text = parts[1].encode("ascii")
        return _claims.decode(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise denied(at(audience), "is not a token of a service account (a JWT)") from None


def user_of(pod: PodRef) -> str:
    """The pod's account as the API server names it."""
    return f"system:serviceaccount:{pod.namespace}:{pod.service_account}"


def agree(bound: Bound, pod: PodRef, node: str, audience: str, *, needs_node: bool) -> None:
    """Whether a token is the pod's own, of this node. Raises Refused (PERMISSION_DENIED) with the field named."""
    where = at(audience)
    pairs = [
        ("serviceAccount", bound.user, user_of(pod), "the pod's service account"),
        ("pod.name", bound.pod, pod.name, "the pod's name"),
        ("pod.uid", bound.pod_uid, pod.uid, "the pod's UID"),
    ]
    if bound.node or needs_node:
        pairs.append(("node.name", bound.node, node, "this node"))
    for name, said, truth, what in pairs:
        if said != truth or not truth:
            found = quoted(said) if said else "the token is bound to none, which"
            raise denied(f"{where}.{name}", f"{found} is not {what} {quoted(truth)}")


def ends(claims: Claims, audience: str, now_s: float) -> float:
    """When a token ends. Raises Refused where it has, or never does."""
    if not claims.exp:
        raise denied(f"{at(audience)}.exp", "the token never ends", "kubelet's do")
    if claims.exp <= now_s:
        raise denied(f"{at(audience)}.exp", "the token has ended", "kubelet brings another by itself")
    return claims.exp


def claimed(pod: PodRef, node: str, tokens: Mapping[str, str], *, now_s: float) -> dict[str, PodToken]:
    """The tokens by audience, each judged by its own claims alone: for a node without an API server to ask.

    A forged token passes here, and opens nothing: whoever it is shown to verifies its signature. Raises Refused
    (PERMISSION_DENIED) with the field named.
    """
    found = {}
    for audience, token in tokens.items():
        claims = claims_of(token, audience)
        if audience and audience not in claims.audiences:
            raise denied(f"{at(audience)}.aud", f"the token is not for the audience {quoted(audience)}")
        said = claims.kubernetes
        if f"system:serviceaccount:{said.namespace}:{said.serviceaccount.name}" != claims.sub:
            raise denied(f"{at(audience)}.sub", "the token says two accounts")
        agree(Bound(claims.sub, said.pod.name, said.pod.uid, said.node.name), pod, node, audience, needs_node=False)
        found[audience] = PodToken(token, ends(claims, audience, now_s))
    return found
