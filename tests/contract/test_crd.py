"""The CRD is what the types say, and takes what the contract takes."""

from __future__ import annotations

from pathlib import Path

from kernelsecret import crd

ROOT = Path(__file__).parents[2]


def test_the_crd_is_what_the_types_say() -> None:
    made = (ROOT / "manifests" / "base" / "crd.yaml").read_text()
    assert made == crd.page(), "run: python -m kernelsecret.crd > manifests/base/crd.yaml"
