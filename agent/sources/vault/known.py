"""Every secret that is looked after, by its reference, its path and who reads it. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from agent.model import SecretRef
from agent.sources.vault.watched import Watched
from agent.vault_ref import Identity

K = TypeVar("K")


class Known:
    """An index for each question. What is listed by nothing any more leaves nothing behind."""

    def __init__(self) -> None:
        self._by_ref: dict[SecretRef, Watched] = {}
        self._by_path: dict[str, set[Watched]] = {}
        self._by_identity: dict[Identity, set[Watched]] = {}

    def add(self, watched: Watched) -> None:
        """Its reference must not be known yet."""
        self._by_ref[watched.asked.ref] = watched
        self._by_path.setdefault(_plain(watched.asked.path), set()).add(watched)
        self._by_identity.setdefault(watched.asked.identity, set()).add(watched)

    def drop(self, watched: Watched) -> None:
        """It must be known."""
        del self._by_ref[watched.asked.ref]
        _unlist(self._by_path, _plain(watched.asked.path), watched)
        _unlist(self._by_identity, watched.asked.identity, watched)

    def get(self, ref: SecretRef) -> Watched | None:
        """The one of this reference."""
        return self._by_ref.get(ref)

    def at(self, path: str) -> tuple[Watched, ...]:
        """All that are read from this path of Vault's API, by whomever."""
        return tuple(self._by_path.get(_plain(path), ()))

    def of(self, identity: Identity) -> tuple[Watched, ...]:
        """All that are read as somebody."""
        return tuple(self._by_identity.get(identity, ()))

    def __contains__(self, watched: Watched) -> bool:
        return self._by_ref.get(watched.asked.ref) is watched

    def __iter__(self) -> Iterator[Watched]:
        return iter(tuple(self._by_ref.values()))


def _plain(path: str) -> str:
    return path.strip("/")


def _unlist(index: dict[K, set[Watched]], key: K, watched: Watched) -> None:
    index[key].discard(watched)
    if not index[key]:
        del index[key]
