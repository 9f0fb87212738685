"""hvac over our own wire: what it asks has an end of its own."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from agent.sources.vault import bridge
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.reply_parser import Reply
from agent.sources.vault.request import Request


async def test_what_is_never_answered_is_given_up_and_not_left_under_way() -> None:
    given_up = asyncio.Event()

    async def silent(_request: Request) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError("not reached")

    async def at_once() -> None:
        return None

    def renewal(adapter: Any) -> Any:
        from hvac.api.auth_methods import Token

        tokens: Any = Token(adapter=adapter)
        return tokens.renew_self()

    with patch.object(bridge, "LONGEST_S", 0.02):
        made = bridge.Bridge(silent)
        with pytest.raises(VaultError) as met:
            await made.run(renewal, at_once, "canary", "")
    assert met.value.kind is Kind.TIMEOUT
    assert "canary" not in str(met.value)
    async with asyncio.timeout(5):
        await given_up.wait()
    made.close()
