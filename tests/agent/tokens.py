"""Service-account tokens as kubelet brings them, for agents that ask no API server: nobody verifies their signature."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from agent.model import PodRef
from tests.agent.tree import NODE


def claims(pod: PodRef, *, node: str = NODE) -> dict[str, Any]:
    """What such a token says of its pod."""
    return {
        "sub": f"system:serviceaccount:{pod.namespace}:{pod.service_account}",
        "kubernetes.io": {
            "namespace": pod.namespace,
            "pod": {"name": pod.name, "uid": pod.uid},
            "serviceaccount": {"name": pod.service_account, "uid": "5e3f"},
            "node": {"name": node, "uid": "77a1"},
        },
    }


def token(pod: PodRef, audience: str, *, lives_s: float = 600, mark: str = "", **changes: Any) -> str:
    """A token of the pod's; `mark` tells one from another."""
    now = int(time.time())
    said = {"aud": [audience], "iat": now, "exp": int(now + lives_s), "jti": mark, **claims(pod), **changes}
    return ".".join((_part({"alg": "RS256", "typ": "JWT"}), _part(said), "c2lnbmVk"))


def brought(tokens: dict[str, str]) -> str:
    """As kubelet writes them into the call."""
    return json.dumps(
        {name: {"token": one, "expirationTimestamp": "2099-01-01T00:00:00Z"} for name, one in tokens.items()}
    )


def _part(thing: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(thing).encode()).rstrip(b"=").decode()
