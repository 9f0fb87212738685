"""How a volume looks: a small tmpfs of symlinks, so that any file name works, and `..data` that moves at each rotation.

Programs written for kubelet's volumes watch the folder for a new `..data`; those that watch a file follow its symlink.
"""

from __future__ import annotations

import os
from pathlib import Path

STORE = ".kernelsecret"
"""Where an `iter` volume's bpffs is mounted; its files are numbers, because bpffs refuses names with a dot."""
DATA = "..data"
DIRECTORY_MODE = 0o755


def link_file(root: Path, name: str, target: str) -> None:
    """A symlink `name` in the volume."""
    os.symlink(target, root / name)


def point_data(root: Path, target: str) -> None:
    """Make `..data` point to `target` in one step: directory watchers see IN_MOVED_TO, readers never a missing name."""
    # Once a volume at each rotation: joined as text, which costs half of what paths do.
    unfinished = f"{root}/..data_tmp"
    try:
        os.symlink(target, unfinished)
    except FileExistsError:  # left by an agent that was killed here
        os.unlink(unfinished)
        os.symlink(target, unfinished)
    os.replace(unfinished, f"{root}/{DATA}")
