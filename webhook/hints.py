"""What admission tells the hand-over: a pod is about to be bound. Types only, no I/O here."""

from __future__ import annotations

from typing import NamedTuple


class Hint(NamedTuple):
    """Somebody said that this pod goes to this node. A claim: whoever reaches the port can post one.

    `uid` is the pod's where the binding named it (kube-scheduler does).
    """

    namespace: str
    name: str
    uid: str | None
    node: str
