"""A starting agent takes up the secrets of the volumes that it took over: what was shown goes on being followed."""

from __future__ import annotations

import asyncio

from agent.model import SecretRef
from agent.secrets.rotation import Rotator
from kernelsecret.errors import Refused

AT_ONCE = 16


async def follow(rotator: Rotator, refs: set[SecretRef]) -> None:
    """Watch and read each of them; what cannot be read is told, and its source tries on."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def take_up(ref: SecretRef) -> None:
        async with slots:
            try:
                await rotator.fetch(ref)
            except Refused as refusal:
                rotator.failed(ref, str(refusal))

    await asyncio.gather(*(take_up(ref) for ref in sorted(refs)))
