"""The watches on the way to one secret: every folder above it, its own, and the target of its `..data`."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Generic, TypeVar

from agent.sources.folder import FOLDER, root_folder
from agent.sources.keys import DATA
from agent.sources.system import open_beneath
from agent.sources.watches import Place, Role, Watches

AWAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
"""Errors that say that the folder is not there, or not a folder that is taken."""

T = TypeVar("T")


class Chain(Generic[T]):
    """Holds the watches for `holder`, who gets the events."""

    def __init__(self, root: Path, path: str, watches: Watches[T], holder: T) -> None:
        self._root = root
        self._parts = path.split("/")
        self._watches = watches
        self._holder = holder
        self._held: set[tuple[int, Place]] = set()

    def attach(self) -> int:
        """Watch what is there now, each folder before what is in it is looked at, and let go of what was before.

        Gives the secret's folder as a descriptor, which the caller closes. Raises OSError, one of AWAY where the folder
        is not there; what is above it is then watched all the same.
        """
        held: set[tuple[int, Place]] = set()
        folder = -1
        try:
            with root_folder(self._root) as top:
                folder = os.dup(top)
            for part in self._parts:
                self._hold(held, folder, Place(Role.ABOVE, part))
                above, folder = folder, open_beneath(folder, part, FOLDER, links=False)
                os.close(above)
            self._hold(held, folder, Place(Role.OWN))
            self._hold_data(held, folder)
            found, folder = folder, -1
            return found
        finally:
            if folder >= 0:
                os.close(folder)
            self._let_go(self._held - held)
            self._held = held

    def release(self) -> None:
        """Let go of every watch. Idempotent."""
        self._let_go(self._held)
        self._held = set()

    def _let_go(self, held: set[tuple[int, Place]]) -> None:
        for watch, place in held:
            self._watches.release(watch, self._holder, place)

    def _hold(self, held: set[tuple[int, Place]], folder: int, place: Place) -> None:
        held.add((self._watches.hold(folder, self._holder, place), place))

    def _hold_data(self, held: set[tuple[int, Place]], folder: int) -> None:
        try:
            data = open_beneath(folder, DATA, FOLDER, links=True)
        except OSError as error:
            if error.errno in AWAY:
                return
            raise
        try:
            self._hold(held, data, Place(Role.DATA))
        finally:
            os.close(data)
