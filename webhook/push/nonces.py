"""Nonces that were used. In memory, bounded for each sender, so that none can make those of others be forgotten.

What falls out is still refused: a push that is not newer than the last one of its sender and secret is not taken.
"""

from __future__ import annotations

from typing import Final

from kernelsecret.push import HEADER_NONCE
from webhook.push.outcomes import Outcome, PushRefused

MOST: Final = 8192
"""Of one sender; some 100 bytes each."""


class Nonces:
    """Use it with proven senders only, whose number is bounded."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._used: dict[str, dict[str, None]] = {}

    def require_new(self, sender: str, nonce: str) -> None:
        """Raises PushRefused where it was used before."""
        if nonce in self._used.get(sender, ()):
            why, fix = "was used before", "make a random one for each push, and sign again"
            raise PushRefused(Outcome.REPLAYED, HEADER_NONCE, why, fix)

    def use(self, sender: str, nonce: str) -> None:
        """Remember it."""
        used = self._used.setdefault(sender, {})
        if len(used) >= self._most:
            del used[next(iter(used))]
        used[nonce] = None

    def __len__(self) -> int:
        return sum(map(len, self._used.values()))
