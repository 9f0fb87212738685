"""Nobody listens to the door to Vault."""

from __future__ import annotations

from agent.sources.vault.errors import VaultError
from agent.vault_ref import Identity


class Silence:
    """Implements VaultEvents: nobody listens."""

    def failed(self, error: VaultError) -> None:
        """Not told."""

    def went_down(self, error: VaultError) -> None:
        """Not told."""

    def came_up(self, away_s: float) -> None:
        """Not told."""

    def logged_in(self, identity: Identity, *, again: bool) -> None:
        """Not told."""

    def token_failing(self, identity: Identity, error: Exception) -> None:
        """Not told."""
