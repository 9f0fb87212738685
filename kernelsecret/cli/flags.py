"""What flags of several commands have in common; and a command whose flags are a daemon's settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer

from telemetry.options import Option


class Output(StrEnum):
    """For people, or for programs."""

    TABLE = "table"
    JSON = "json"


def with_flags(
    command: Callable[..., None], options: Sequence[Option], more: Mapping[str, tuple[type, Any]] | None = None
) -> Callable[..., None]:
    """The command, with a signature that has a flag for each setting, and those of `more` (type and typer's option)."""
    flags = {option.name: (str | None, _flag(option)) for option in options} | dict(more or {})
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=flag, annotation=kind)
            for name, (kind, flag) in flags.items()
        ]
    )
    command.__annotations__ = {name: kind for name, (kind, _) in flags.items()}
    return command


def _flag(option: Option) -> Any:
    # The variable is read by Settings, which knows that an empty one counts as unset; here it is only told of.
    text = f"{option.help} [{option.variable}; {option.default or 'none'}]"
    return typer.Option(None, option.flag, help=text, show_default=False, metavar="VALUE")
