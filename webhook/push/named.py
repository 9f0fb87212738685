"""Which secrets interceptors name now: asked at each push, made anew only when an interceptor has changed."""

from __future__ import annotations

from kernelsecret.push import PushedSecret, named_secrets
from webhook.cluster.view import ClusterView


class Named:
    """Call it for the set, None before the interceptors were listed. One that cannot work names nothing."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._generation = -1
        self._secrets: frozenset[PushedSecret] = frozenset()

    def __call__(self) -> frozenset[PushedSecret] | None:
        if not self._view.interceptor_reflector.synced:
            return None
        known = self._view.interceptors
        if known.generation != self._generation:
            self._secrets = named_secrets(one.spec for one in known)
            self._generation = known.generation
        return self._secrets
