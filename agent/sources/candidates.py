"""Names that may become keys. Pure: time comes in.

Writers make a file under another name and rename it, so a name that was never a key must stay for a while, without
going away in between, before it is one.
"""

from __future__ import annotations

SETTLE_S = 0.05
"""How long a name must stay, in seconds. No known key waits for this."""


class Candidates:
    """New names in a secret's folder, and since when each is there."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def came(self, name: str, now_s: float) -> None:
        """The name is there; the time counts from the first call since it last went."""
        self._since.setdefault(name, now_s)

    def went(self, name: str) -> None:
        """The name is gone."""
        self._since.pop(name, None)

    def settled(self, now_s: float) -> set[str]:
        """Take out the names that have stayed long enough."""
        due = {name for name, since in self._since.items() if since + SETTLE_S <= now_s}
        for name in due:
            del self._since[name]
        return due

    def next_s(self) -> float | None:
        """When the next name will have stayed long enough, None where there is none."""
        return min(self._since.values()) + SETTLE_S if self._since else None

    def clear(self) -> None:
        """Forget all: the folder is another one."""
        self._since.clear()
