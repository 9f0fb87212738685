"""A container's environment in mode `preload`: the shim first, and what its author wants to be preloaded after it.

It is decoded here, and only for such pods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Raw

from kernelsecret.names import ENV_OWN_PRELOAD, ENV_PRELOAD, ENV_SHIM_PATHS, SHIM_FILE, SHIM_ROOT
from webhook.policy.operation import Operation
from webhook.policy.pods import Place
from webhook.policy.steps import Refusal, Rule

SHIM: Final = f"{SHIM_ROOT}/{SHIM_FILE}"
_OWN: Final = f"$({ENV_OWN_PRELOAD})"
_SEPARATORS: Final = re.compile("[: ]")
"""Those that ld.so takes, of glibc and of musl."""
_NAMES: Final = (ENV_PRELOAD, ENV_SHIM_PATHS, ENV_OWN_PRELOAD)


class _KeyRef(msgspec.Struct, frozen=True, gc=False):
    optional: bool | None = None


class _ValueFrom(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Where a variable comes from, as far as it can be missing there."""

    config_map_key_ref: _KeyRef | None = None
    secret_key_ref: _KeyRef | None = None

    @property
    def can_be_missing(self) -> bool:
        return any(one is not None and one.optional for one in (self.config_map_key_ref, self.secret_key_ref))


class _Variable(msgspec.Struct, rename="camel", frozen=True, gc=False):
    name: str | None = None
    value: str | None = None
    value_from: _ValueFrom | None = None


_VARIABLES: Final = msgspec.json.Decoder(tuple[_Variable, ...] | None)
_ANYTHING: Final = msgspec.json.Decoder(list[Raw] | None)


def hidden_sources(place: Place) -> bool:
    """Whether variables come from objects that are not looked into (`envFrom`)."""
    raw = place.container.env_from
    try:
        return bool(raw) and bool(_ANYTHING.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _senseless(f"{place.field}.envFrom") from None


def environment(place: Place, paths: str, *, is_ours: bool) -> list[Operation]:
    """What makes ld.so load the shim first and tells it `paths`; nothing where it does. Raises Refusal.

    `is_ours`: an earlier call chose the container, so that what is there may be ours.
    """
    raw = place.container.env
    try:
        variables = (_VARIABLES.decode(raw) if raw else None) or ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _senseless(f"{place.field}.env") from None
    found: dict[str, int] = {}
    for index, variable in enumerate(variables):
        if variable.name in _NAMES:
            if variable.name in found:
                why = f"{variable.name} is there twice"
                raise Refusal(Rule.ENVIRONMENT, f"{place.field}.env[{index}]", why, "write it once")
            found[variable.name] = index
    if not variables:
        value = [{"name": ENV_PRELOAD, "value": SHIM}, {"name": ENV_SHIM_PATHS, "value": paths}]
        return [Operation(f"{place.path}/env", value)]
    return [*_paths(place, variables, found, paths, is_ours), *_preload(place, variables, found)]


def _paths(
    place: Place, variables: tuple[_Variable, ...], found: dict[str, int], paths: str, is_ours: bool
) -> Iterator[Operation]:
    index = found.get(ENV_SHIM_PATHS)
    if index is None:
        yield Operation(f"{place.path}/env/-", {"name": ENV_SHIM_PATHS, "value": paths})
        return
    variable = variables[index]
    if variable.value == paths and variable.value_from is None:
        return
    if variable.value_from is not None or not is_ours:
        why = f"{ENV_SHIM_PATHS} is written by admission alone"
        raise Refusal(Rule.ENVIRONMENT, f"{place.field}.env[{index}]", why, "remove it")
    yield Operation(f"{place.path}/env/{index}/value", paths)


def _preload(place: Place, variables: tuple[_Variable, ...], found: dict[str, int]) -> Iterator[Operation]:
    index, own = found.get(ENV_PRELOAD), found.get(ENV_OWN_PRELOAD)
    variable = None if index is None else variables[index]
    value = (variable.value or "") if variable else ""
    if own is not None and _OWN not in value:
        why = f"{ENV_OWN_PRELOAD} is written by admission alone"
        raise Refusal(Rule.ENVIRONMENT, f"{place.field}.env[{own}]", why, "remove it")
    if variable is None:
        yield Operation(f"{place.path}/env/-", {"name": ENV_PRELOAD, "value": SHIM})
        return
    at = f"{place.path}/env/{index}"
    if variable.value_from is None:
        wanted = _first(value)
        if wanted != value:
            yield Operation(f"{at}/value", wanted)
        return
    if variable.value_from.can_be_missing:
        why = "it may be missing (optional: true), and then ld.so would be told to load a file of no name"
        fix = "remove `optional`, or write the value down"
        raise Refusal(Rule.ENVIRONMENT, f"{place.field}.env[{index}].valueFrom", why, fix)
    # What comes from elsewhere keeps its place under another name, and kubelet puts it into the one that follows.
    yield Operation(f"{at}/name", ENV_OWN_PRELOAD)
    yield Operation(f"{place.path}/env/{(index or 0) + 1}", {"name": ENV_PRELOAD, "value": f"{SHIM}:{_OWN}"})


def _first(value: str) -> str:
    """A value of LD_PRELOAD with the shim in front, once."""
    parts = _SEPARATORS.split(value)
    if parts[0] == SHIM:
        return value
    if SHIM in parts:
        value = ":".join(part for part in parts if part and part != SHIM)
    return f"{SHIM}:{value}" if value else SHIM


def _senseless(field: str) -> Refusal:
    return Refusal(Rule.ENVIRONMENT, field, "is not what a container has there", "look at its types")
