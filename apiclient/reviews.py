"""What is asked about a token, and what is answered. Pure; the request goes to `paths.token_reviews()`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from kernelsecret.errors import Code, Refused

EXTRA_POD: Final = "authentication.kubernetes.io/pod-name"
EXTRA_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
EXTRA_NODE: Final = "authentication.kubernetes.io/node-name"
"""What a token says that is bound to a pod: the pod, and the node that it runs on."""

_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, tuple[str, ...]] | None = None


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] | None = None


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


_reviews = msgspec.json.Decoder(_Review)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Whose token it is. `audiences` are those of the asked ones that it is for."""

    authenticated: bool
    username: str = ""
    audiences: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)

    def only(self, name: str) -> str:
        """The one value that is said under a name, "" where there is none or several."""
        values = self.extra.get(name, ())
        return values[0] if len(values) == 1 else ""


def review_of(token: str, audience: str = "") -> bytes:
    """The question, as JSON. Without an audience the API server takes its own."""
    spec: dict[str, object] = {"token": token}
    if audience:
        spec["audiences"] = [audience]
    return msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec})


def read_review(answer: bytes) -> Reviewed:
    """What was answered. Raises Refused (UNAVAILABLE) for what is no answer; it holds nothing of it."""
    try:
        status = _reviews.decode(answer).status
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.UNAVAILABLE, "TokenReview", "the API server's answer cannot be read") from None
    return Reviewed(status.authenticated, status.user.username, status.audiences or (), status.user.extra or _NOTHING)
