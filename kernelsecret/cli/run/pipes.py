"""Values through pipes: each once. The bytes go from the memory file into the pipe within the kernel."""

from __future__ import annotations

import os
from typing import Final

_PIECE: Final = 1 << 20
_SPLICE_F_NONBLOCK: Final = 2


class Feed:
    """One value on its way. Longer ones than the pipe holds go on as it is read: `fd` is to be polled for writing."""

    def __init__(self, value: int) -> None:
        """`value` is a descriptor of the memory file; it stays the caller's."""
        self._value = os.dup(value)
        self._at = 0
        self.reading, self.fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)

    def started(self) -> None:
        """COMMAND has the end for reading."""
        os.close(self.reading)

    def push(self) -> bool:
        """As much as fits. Whether that was the last of it, or nobody reads any more: `fd` is closed then."""
        try:
            while moved := os.splice(self._value, self.fd, _PIECE, offset_src=self._at, flags=_SPLICE_F_NONBLOCK):
                self._at += moved
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass
        self.close()
        return True

    def close(self) -> None:
        """Let go of the value and the end for writing."""
        os.close(self._value)
        os.close(self.fd)
