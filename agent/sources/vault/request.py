"""What is asked of Vault, as bytes: paths that lead nowhere else, headers that hold one line each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, urlencode

from agent.sources.vault.errors import Kind, VaultError
from kernelsecret.problems import quoted


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is quoted and begins with /v1/; `body` is JSON."""

    method: str
    path: str
    token: str = field(default="", repr=False)
    namespace: str = ""
    body: bytes | None = field(default=None, repr=False)
    once: bool = False
    """Each time it is sent something is made: it goes on a connection of its own, and is not sent again where that is
    cut."""

    def to(self, host: str) -> bytes:
        """The bytes for a server, which it is told by this name."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", "X-Vault-Request: true"]
        if self.token:
            lines.append(f"X-Vault-Token: {self.token}")
        if self.namespace:
            lines.append(f"X-Vault-Namespace: {self.namespace}")
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        text = "\r\n".join(lines)
        if not text.isascii() or text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1:
            raise VaultError(Kind.BAD_REQUEST, "source.vault", "has characters that no request can hold")
        return text.encode() + b"\r\n\r\n" + (self.body or b"")


def api_path(path: str, query: Mapping[str, str]) -> str:
    """`/v1/...` of a path of Vault's API. Raises VaultError for one that would lead elsewhere."""
    return f"{_quoted(path)}?{urlencode(query)}" if query else _quoted(path)


@lru_cache(4096)
def _quoted(path: str) -> str:
    *folders, last = path.split("/")
    if not path or any(part in ("", ".", "..") for part in folders) or last in (".", ".."):
        why = f"{quoted(path)} is no path of Vault's API"
        raise VaultError(Kind.BAD_REQUEST, "source.vault.path", why, "like secret/data/payments/db, without `/v1/`")
    return "/v1/" + quote(path, safe="/-._~:@!$&'()*+,;=")
