"""What the door to Vault says, as metrics, a condition and log lines. Each secret's own trouble is told by rotation."""

from __future__ import annotations

from agent.observe.conditions import Reason
from agent.sources.vault.errors import VaultError
from agent.telling import Telling
from agent.vault_ref import SOURCE, Identity
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

log = get_logger("vault")


class VaultTelling:
    """Implements `agent.sources.vault.events.VaultEvents`."""

    def __init__(self, telling: Telling) -> None:
        self._metrics, self._conditions = telling.metrics, telling.conditions

    def failed(self, error: VaultError) -> None:
        """A request or a login failed."""
        self._metrics.source_error(SOURCE, error.kind)

    def went_down(self, error: VaultError) -> None:
        """Nothing is asked until it serves again. What began the outage is no failure of a request besides."""
        self._metrics.source_error(SOURCE, error.kind)
        self._conditions.hold(Reason.SOURCE_DOWN, SOURCE, str(error))
        log.warning(Event.SOURCE_DOWN, source=SOURCE, reason=error.kind, **problem(error))

    def came_up(self, away_s: float) -> None:
        """It serves again."""
        self._metrics.source_away(SOURCE, away_s)
        self._conditions.clear(Reason.SOURCE_DOWN, SOURCE)
        log.info(Event.SOURCE_UP, source=SOURCE, duration_ms=int(away_s * 1000))

    def logged_in(self, identity: Identity, *, again: bool) -> None:
        """A token was given."""
        self._metrics.source_login(SOURCE, "again" if again else "first")
        log.info(Event.LOGGED_IN, source=SOURCE, identity=str(identity), fresh=not again)

    def token_failing(self, identity: Identity, error: Exception) -> None:
        """Its token cannot be renewed, replaced, revoked or kept."""
        self._metrics.source_login(SOURCE, "failing")
        log.warning(Event.LOGIN_FAILING, source=SOURCE, identity=str(identity), **problem(error))
