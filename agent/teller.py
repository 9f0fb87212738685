"""Who hears how the source of a secret does: those who show it. No I/O here."""

from __future__ import annotations

from collections.abc import Collection

from agent.model import SecretRef


class Teller:
    """This one tells nobody."""

    def down(self, ref: SecretRef, why: str) -> None:
        """It cannot be read; the last good version is served. Said again while that lasts."""

    def up(self, ref: SecretRef) -> None:
        """It can be read again."""

    def not_shown(self, ref: SecretRef, why: str, behind: Collection[str] | None = None) -> None:
        """A new version cannot be shown, by the volumes of these ids or by none; the last good one is served."""

    def shown(self, ref: SecretRef) -> None:
        """A new version is shown."""

    def polled(self, ref: SecretRef, text: str) -> None:
        """It is read at intervals, because it cannot be watched; `text` says what would mend that."""

    def forget(self, ref: SecretRef) -> None:
        """Nobody shows it any more."""
