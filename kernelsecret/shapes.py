"""What a file shows of a secret, where that is not just one of its keys: a part of a JSON value, a decoded one, or a
small template over several keys. Pure.
"""

from __future__ import annotations

import msgspec

from kernelsecret.interceptor import Decode, FileSpec


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """As in `kernelsecret.interceptor.FileSpec`: exactly one of `key` and `template` is set."""

    key: str = ""
    json_pointer: str = ""
    decode: Decode | None = None
    template: str = ""

    @property
    def item(self) -> str:
        """A name for what comes out, which is no key's: keys have no '/'."""
        if self.template:
            return f"template/{self.template}"
        return f"{self.key}/{self.decode or 'text'}{self.json_pointer}"


def shape_of(file: FileSpec) -> Shape | None:
    """The file's shape, None where it shows a key as it is."""
    if file.template or file.json_pointer or file.decode:
        return Shape(key=file.key, json_pointer=file.json_pointer, decode=file.decode, template=file.template)
    return None
