"""What is said on standard error while COMMAND runs: seldom, once for each outage, and never a value."""

from __future__ import annotations

import logging
import sys
import threading

from agent.sources.vault.errors import VaultError
from agent.vault_ref import Identity
from kernelsecret.cli.failures import say
from kernelsecret.cli.run.login import in_our_words
from kernelsecret.errors import said


def hush() -> None:
    """Nobody else says anything: what libraries and Python itself print of a failure may have a value in it."""
    logging.disable()
    sys.unraisablehook = lambda found: None
    threading.excepthook = lambda found: None


class Telling:
    """Implements `agent.sources.vault.events.VaultEvents`."""

    def __init__(self) -> None:
        self.is_running = False
        """Whether COMMAND has been given its values: before, what is wrong is said of each reference."""
        self.down = ""
        """Why Vault is away; what each secret says of that is not said again."""
        self._failing = ""

    def failed(self, error: VaultError) -> None:
        """Each secret says what it met."""

    def went_down(self, error: VaultError) -> None:
        """Nothing is asked until it serves again."""
        self.down = str(error)
        if self.is_running:
            say(f"Vault is away: {in_our_words(str(error))}; COMMAND keeps the last values")

    def came_up(self, away_s: float) -> None:
        """It serves again."""
        self.down = ""
        if self.is_running:
            say(f"Vault serves again after {away_s:.0f} s")

    def logged_in(self, identity: Identity, *, again: bool) -> None:
        """Nobody need know."""
        self._failing = ""

    def token_failing(self, identity: Identity, error: Exception) -> None:
        """The token cannot be renewed, replaced or revoked."""
        text = in_our_words(said(error))
        if self.is_running and text != self._failing:
            self._failing = text
            say(f"the login to Vault is failing ({identity}): {text}")
