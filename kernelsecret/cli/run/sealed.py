"""Values in memory files that nobody can change: only who may look into the process that holds one can open it."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from typing import Final

_MFD_NOEXEC_SEAL: Final = 0x0008  # Linux 6.3: what cannot be executed, nor be made so
_MAP_LOCKED: Final = 0x2000
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Sealed:
    """One value. `fd` is a descriptor of it, closed over an exec."""

    def __init__(self, value: bytes) -> None:
        self.fd = _created()
        left = memoryview(value)
        while left:
            left = left[os.write(self.fd, left) :]
        os.fchmod(self.fd, 0o400)  # programs look at the mode of a private key, and its owner is who runs COMMAND
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._kept = _kept_from_swap(self.fd, len(value))

    def close(self) -> None:
        """Let go of it; who has opened it goes on with it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._kept is not None:
            self._kept.close()


def _created() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("kernelsecret", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("kernelsecret", flags)


def _kept_from_swap(fd: int, size: int) -> mmap.mmap | None:
    """What keeps the pages in memory for as long as it is open, where the limit (RLIMIT_MEMLOCK) lets it."""
    if not size:
        return None
    with suppress(OSError):
        kept = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE | _MAP_LOCKED, prot=mmap.PROT_READ)
        kept.madvise(mmap.MADV_DONTDUMP)
        return kept
    return None
