"""What a file shows of a secret, where that is not just one of its keys: a part of a JSON value, a decoded one, or a
small template over several keys. Pure, and bounded: 1 MiB come out at most, and only so much is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kernelsecret.filters import ShapeError, Work, base64decode, fitting
from kernelsecret.interceptor import Decode, FileSpec
from kernelsecret.json_pointer import pointed, pointer_problem
from kernelsecret.plain import plain_name_problem
from kernelsecret.problems import Problem, quoted
from kernelsecret.templates import parse, rendered, value_of

__all__ = ["Shape", "ShapeError", "check_shape", "render", "shape_of", "with_items"]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """As in `kernelsecret.interceptor.FileSpec`: exactly one of `key` and `template` is set."""

    key: str = ""
    json_pointer: str = ""
    decode: Decode | None = None
    template: str = ""

    @property
    def item(self) -> str:
        """A name for what comes out, which is no key's: keys have no '/'. One shape, one name."""
        if self.template:
            return f"/{self.template}"
        return f"{self.key}/{self.decode or 'text'}{self.json_pointer}"


def shape_of(file: FileSpec) -> Shape | None:
    """The file's shape, None where it shows a key as it is."""
    if file.template or file.json_pointer or file.decode:
        return _shape(file)
    return None


def file_problems(file: FileSpec) -> list[Problem]:
    """What is wrong with what a file is to show, also where that is a plain key."""
    return check_shape(_shape(file))


def check_shape(shape: Shape) -> list[Problem]:
    """What is wrong with a shape. Fields are those of `FileSpec`, and "" where it is two of them together."""
    if bool(shape.key) == bool(shape.template):
        has = "both" if shape.key else "neither"
        return [Problem("", f"needs exactly one of key and template, has {has}", "keep one of them")]
    found: list[Problem] = []
    if shape.key:
        if problem := plain_name_problem(shape.key):
            found.append(Problem("key", problem))
        if problem := pointer_problem(shape.json_pointer):
            found.append(Problem("jsonPointer", problem, "write it as RFC 6901 has it, such as /users/0/name"))
        return found
    if shape.json_pointer:
        found.append(Problem("jsonPointer", "goes with key, and this file has a template", "remove one of them"))
    if shape.decode:
        why = "goes with key, and this file has a template"
        found.append(Problem("decode", why, "write {{ KEY | base64decode }} in the template"))
    try:
        parse(shape.template)
    except ShapeError as error:
        found.append(Problem("template", error.why))
    return found


def render(shape: Shape, values: Mapping[str, bytes]) -> bytes:
    """What a good shape shows of a secret's values. Raises ShapeError, and nothing else, where it cannot."""
    work = Work()
    try:
        if shape.template:
            return rendered(shape.template, values, work)
        return _decoded(shape, value_of(shape.key, values), work)
    except ShapeError as error:
        raise ShapeError(error.why, shape.item) from None


def with_items(values: Mapping[str, bytes], shapes: Iterable[Shape]) -> dict[str, bytes]:
    """The values, and under its `item` what each shape shows of them. Raises ShapeError, which has the item."""
    return {**values, **{shape.item: render(shape, values) for shape in dict.fromkeys(shapes)}}


def _shape(file: FileSpec) -> Shape:
    return Shape(key=file.key, json_pointer=file.json_pointer, decode=file.decode, template=file.template)


def _decoded(shape: Shape, value: bytes, work: Work) -> bytes:
    """A key's value by pointer and decoding."""
    at = f"key {quoted(shape.key)}"
    try:
        if shape.json_pointer:
            value = pointed(shape.json_pointer, value, work)
        if shape.decode is Decode.BASE64:
            work.spend(len(value))
            try:
                value = base64decode(value)
            except ShapeError as error:
                raise ShapeError(f"decode base64: {error.why}") from None
        return fitting(value)
    except ShapeError as error:
        raise ShapeError(f"{at}: {error.why}") from None
