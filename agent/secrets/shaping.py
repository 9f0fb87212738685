"""Adds to a secret's values what files show of them in a shape of their own. A shape that fails is named by the file
that wants it; no value is in what is said. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.model import FilePlan, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted
from kernelsecret.shapes import Shape, ShapeError, with_items


def shaped(version: SecretVersion, plans: Iterable[VolumePlan]) -> SecretVersion:
    """The version with the items of all shapes that these volumes show of it. Raises Refused (FAILED_PRECONDITION) that
    names a file."""
    wanted: dict[Shape, str] = {}
    for plan in plans:
        for file, shape in _shapes(plan, version.ref):
            wanted.setdefault(shape, f"interceptor {plan.interceptor}: file {quoted(file.name)}")
    if not wanted:
        return version
    try:
        values = with_items(version.values, wanted)
    except ShapeError as error:
        at = next(at for shape, at in wanted.items() if shape.item == error.item)
        fix = "mend the secret, or what the interceptor makes of it"
        raise Refused(Code.FAILED_PRECONDITION, at, f"cannot be made of {version.ref}: {error.why}", fix) from None
    return SecretVersion(version.ref, values, version.label, version.changed_ns)


def _shapes(plan: VolumePlan, ref: SecretRef) -> Iterable[tuple[FilePlan, Shape]]:
    return ((file, file.shape) for file in plan.files if file.ref == ref and file.shape is not None)
