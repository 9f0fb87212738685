"""One look at whether Vault serves: without a token, and short."""

from __future__ import annotations

from typing import Final

import msgspec

from agent.sources.vault.answers import UNREADABLE
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.replies import health_problem
from agent.sources.vault.reply_parser import Reply
from agent.sources.vault.request import Request
from agent.sources.vault.wire import Wire

WITHIN_S: Final = 2.0
_HEALTH: Final = Request("GET", "/v1/sys/health")
_LEADER: Final = Request("GET", "/v1/sys/leader")


class _Leader(msgspec.Struct, frozen=True):
    is_self: bool = False
    leader_address: str = ""


async def look(wire: Wire) -> VaultError | None:
    """None where it serves, by itself or as a standby of a server that does."""
    try:
        reply = await wire.ask(_HEALTH, connect_s=WITHIN_S, whole_s=WITHIN_S)
        problem = health_problem(reply, wire.where)
        if problem is None and reply.status != 200:
            return _without_leader(await wire.ask(_LEADER, connect_s=WITHIN_S, whole_s=WITHIN_S), wire.where)
    except VaultError as error:
        return error
    return problem


def _without_leader(reply: Reply, where: str) -> VaultError | None:
    try:
        leader = msgspec.json.decode(reply.body, type=_Leader)
    except UNREADABLE:
        leader = _Leader()
    if leader.leader_address or leader.is_self:
        return None
    return VaultError(Kind.STANDBY, where, "it is a standby, and no server is active", "see Vault's log", certain=True)
