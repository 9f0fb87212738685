"""The CustomResourceDefinition of SecretInterceptor, made from the types: `python -m kernelsecret.crd > crd.yaml`.

A structural schema: types, defaults and enumerations come from `kernelsecret.interceptor`, the rest from
`kernelsecret.crd_fields`. A field that the table does not describe is an error here, not a gap in the CRD. No I/O.
"""

from __future__ import annotations

import enum
import sys
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from kernelsecret.crd_fields import FIELDS, NAME_RULE, RULES
from kernelsecret.crd_words import Field, Rule
from kernelsecret.interceptor import InterceptorSpec
from kernelsecret.interceptor_status import InterceptorStatus
from kernelsecret.names import API_VERSION, GROUP, KIND_INTERCEPTOR, RESOURCE_INTERCEPTORS

_HEADER = "# Generated from the types: python -m kernelsecret.crd > manifests/base/crd.yaml\n"
_COLUMNS = (
    ("Modes", "string", ".spec.delivery.modes", "Modes that may be used, in order."),
    ("From", "string", ".spec.access.from", "Which processes may read."),
    ("Pods", "integer", ".status.pods", "Pods that hold these volumes now."),
    ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status', "Whether the spec can work."),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether some node can serve it."),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)


def definition() -> dict[str, Any]:
    """The whole object, as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{RESOURCE_INTERCEPTORS}.{GROUP}", "labels": {"app.kubernetes.io/name": "kernelsecret"}},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": KIND_INTERCEPTOR,
                "listKind": f"{KIND_INTERCEPTOR}List",
                "plural": RESOURCE_INTERCEPTORS,
                "singular": KIND_INTERCEPTOR.lower(),
                "shortNames": ["si"],
                "categories": ["kernelsecret"],
            },
            "versions": [
                {
                    "name": API_VERSION.partition("/")[2],
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def schema() -> dict[str, Any]:
    """The structural schema of a whole SecretInterceptor."""
    return {
        "type": "object",
        "description": "Which pods may opt in, which secrets become which files of theirs, and who in them may read.",
        "required": ["spec"],
        "x-kubernetes-validations": [NAME_RULE.wire()],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _object(InterceptorSpec),
            "status": _object(InterceptorStatus),
        },
    }


def page() -> str:
    """The manifest's text."""
    return _HEADER + yaml.safe_dump(definition(), sort_keys=False, width=118, allow_unicode=True)


def _column(name: str, kind: str, path: str, text: str) -> dict[str, str]:
    return {"name": name, "type": kind, "jsonPath": path} | ({"description": text} if text else {})


def _object(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a struct: every field of it must be in the table, and nothing else."""
    hints = get_type_hints(struct)
    fields = msgspec.structs.fields(struct)
    table = FIELDS[struct]
    if stray := {one.encode_name for one in fields} ^ set(table):
        raise LookupError(f"{struct.__name__}: {sorted(stray)} stand in only one of types and kernelsecret.crd_fields")
    made: dict[str, Any] = {"type": "object", **_rules(RULES.get(struct, ()))}
    if required := [one.encode_name for one in fields if one.required]:
        made["required"] = required
    made["properties"] = {
        one.encode_name: _property(hints[one.name], table[one.encode_name], _default(one)) for one in fields
    }
    return made


def _property(kind: Any, field: Field, default: Any) -> dict[str, Any]:
    made = {"description": field.text, **_typed(kind, field), **field.schema}
    if default is not msgspec.NODEFAULT:
        made["default"] = default
    rules = [*made.pop("x-kubernetes-validations", []), *(rule.wire() for rule in field.rules)]
    return made | ({"x-kubernetes-validations": rules} if rules else {})


def _typed(kind: Any, field: Field) -> dict[str, Any]:
    """The schema of a Python type; only what the contract uses."""
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not types.NoneType]
        if set(parts) == {int, str}:
            return {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
        (kind,) = parts
    if get_origin(kind) is tuple:
        inner = {**_typed(get_args(kind)[0], field), **field.items, **_rules(field.item_rules)}
        return {"type": "array", "items": inner}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _object(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return {str: {"type": "string"}, int: {"type": "integer", "format": "int64"}}[kind]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """The default as the wire has it; none for what is empty, because then its absence says the same.

    An object's default is `{}`, which the defaults of its fields fill: so it must have no others than theirs.
    """
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        assert value == type(value)(), f"{field.name} has defaults that are not those of its type"
        return {}
    if value in (None, (), {}, ""):
        return msgspec.NODEFAULT
    if isinstance(value, tuple):
        value = list(value)
    return value if value is msgspec.NODEFAULT else msgspec.to_builtins(value)


def _rules(rules: tuple[Rule, ...]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [rule.wire() for rule in rules]} if rules else {}


if __name__ == "__main__":
    sys.stdout.write(page())
