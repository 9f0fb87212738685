"""The CRD is what the types say, and takes what the contract takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernelsecret import crd

ROOT = Path(__file__).parents[2]


def test_the_crd_is_what_the_types_say() -> None:
    made = (ROOT / "manifests" / "base" / "crd.yaml").read_text()
    assert made == crd.page(), "run: python -m kernelsecret.crd > manifests/base/crd.yaml"


def leaves(schema: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of all fields as the documentation writes them: `spec.secrets[].files[].mode`."""
    for name, inner in schema.get("properties", {}).items():
        yield from leaves(inner, f"{path}.{name}")
    if "items" in schema:
        yield from leaves(schema["items"], f"{path}[]")
    if not {"properties", "items"} & set(schema) or schema.get("items", {}).get("type") == "string":
        yield path


def test_every_field_is_documented() -> None:
    text = (ROOT / "docs" / "interceptor.md").read_text()
    words = set(re.findall(r"[A-Za-z]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    fields = list(leaves(crd.schema()["properties"]["spec"], "spec"))
    assert len(fields) > 30
    # Selectors are Kubernetes' own, and what lies in one of several tables is named there without its path.
    missing = [
        path
        for path in fields
        if "Selector" not in path and path not in text and path.rpartition(".")[2].removesuffix("[]") not in words
    ]
    assert missing == []


def test_defaults_are_documented() -> None:
    text = (ROOT / "docs" / "interceptor.md").read_text()
    spec = crd.schema()["properties"]["spec"]["properties"]
    rows = dict(re.findall(r"^\| `(spec\.[a-zA-Z.]+)` \| `([^`]+)` \|", text, re.MULTILINE))
    checked = 0
    for part in ("delivery", "access", "rotation"):
        for name, field in spec[part]["properties"].items():
            if field.get("default", {}) != {}:
                told = rows[f"spec.{part}.{name}"]
                default = field["default"]
                assert told == (f"[{', '.join(default)}]" if isinstance(default, list) else str(default)), name
                checked += 1
    assert checked >= 9
