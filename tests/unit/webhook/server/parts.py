"""The application over a view and keys that a test decides about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kernelsecret.errors import Code, Refused
from tests.unit.webhook.builders import view
from webhook.admission.answer import Answer
from webhook.admission.binding import binding
from webhook.admission.mutate import mutate
from webhook.admission.validate import validate
from webhook.observe.metrics import Metrics
from webhook.observe.records import Reviewed
from webhook.policy.view import View
from webhook.server.admission import BIND, Door
from webhook.server.app import App
from webhook.server.readiness import Readiness

LIMIT = 3 << 20


@dataclass
class Known:
    """What readiness asks of the view."""

    unsynced: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    ages_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Keys:
    """What readiness asks of the keeper."""

    is_ready: bool = True

    def problems(self) -> list[Refused]:
        return [] if self.is_ready else [Refused(Code.UNAVAILABLE, "Secret keys", "there are no keys yet")]


@dataclass
class Parts:
    """All that the application is made of."""

    known: Known = field(default_factory=Known)
    keys: Keys = field(default_factory=Keys)
    metrics: Metrics = field(default_factory=Metrics)
    records: list[Reviewed] = field(default_factory=list)

    def app(self, seen: View | None = None) -> App:
        looked_at = seen or view()
        self.readiness = Readiness(self.known, self.keys)

        def door(name: str, judge: Callable[[bytes], Answer]) -> Door:
            return Door(name, judge, self.metrics, self.records.append, max_body=LIMIT)

        doors = {
            "/mutate": door("mutate", lambda sent: mutate(sent, looked_at, limit=LIMIT)),
            "/validate": door("validate", lambda sent: validate(sent, looked_at, limit=LIMIT)),
            "/bind": door(BIND, lambda sent: binding(sent, lambda hint: True, limit=LIMIT)),
        }
        return App(doors, self.readiness, self.metrics)
