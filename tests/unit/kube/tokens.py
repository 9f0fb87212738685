"""Tokens as kubelet brings them, but unsigned: what they say is what a test is about."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any

from agent.model import PodRef

POD = PodRef("payments", "api-0", "uid-1", "api")
NODE = "node-1"


def claims(audience: str = "vault", **changed: Any) -> dict[str, Any]:
    """The claims of the pod's own token; `changed` by dotted names with `__` for the dot."""
    made: dict[str, Any] = {
        "aud": [audience],
        "exp": int(time.time()) + 600,
        "iss": "https://kubernetes.default.svc",
        "sub": "system:serviceaccount:payments:api",
        "kubernetes.io": {
            "namespace": "payments",
            "serviceaccount": {"name": "api", "uid": "uid-a"},
            "pod": {"name": "api-0", "uid": "uid-1"},
            "node": {"name": NODE, "uid": "uid-n"},
        },
    }
    for path, value in changed.items():
        *way, last = path.split("__")
        part = made if not way else made["kubernetes.io"]
        for name in way[1:]:
            part = part[name]
        if value is None:
            part.pop(last, None)
        else:
            part[last] = value
    return made


def token(audience: str = "vault", *, signature: str = "canary-c0ffee", **changed: Any) -> str:
    """As a JWT."""
    return raw_token(json.dumps(claims(audience, **changed)).encode(), signature)


def raw_token(payload: bytes, signature: str = "canary-c0ffee") -> str:
    """A JWT of any payload."""
    head = urlsafe_b64encode(b'{"alg":"ES256"}').rstrip(b"=").decode()
    return f"{head}.{urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"
