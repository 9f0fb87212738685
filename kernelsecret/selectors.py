"""Label selectors with the API server's meaning. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from kernelsecret.problems import Problem, quoted

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")


class Operator(StrEnum):
    """How a requirement compares; `NotIn` also matches where the label is missing."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One of `matchExpressions`."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy this requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """All of its parts must match; the empty selector matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy every part."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


def selector_problems(selector: LabelSelector, field: str) -> Iterator[Problem]:
    """What is wrong with a selector found at `field`."""
    for key, value in selector.match_labels.items():
        at = f"{field}.matchLabels[{quoted(key)}]"
        if not _is_key(key):
            yield Problem(at, "not a label's name")
        if not _is_value(value):
            yield Problem(at, f"{quoted(value)} is not a label's value")
    for index, requirement in enumerate(selector.match_expressions):
        at = f"{field}.matchExpressions[{index}]"
        if not _is_key(requirement.key):
            yield Problem(f"{at}.key", f"{quoted(requirement.key)} is not a label's name")
        if requirement.operator in (Operator.IN, Operator.NOT_IN):
            if not requirement.values:
                yield Problem(f"{at}.values", f"empty, but {requirement.operator} compares with at least one")
        elif requirement.values:
            yield Problem(f"{at}.values", f"must be empty with {requirement.operator}")
        for number, value in enumerate(requirement.values):
            if not _is_value(value):
                yield Problem(f"{at}.values[{number}]", f"{quoted(value)} is not a label's value")


def _is_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return _NAME.fullmatch(name) is not None and (not slash or _PREFIX.fullmatch(prefix) is not None)


def _is_value(text: str) -> bool:
    return text == "" or _NAME.fullmatch(text) is not None
