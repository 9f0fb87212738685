"""Texts that somebody wrote, as the Vault Agent's two readers take them: its templates (Go's) and its settings (HCL's
reader of JSON). Pure. What is written here can neither end the text that it is in nor begin anything else.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

import msgspec

_AWKWARD: Final = re.compile(r"[^A-Za-z0-9 _./:@,;=+*()\[\]'!?&|~^#%-]")
_PATH_SAFE: Final = "/"


def go_string(text: str) -> str:
    """A string constant of a Go template, in quotes. Braces and '$' are escaped too, so that neither a template's
    delimiter nor an interpolation of HCL is ever in it."""
    return f'"{_AWKWARD.sub(_escaped, text)}"'


def read_path(path: str, version: int) -> str:
    """What the template's `secret` is given to read: it takes a URL's path and query, and decodes the escapes."""
    return quote(path, safe=_PATH_SAFE) + (f"?version={version}" if version else "")


def hcl_json(thing: Any) -> str:
    """JSON as HCL reads it: `${` would begin an interpolation there, so there is none in it."""
    return msgspec.json.encode(thing).decode().replace("${", "\\u0024{")


def _escaped(one: re.Match[str]) -> str:
    number = ord(one[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
