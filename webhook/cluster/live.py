"""A reflector that can be told of one object sooner than its watch tells it, and knows how old what it holds may be."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from apiclient.objects import Unreadable, identity, read_meta
from apiclient.reflector import Reflector

T = TypeVar("T")


class LiveReflector(Reflector[T]):
    """`absorb` takes an object that was read beside the watch."""

    @property
    def age_s(self) -> float:
        """How old what is held may be, in seconds: 0 while the watch is open, infinite before the first list."""
        if not self.synced:
            return float("inf")
        return 0.0 if self._watching else max(0.0, self._clock() - self._heard_at)

    def absorb(self, raw: bytes) -> None:
        """Hold this state of one object, unless the watch has come as far or farther. Raises Unreadable.

        What the watch has not come to, it will bring again; so nothing that is absorbed can stay for longer than it is
        true. Resource versions of one collection are numbers that grow. What is gone is left to the watch: an answer
        that an object is not there does not say when it was not.
        """
        meta = read_meta(msgspec.Raw(raw))
        held, read = self.resource_version, meta.resource_version
        if not read.isdecimal() or not (held.isdecimal() or held == ""):
            raise Unreadable("resourceVersion")
        if int(read) > int(held or 0):
            self._put(identity(meta), msgspec.Raw(raw))
