"""One object from one file that only root can have written. YAML without its surprises, parsed once until it changes.

Every file is opened without following links and judged by what was opened, so nothing can be swapped in between.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from kernelsecret.errors import Code, Refused
from kernelsecret.problems import Invalid, shown

MAX_BYTES = 1 << 20
_CACHED = 4096
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

T = TypeVar("T")


class _Loader(yaml.CSafeLoader):
    """Text stays text: what looks like a date is left as it was written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class _Surprise(ValueError):
    """YAML that says something else than it seems to."""


def parse(text: bytes) -> object:
    """What one YAML (or JSON) document says. Raises ValueError with a text that repeats nothing of the document."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_surprises(node)
        made: object = loader.construct_document(node)
        return made
    except _Surprise:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark else ""
        raise ValueError(f"is not one YAML document{where}") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise ValueError("is not one YAML document") from error
    finally:
        loader.dispose()


def _refuse_surprises(root: yaml.Node) -> None:
    """No aliases, which can make a small file huge; no key twice, of which one would be passed over in silence."""
    seen: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        if id(node) in seen:
            raise _Surprise("has an alias, which is not taken")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(keys) != len(set(keys)):
                raise _Surprise(f"has a key twice (line {node.start_mark.line + 1} and on)")
            left.extend(part for pair in node.value for part in pair)


class Objects(Generic[T]):
    """The objects of one kind in one folder, each by its file's name. `read` makes the object of the parsed document
    and raises Invalid; what it made is kept until the file changes."""

    def __init__(self, folder: Path, owner_uid: int, kind: str, read: Callable[[object], T]) -> None:
        self._folder = folder
        self._owner = owner_uid
        self._kind = kind
        self._read = read
        self._cache: dict[str, tuple[tuple[int, ...], T]] = {}

    def get(self, name: str) -> T:
        """The object in `<name>.yaml`. Raises Refused: NOT_FOUND, or FAILED_PRECONDITION with the field named."""
        shown_name = f"{self._kind} {shown(name)}"
        if not name or "/" in name or "\0" in name or name.startswith("."):
            raise Refused(Code.INVALID_ARGUMENT, shown_name, "not a name")
        file = f"{name}.yaml"
        try:
            with self._opened(file, shown_name) as fd:
                return self._current(fd, name, shown_name)
        except FileNotFoundError:
            self._cache.pop(name, None)
            raise Refused(Code.NOT_FOUND, shown_name, "there is none", f"looked for {self._folder / file}") from None
        except OSError as error:
            why = f"cannot be read ({os.strerror(error.errno or 0)})"
            raise Refused(Code.UNAVAILABLE, shown_name, why, f"look at {self._folder / file}") from error

    def _current(self, fd: int, name: str, shown_name: str) -> T:
        found = os.fstat(fd)
        # ctime too: it cannot be set back, and a write within the clock's tick still changes size or inode mostly.
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        cached = self._cache.get(name)
        if cached and cached[0] == stamp:
            return cached[1]
        if found.st_size > MAX_BYTES:
            raise Refused(Code.FAILED_PRECONDITION, shown_name, f"has more than {MAX_BYTES} bytes")
        with os.fdopen(os.dup(fd), "rb") as file:
            text = file.read(MAX_BYTES + 1)
        try:
            made = self._read(parse(text))
        except Invalid as error:
            raise Refused(Code.FAILED_PRECONDITION, shown_name, str(error)) from error
        except ValueError as error:
            raise Refused(Code.FAILED_PRECONDITION, shown_name, str(error)) from None
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[name] = (stamp, made)
        return made

    @contextmanager
    def _opened(self, file: str, shown_name: str) -> Any:
        try:
            folder = os.open(self._folder, _FLAGS | os.O_DIRECTORY)
        except FileNotFoundError:
            # Not "there is none": that would let the agent take every pod for gone.
            why = "the folder of its kind is not there"
            raise Refused(Code.UNAVAILABLE, shown_name, why, f"look at {self._folder}") from None
        try:
            self._judge(os.fstat(folder), shown_name, "its folder", str(self._folder))
            fd = os.open(file, _FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise Refused(Code.FAILED_PRECONDITION, shown_name, "its file is not a regular file")
            self._judge(found, shown_name, "its file", str(self._folder / file))
            yield fd
        finally:
            os.close(fd)

    def _judge(self, found: os.stat_result, shown_name: str, what: str, path: str) -> None:
        """Policy that somebody else can write is somebody else's policy."""
        if found.st_uid != self._owner:
            why = f"{what} belongs to uid {found.st_uid}, not {self._owner}"
            raise Refused(Code.FAILED_PRECONDITION, shown_name, why, f"chown {self._owner} {path}")
        if found.st_mode & 0o022:
            why = f"{what} can be written by others (mode {found.st_mode & 0o7777:04o})"
            raise Refused(Code.FAILED_PRECONDITION, shown_name, why, f"chmod go-w {path}")
