"""A daemon's settings as a table: variable, flag, default and meaning of each, so that command line, documentation and
reader agree. No I/O here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)")


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. `parse` is one of `telemetry.setting_types`; the default is text, as a variable's value is."""

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    prefix: str = "KERNELSECRET_"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.prefix + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.name.replace("_", "-")


def misspelt(env: Iterable[str], options: Sequence[Option], prefix: str) -> dict[str, str]:
    """Variables with the prefix that mean nothing, each with the nearest that does (or "").

    Kubernetes' own are left out: it gives each container of a namespace variables such as KERNELSECRET_PORT for a
    Service called `kernelsecret`.
    """
    known = [option.variable for option in options]
    strange = [
        name for name in env if name.startswith(prefix) and name not in known and not _SERVICE_LINK.fullmatch(name)
    ]
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), "") for name in sorted(strange)}


def page(title: str, options: Sequence[Option], *, command: str, module: str) -> str:
    """The page of the documentation, made from the options."""
    rows = "".join(f"| `{one.variable}` | `{one.flag}` | {_code(one.default)} | {one.help} |\n" for one in options)
    return (
        f"# {title}\n\nA flag of `kernelsecret-ctl {command}` wins over its variable."
        f" This page is generated from `{module}`: edit that.\n\n"
        "| variable | flag | default | meaning |\n|---|---|---|---|\n" + rows
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"
