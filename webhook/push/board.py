"""What the ConfigMap of notices says, and what it is to say once more pushes were accepted. Pure.

A push that was taken is never taken again. While it is among its sender's recent ones it is known by its nonce; later
it is older than all of them, and not newer than the last of its secrets. The board is bounded: notices leave it once
their times are refused for their age alone, or to make room; of what made room the senders' times are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from kernelsecret.names import NOTICES_OBJECT
from kernelsecret.push import FIELD_NOTICES, SKEW_S, Board, Notice, PushedSecret
from webhook.push.recent import digest, digests, idle, last, taken

MOST_NOTICES: Final = 512
MOST_BYTES: Final = 512 * 1024
"""Of the board in JSON; a ConfigMap has 1 MiB at most."""
KEPT_NS: Final = (SKEW_S + 60) * 1_000_000_000
"""A time of this age is refused for its age alone, also by a replica whose clock is a minute behind."""


class Told(NamedTuple):
    """A push that was proven: `time_ns` since 1970 by the sender's clock."""

    sender: str
    time_ns: int
    nonce: str
    secrets: tuple[PushedSecret, ...]


class Stored(NamedTuple):
    """The ConfigMap as it is: all but the board is kept as it was read. `is_new`: there is none yet."""

    metadata: msgspec.Raw
    data: Mapping[str, str]
    board: Board
    is_new: bool = False


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: msgspec.Raw
    data: dict[str, str] | None = None


_maps: Final = msgspec.json.Decoder(_ConfigMap)
_boards: Final = msgspec.json.Decoder(Board)


def read_stored(raw: bytes) -> Stored | None:
    """A ConfigMap from its JSON, with an empty board where it has none; None where its board cannot be read. Raises
    msgspec.MsgspecError for what is no ConfigMap."""
    found = _maps.decode(raw)
    metadata, data = found.metadata.copy(), found.data or {}
    text = data.get(FIELD_NOTICES)
    if text is None:
        return Stored(metadata, data, Board())
    try:
        return Stored(metadata, data, _boards.decode(text))
    except (msgspec.MsgspecError, RecursionError):
        return None


def emptied(raw: bytes) -> Stored:
    """The same with nothing on the board, whatever was."""
    found = _maps.decode(raw)
    return Stored(found.metadata.copy(), found.data or {}, Board())


def first(namespace: str) -> Stored:
    """Where there is no ConfigMap yet."""
    metadata = msgspec.Raw(msgspec.json.encode({"name": NOTICES_OBJECT, "namespace": namespace}))
    return Stored(metadata, {}, Board(), is_new=True)


def body_of(stored: Stored) -> bytes:
    """The ConfigMap to write."""
    data = {**stored.data, FIELD_NOTICES: msgspec.json.encode(stored.board).decode()}
    return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": stored.metadata, "data": data})


class Times:
    """When what was told last, of a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._told = {PushedSecret(one.source, one.path): one.told for one in board.notices}
        self._recent: dict[str, frozenset[bytes]] = {}

    def stale(self, told: Told) -> PushedSecret | None:
        """A secret of which this push, or one so much newer that it may be this one, was taken; None where none was."""
        sender, time_ns = told.sender, told.time_ns
        if time_ns <= self._board.floors.get(sender, 0):
            return told.secrets[0]
        recent = self._board.recent.get(sender)
        if recent is not None:
            if sender not in self._recent:
                self._recent[sender] = digests(recent)
            if digest(told.nonce) in self._recent[sender]:
                return told.secrets[0]
            if time_ns > recent.after:
                return None
        return next((one for one in told.secrets if time_ns <= self._told.get(one, _NEVER).get(sender, 0)), None)


_NEVER: Final[Mapping[str, int]] = MappingProxyType({})


def merged(board: Board, accepted: Iterable[Told], now_ns: int) -> Board:
    """The board with what was accepted on it (oldest first), within its bounds."""
    too_old = now_ns - KEPT_NS
    notices = {PushedSecret(one.source, one.path): one for one in board.notices}
    revision = max(now_ns, max((one.revision for one in board.notices), default=0) + 1)
    recent = {sender: idle(one, now_ns) for sender, one in board.recent.items() if last(one) >= too_old}
    for told in accepted:
        recent[told.sender] = taken(recent.get(told.sender), told.time_ns, told.nonce)
        for secret in told.secrets:
            before = notices.pop(secret, None)  # to the end: what is last was told last
            times = {one: time for one, time in before.told.items() if time >= too_old} if before else {}
            times[told.sender] = max(told.time_ns, times.get(told.sender, 0))
            notices[secret] = Notice(source=secret.source, path=secret.path, revision=revision, told=times)
    return _bounded(Board(notices=tuple(notices.values()), floors=board.floors, recent=recent), too_old)


def _bounded(board: Board, too_old: int) -> Board:
    kept = [one for one in board.notices if max(one.told.values(), default=0) >= too_old]
    floors = {sender: time for sender, time in board.floors.items() if time >= too_old}
    recent = board.recent
    excess = len(kept) - MOST_NOTICES
    while True:
        if excess > 0:
            for given_up in kept[:excess]:
                for sender, time in given_up.told.items():
                    floors[sender] = max(time, floors.get(sender, 0))
            kept = kept[excess:]
        made = Board(notices=tuple(kept), floors=floors, recent=recent)
        if len(kept) <= 1 or len(msgspec.json.encode(made)) <= MOST_BYTES:
            return made
        recent = {sender: idle(one) for sender, one in recent.items()}
        excess = max(1, len(kept) // 8)
