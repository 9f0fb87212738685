"""What Vault was asked, by its own audit log: Vault writes a request down before it answers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

ROOT_NAME: Final = "root"


@dataclass(frozen=True)
class Request:
    """One request that Vault has answered.

    `path` has the mount in it and no `v1/`, like `kv-1/data/app`. `operation` is Vault's: read, list, create, update,
    delete; a login and a renewal are `update`. `error` is empty where it was granted. `who` is the display name of
    the token, empty where there was none. Values are not in it: Vault writes down HMACs of them.
    """

    at: datetime
    operation: str
    path: str
    who: str
    policies: tuple[str, ...]
    error: str
    lease: str
    """Lease of a secret that was made, or renewed; or empty."""
    is_login: bool
    """Whether it made a token; one that was refused did not, nor does a renewal."""


class Audit:
    """The log of one server, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def mark(self) -> int:
        """Where the log ends now: for `requests(since=...)`."""
        return self.file.stat().st_size if self.file.exists() else 0

    def requests(self, under: str = "", *, since: int = 0, roots: bool = False) -> list[Request]:
        """All answered requests, oldest first, whose path begins with `under`; with those of the root token if `roots`.

        Tests that share a server tell their requests by their own mount: `requests(kv)`, `requests(f"{kv}/metadata/")`.
        """
        if not self.file.exists():
            return []
        with self.file.open("rb") as log:
            log.seek(since)
            # The last line may be half written.
            whole = log.read().rpartition(b"\n")[0].splitlines()
        entries = (json.loads(line) for line in whole)
        found = (_request(entry) for entry in entries if entry["type"] == "response")
        return [one for one in found if one.path.startswith(under) and (roots or one.who != ROOT_NAME)]


def _request(entry: Mapping[str, Any]) -> Request:
    asked, auth, answer = entry.get("request", {}), entry.get("auth", {}), entry.get("response", {})
    return Request(
        at=datetime.fromisoformat(entry["time"]),
        operation=asked.get("operation", ""),
        path=asked.get("path", ""),
        who=auth.get("display_name", ""),
        policies=tuple(auth.get("policies", ())),
        error=entry.get("error", "") or ("" if "data" not in answer else _error(answer["data"])),
        lease=answer.get("secret", {}).get("lease_id", ""),
        is_login="auth" in answer and not asked.get("path", "").startswith("auth/token/renew"),
    )


def _error(data: Any) -> str:
    """A refusal that Vault gives as data, which its log has as an HMAC: that there is one is all that is known."""
    return "refused" if isinstance(data, Mapping) and set(data) == {"error"} else ""
