"""From the status of an answer to what it means, and what would mend it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent.sources.vault.answers import UNREADABLE, Envelope, answer, envelope
from agent.sources.vault.errors import Kind, VaultError, said_by_vault
from agent.sources.vault.reply_parser import Reply
from kernelsecret.problems import quoted

MAX_RETRY_S: Final = 60.0
_SEALED: Final = "Vault is sealed"
_KEPT_MEANWHILE: Final = "the last good values are served meanwhile"


def opened(reply: Reply, what: str) -> Envelope:
    """The answer of a 2xx. Raises VaultError (BAD_ANSWER) where it is not Vault's JSON."""
    if reply.status == 204 or not reply.body:
        return Envelope()
    try:
        return envelope(reply.body)
    except UNREADABLE:
        why = "the answer is not Vault's JSON"
        raise VaultError(Kind.BAD_ANSWER, what, why, "is it Vault that answers at this address?") from None


def words_of(reply: Reply, hide: Iterable[str] = ()) -> str:
    """Vault's own `errors`, fit to be shown; empty where there are none."""
    try:
        return said_by_vault(envelope(reply.body).errors or (), hide)
    except UNREADABLE:
        return ""


def refusal(reply: Reply, where: str, path: str, who: str, *, wrote: bool, hide: Iterable[str] = ()) -> VaultError:
    """The error of an answer that is no 2xx, to a read of (or, with parameters, a write to) a path.

    `who` asked: `auth/kubernetes role payments as payments/app`. `hide` are secrets that were sent.
    """
    status, words = reply.status, words_of(reply, hide)
    told = f" ({words})" if words else ""
    if (whole := _of_vault(status, words, where)) is not None:
        return whole
    field = "source.vault.path"
    if status == 403:
        right = "update" if wrote else "read"
        fix = f"let a policy of the role grant `{right}` on {quoted(path)}"
        return VaultError(Kind.DENIED, field, f"Vault forbids {quoted(path)} to {who}", fix)
    if status == 404:
        fix = "see whether the mount is right (KV v2 has data/ after it), and whether the secret is written"
        found = None
        if (given := _envelope_of(reply)) is not None:
            found = answer(path, given, "")
        return VaultError(Kind.NOT_FOUND, field, f"there is nothing at {quoted(path)}{told}", fix, answer=found)
    if status == 429:
        wait = retry_after_s(reply)
        fix = "raise the quota, or a longer rotation.pollInterval"
        return VaultError(Kind.THROTTLED, where, f"it limits the rate of requests{told}", fix, retry_after_s=wait)
    if status == 405:
        fix = "name a path that can be read, or give source.vault.parameters"
        return VaultError(
            Kind.BAD_REQUEST, field, f"{quoted(path)} cannot be {'written' if wrote else 'read'}{told}", fix
        )
    if 400 <= status < 500:
        fix = "see Vault's words" if words else ""
        return VaultError(Kind.BAD_REQUEST, field, f"Vault refuses {quoted(path)} with {status}{told}", fix)
    why = f"the answer to {quoted(path)} was {status}{told}"
    return VaultError(Kind.UNAVAILABLE, where, why, f"see Vault's log; {_KEPT_MEANWHILE}")


def health_problem(reply: Reply, where: str) -> VaultError | None:
    """What the status of /v1/sys/health means, of a server that is active or a standby: None for those."""
    if reply.status in (200, 429, 473):
        return None
    if reply.status == 404:  # another kind of server: whatever it is, it does not serve secrets
        return VaultError(Kind.BAD_ANSWER, where, "it is no Vault", "see the address", certain=True)
    found = _of_vault(reply.status, _SEALED if reply.status == 503 else "", where)
    return found or VaultError(Kind.UNAVAILABLE, where, f"its health is {reply.status}", "see Vault's log")


def outage(reply: Reply, where: str) -> VaultError | None:
    """What a status tells of Vault as a whole: not certain where it may be the request's own trouble."""
    found = _of_vault(reply.status, words_of(reply), where)
    if found is None and reply.status >= 500:
        return VaultError(Kind.UNAVAILABLE, where, f"the answer was {reply.status}")
    return found


def retry_after_s(reply: Reply) -> float | None:
    """The seconds that Vault asked to wait, at most a minute."""
    text = reply.header(b"retry-after")
    return min(float(text[:6]), MAX_RETRY_S) if text.isascii() and text.isdigit() else None


def _of_vault(status: int, words: str, where: str) -> VaultError | None:
    """The error of a Vault that serves nobody, None where it may be this request's own."""
    if status == 503 and _SEALED.lower() in words.lower():
        return VaultError(Kind.SEALED, where, "it is sealed", f"unseal it; {_KEPT_MEANWHILE}", certain=True)
    if status == 501:
        return VaultError(Kind.UNAVAILABLE, where, "it is not initialised", "initialise it", certain=True)
    if status in (472, 473):
        why = f"it is a standby that serves no secrets ({status})"
        fix = "let the address lead to the active server"
        return VaultError(Kind.STANDBY, where, why, fix, certain=status == 472)
    return None


def _envelope_of(reply: Reply) -> Envelope | None:
    try:
        return envelope(reply.body)
    except UNREADABLE:
        return None
