"""The example of the documentation as plain data, for tests to change one thing in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples" / "cluster"
_INTERCEPTOR: Any = yaml.safe_load((EXAMPLES / "interceptors" / "payments-db.yaml").read_text())
MISSING = object()


def example() -> Any:
    """The documented SecretInterceptor, to be changed freely."""
    return copy.deepcopy(_INTERCEPTOR)


def changed(path: str, value: object) -> Any:
    """The example with the field at a dotted path (numbers are list indexes) set, or taken away with MISSING."""
    made = example()
    at = made
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        at = at[part] if isinstance(part, int) else at.setdefault(part, {})
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return made
