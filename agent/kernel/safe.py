"""Blobs in BPF maps that only the agent has: tokens and leases outlive its process, and are in no file.

Each blob is an array map of one element, pinned in the agent's own bpffs as `<digest of its name>_<serial>`. A blob is
written into a map that nobody can find yet; the pin is the one step that makes it current, because the highest serial
of a name counts. Then the earlier one is overwritten where it is, and only then unpinned: an array never moves its
element, so no copy of it is left in a map. Where the agent dies between two steps the next one finds the old blob or
the new one, and wipes what does not count.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.kernel import calls
from agent.model import Safe
from agent.safe import FIELD, Room
from kernelsecret.errors import Code, Refused

MAP_NAME = "ks_safe"
FORMAT = 1
"""Raised with every change of what is in a map; a safe of another format is refused, never touched."""
HEAD = struct.Struct("<4sIII")
"""Mark, format, bytes of the name, bytes of the blob; then the name and the blob."""
MARK = b"KSsf"

FULL = (errno.ENOMEM, errno.ENOSPC, errno.E2BIG, errno.EMFILE, errno.ENFILE)
_PIN = re.compile(r"(?P<digest>[0-9a-f]{32})_(?P<serial>[0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class _Held:
    """The pin that counts for a name, and what its blob takes of the room."""

    pin: Path
    cost: int


class KernelSafe(Safe):
    """An `agent.model.Safe` below `folder`, which is in a bpffs that no workload sees. Use it on one thread.

    One at a time for a folder: what is there is looked at once, when it is opened. Raises KernelError or OSError where
    the node has no BPF, Refused where another format is found.
    """

    outlives_agent = True

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._room = Room()
        self._held: dict[str, _Held] = {}
        self._unreachable: list[Path] = []
        self._serial = 0
        os.close(_new_map(HEAD.size))  # by effect: a node that cannot have one says so now
        self._adopt()

    def put(self, name: str, blob: bytes) -> None:
        """Store or replace, as a whole; Refused where it does not fit, or the kernel has no room."""
        before = self._held.get(name)
        cost, freed = self._room.cost(name, blob), before.cost if before else 0
        self._room.check(cost, freed)
        try:
            self._held[name] = _Held(self._write(name, blob), cost)
        except calls.KernelError as error:
            raise _refused(error) from error
        self._room.change(cost, freed)
        if before:
            self._unreachable.append(before.pin)
        self._wipe_unreachable()

    def get(self, name: str) -> bytes | None:
        """What was stored under the name."""
        held = self._held.get(name)
        found = _read(held.pin) if held else None
        return found[1] if found and found[0] == name else None

    def drop(self, name: str) -> None:
        """Wipe and forget. Where the kernel has no memory to wipe it with, that is done at the next put or drop."""
        if held := self._held.pop(name, None):
            self._room.change(0, held.cost)
            self._unreachable.append(held.pin)
        self._wipe_unreachable()

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._held)

    def _write(self, name: str, blob: bytes) -> Path:
        encoded = name.encode()
        content = bytearray(HEAD.pack(MARK, FORMAT, len(encoded), len(blob)) + encoded + blob)
        self._serial += 1
        pin = self._folder / f"{_digest(name)}_{self._serial:016x}"
        fd = _new_map(len(content))
        try:
            calls.write_element(fd, content)
            calls.pin(fd, str(pin))
        finally:
            os.close(fd)
            content[:] = bytes(len(content))
        return pin

    def _wipe_unreachable(self) -> None:
        """In the order in which they became so: an earlier blob of a name must not outlive a later one."""
        while self._unreachable:
            try:
                wipe(self._unreachable[0])
            except calls.KernelError:
                return
            del self._unreachable[0]

    def _adopt(self) -> None:
        """Take over what an earlier agent left. Of each name the highest serial counts; all else is wiped."""
        for serial, pin in _pins(self._folder):
            self._serial = max(self._serial, serial)
            found = _read(pin)
            if found is None:  # dropped, but for its pin
                self._unreachable.append(pin)
                continue
            name, blob = found
            before = self._held.get(name)
            held = self._held[name] = _Held(pin, self._room.cost(name, blob))
            self._room.change(held.cost, before.cost if before else 0)
            if before:
                self._unreachable.append(before.pin)
        self._wipe_unreachable()


def wipe(pin: Path) -> None:
    """Overwrite what is pinned, then unpin it, which frees it. Raises KernelError where it cannot be overwritten, and
    then it is as it was; what is no blob of ours is only unpinned. Idempotent."""
    if not pin.exists():
        return
    fd = calls.get(str(pin))
    try:
        size = calls.element_size(fd, MAP_NAME)
        if size:
            calls.write_element(fd, bytearray(size))
    finally:
        os.close(fd)
    calls.unpin(str(pin))


def wipe_all(folder: Path) -> None:
    """Wipe everything in a safe's folder, of whatever format; what cannot be overwritten is unpinned all the same."""
    for pin in list(folder.iterdir()):
        with suppress(calls.KernelError):
            wipe(pin)
        pin.unlink(missing_ok=True)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _new_map(size: int) -> int:
    return calls.create_map("array", MAP_NAME, size, 1)


def _pins(folder: Path) -> list[tuple[int, Path]]:
    """By serial, lowest first."""
    matches = [(_PIN.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match["serial"], 16), path) for match, path in matches if match)


def _read(pin: Path) -> tuple[str, bytes] | None:
    """The name and the blob that a pin holds, None where it holds none (any more)."""
    if not pin.exists():
        return None
    fd = calls.get(str(pin))
    try:
        size = calls.element_size(fd, MAP_NAME)
        content = calls.read_element(fd, size) if size >= HEAD.size else bytearray(HEAD.size)
    finally:
        os.close(fd)
    try:
        mark, form, name_bytes, blob_bytes = HEAD.unpack_from(content)
        if mark != MARK or HEAD.size + name_bytes + blob_bytes > size:
            return None
        if form != FORMAT:
            raise Refused(
                Code.FAILED_PRECONDITION,
                FIELD,
                f"what this node keeps has format {form}, this agent has format {FORMAT}",
                "start the agent that made it, or take it away with `kernelsecret-ctl agent --clean`",
            )
        end = HEAD.size + name_bytes
        return bytes(content[HEAD.size : end]).decode(), bytes(content[end : end + blob_bytes])
    finally:
        content[:] = bytes(len(content))


def _refused(error: calls.KernelError) -> Refused:
    code = Code.RESOURCE_EXHAUSTED if error.errno in FULL else Code.FAILED_PRECONDITION
    return Refused(code, FIELD, f"the kernel keeps nothing more ({error})", "free memory on the node")
