"""What the door to Vault tells the rest of the agent."""

from __future__ import annotations

from typing import Protocol

from agent.sources.vault.errors import VaultError
from agent.vault_ref import Identity


class VaultEvents(Protocol):
    """Metrics, conditions and log lines are made of these. Called on the event loop, and must not fail."""

    def failed(self, error: VaultError) -> None:
        """A request or a login failed: once for each."""

    def went_down(self, error: VaultError) -> None:
        """Vault cannot be reached or does not serve: nothing is asked until it does. Once for each outage."""

    def came_up(self, away_s: float) -> None:
        """It serves again, after that many seconds."""

    def logged_in(self, identity: Identity, *, again: bool) -> None:
        """A token was given; `again` where it takes the place of an earlier one."""

    def token_failing(self, identity: Identity, error: Exception) -> None:
        """Its token cannot be renewed, replaced, revoked or kept in the Safe; it is tried again."""
