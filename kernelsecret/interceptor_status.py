"""The status of a SecretInterceptor, as the webhook's leader writes it: the types of the wire. docs/interceptor.md says
what they mean to users. No I/O here.
"""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A condition in the shape that `kubectl wait` understands."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class SecretStatus(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """How one of `spec.secrets` does over all pods that show it; never a value."""

    name: str
    pods: int = 0
    up_to_date: int = 0
    """Pods whose readers have all read the newest version."""
    behind: int = 0
    """Pods with a reader that has read an older version last."""
    failing: int = 0
    """Pods that are served the last good version because the source cannot be read."""
    message: str = ""


class InterceptorStatus(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What the parts report; written by us, so fields of a later version are passed over."""

    conditions: tuple[Condition, ...] = ()
    volumes: int = 0
    pods: int = 0
    secrets: tuple[SecretStatus, ...] = ()
