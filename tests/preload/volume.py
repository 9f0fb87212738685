"""A live volume as the agent's engine `tmpfs` has it: ordinary files, each replaced as a whole by a rename."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Volume:
    """`folder` is where a container finds it; what is written is beside it, and on the same file system."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Volume:
        folder.mkdir(parents=True)
        return cls(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def put(self, name: str, value: str) -> Path:
        """A rotation. The path of the file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self.folder.parent / ".new"
        new.write_text(value)
        os.replace(new, path)
        return path
