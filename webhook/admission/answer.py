"""What an admission endpoint gives back: the bytes, and the few facts that metrics and audit record. No I/O here."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from webhook.policy.steps import Doubt


class Outcome(StrEnum):
    """How a review ended, as metrics count it."""

    INJECTED = "injected"
    NOT_ASKED = "not-asked"
    ALLOWED = "allowed"
    REFUSED = "refused"
    HINTED = "hinted"
    MALFORMED = "malformed"


class Answer(NamedTuple):
    """`body` is an AdmissionReview to be sent with status 200. The facts are safe to log: names, never values.

    `doubt` is set on a refusal that would not be one if the view were newer: read what it names, then ask once more.
    """

    body: bytes
    outcome: Outcome
    uid: str
    operation: str
    resource: str
    namespace: str
    name: str
    dry_run: bool
    rule: str = ""
    message: str = ""
    interceptor: str = ""
    mode: str = ""
    containers: str = ""
    user: str = ""
    doubt: Doubt | None = None
