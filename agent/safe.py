"""What every safe has in common: how much fits in it, and the one that lives and dies with the agent's process.

`agent.model.Safe` is the interface, `agent.kernel.safe.KernelSafe` the one that outlives the agent, and
`agent.node_kernel.open_safe` opens the best that the node can have. What is kept by whom: `vault-token:<identity>`,
`vault-lease:<ref>`.
"""

from __future__ import annotations

from agent.model import Safe
from kernelsecret.errors import Code, Refused

MOST_NAME_BYTES = 128
MOST_BLOB_BYTES = 64 * 1024
MOST_BYTES = 16 * 1024 * 1024
"""Of all blobs together, each counted with OVERHEAD_BYTES."""
OVERHEAD_BYTES = 2048
"""What the kernel spends on a blob beside its bytes: a map, an inode, a directory entry."""

FIELD = "safe"


class Room:
    """How full a safe is. Pure."""

    def __init__(self) -> None:
        self.used = 0

    def cost(self, name: str, blob: bytes) -> int:
        """What a blob takes of the whole. Raises Refused where it can fit in no safe."""
        encoded = len(name.encode())
        if not 0 < encoded <= MOST_NAME_BYTES:
            raise Refused(
                Code.INVALID_ARGUMENT,
                FIELD,
                f"a name of {encoded} bytes, where 1 to {MOST_NAME_BYTES} fit",
                "use a digest of what does not fit",
            )
        if len(blob) > MOST_BLOB_BYTES:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                FIELD,
                f"what is to be kept has {len(blob)} bytes, and {MOST_BLOB_BYTES} fit",
                "read less of the secret, or from a path that answers with less",
            )
        return encoded + len(blob) + OVERHEAD_BYTES

    def check(self, cost: int, instead_of: int) -> None:
        """Refuse what would overfill it."""
        if self.used + cost - instead_of > MOST_BYTES:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                FIELD,
                f"{self.used} bytes of {MOST_BYTES} are in use by tokens and leases of this node",
                "move pods that use secrets to another node",
            )

    def change(self, cost: int, instead_of: int) -> None:
        """Something was kept (`cost`), or is not any more (`instead_of`)."""
        self.used += cost - instead_of


class MemorySafe(Safe):
    """For nodes without BPF: what it holds ends with the process, so an agent that starts again logs in and mints anew.

    `outlives_agent` tells it from the other.
    """

    outlives_agent = False

    def __init__(self) -> None:
        self._room = Room()
        self._blobs: dict[str, tuple[bytearray, int]] = {}

    def put(self, name: str, blob: bytes) -> None:
        """Store or replace."""
        cost = self._room.cost(name, blob)
        _, before = self._blobs.get(name, (b"", 0))
        self._room.check(cost, before)
        self.drop(name)
        self._blobs[name] = (bytearray(blob), cost)
        self._room.change(cost, 0)

    def get(self, name: str) -> bytes | None:
        """What was stored under the name."""
        held = self._blobs.get(name)
        return bytes(held[0]) if held else None

    def drop(self, name: str) -> None:
        """Wipe and forget."""
        blob, cost = self._blobs.pop(name, (bytearray(), 0))
        blob[:] = bytes(len(blob))
        self._room.change(0, cost)

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._blobs)
