"""The folder that a volume is mounted on: a thin edge to the file system, safe against symlinks and swapped folders.

The path is walked one name at a time from the kubelet root, each folder opened relative to the one before and never
through a symlink. What was checked is held by a descriptor, so that a folder swapped afterwards changes nothing for
whoever goes on from that descriptor instead of from the path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kernelsecret.errors import Code, Refused

TARGET_MODE = 0o750
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Target:
    """A target folder whose parent is held open, valid inside the `with` of `KubeletTargets.opened`."""

    parent_fd: int
    """O_PATH descriptor of kubelet's folder of the volume."""

    name: str
    """The target's name in it (`mount`)."""

    @property
    def path(self) -> str:
        """A path for mount(2) and umount2(2) that only its last component could lead elsewhere: use UMOUNT_NOFOLLOW."""
        return f"/proc/self/fd/{self.parent_fd}/{self.name}"

    def open(self) -> int:
        """A new O_PATH descriptor of the folder, or of what is mounted on it; the caller closes it.

        An open descriptor keeps a mount busy. Raises OSError (ENOENT, ENOTDIR for a symlink).
        """
        return os.open(self.name, _FOLDER, dir_fd=self.parent_fd)


class KubeletTargets:
    """The target folders below one kubelet root. `root` itself may be reached through a symlink: it is configured."""

    def __init__(self, root: Path) -> None:
        """`root` is absolute."""
        self._root = root

    @contextmanager
    def opened(self, target_path: Path) -> Iterator[Target | None]:
        """The target with its parent held open; None where the parent is missing. Raises Refused for a symlink."""
        *parents, name = target_path.relative_to(self._root).parts
        held = _walk(self._root, parents)
        if held is None:
            yield None
            return
        try:
            yield Target(held, name)
        finally:
            os.close(held)

    def ensure(self, target_path: Path) -> bool:
        """Make the target folder (mode 0750 less the umask) if it is missing, and tell whether it was.

        Raises Refused where kubelet's own folder is missing or a component is no plain folder.
        """
        with self.opened(target_path) as target:
            if target is None:
                why = "the folder that it is to be made in does not exist"
                raise Refused(Code.FAILED_PRECONDITION, "target_path", why, "kubelet makes it before it calls")
            try:
                os.mkdir(target.name, TARGET_MODE, dir_fd=target.parent_fd)
                made = True
            except FileExistsError:
                made = False
            os.close(_open_folder(target.parent_fd, target.name))
            return made

    def check(self, target_path: Path) -> None:
        """Raise Refused where a component, the target itself included, is no plain folder; missing ones are fine."""
        with self.opened(target_path) as target:
            if target is not None:
                with suppress(FileNotFoundError):
                    os.close(_open_folder(target.parent_fd, target.name))

    def remove(self, target_path: Path) -> None:
        """Remove the target folder; one that is missing is no error.

        Raises Refused where it is still mounted on, or holds something that would be lost.
        """
        with self.opened(target_path) as target:
            if target is None:
                return
            try:
                os.rmdir(target.name, dir_fd=target.parent_fd)
            except FileNotFoundError:
                return
            except OSError as error:
                why = _WHY_KEPT.get(error.errno or 0)
                if why is None:
                    raise
                raise Refused(Code.FAILED_PRECONDITION, "target_path", why) from error


_WHY_KEPT = {
    errno.EBUSY: "still mounted on",
    errno.ENOTEMPTY: "not empty though nothing is mounted on it",
    errno.ENOTDIR: "not a folder",
}


def _walk(root: Path, parts: list[str]) -> int | None:
    """A descriptor of the folder at the end of `parts`, None where one is missing. Raises Refused."""
    held = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _open_folder(held, part)
            os.close(held)
            held = below
            if os.fstat(held).st_mode & stat.S_IWOTH:
                why = f"the component {part!r} can be written by every user"
                raise Refused(Code.INVALID_ARGUMENT, "target_path", why, "kubelet's folders are its own")
    except FileNotFoundError:
        os.close(held)
        return None
    except BaseException:
        os.close(held)
        raise
    return held


def _open_folder(parent_fd: int, name: str) -> int:
    """Raises FileNotFoundError, or Refused where it is a symlink or no folder."""
    try:
        return os.open(name, _FOLDER, dir_fd=parent_fd)
    except NotADirectoryError as error:
        why = f"the component {name!r} is a symlink or no folder"
        raise Refused(Code.INVALID_ARGUMENT, "target_path", why, "nothing below the kubelet root may be one") from error
