"""What files show of a secret: parts of JSON, decoded values and templates, and that nothing else ever comes out."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.filters import FILTERS, MAX_WORK
from kernelsecret.interceptor import Decode
from kernelsecret.shapes import Shape, ShapeError, check_shape, render, with_items
from kernelsecret.templates import Insert, Template, parse
from kernelsecret.validation_limits import MAX_FILE_BYTES

VALUES = {
    "username": b"app",
    "password": b'p"w\n',
    "config": b'{"users": [{"name": "ann", "age": 1.50}, {"name": "\\u00fc"}], "a/b": {"~": "t"}, "n": null, "": "e"}',
    "chain": b'["-----A-----\\nx", "-----B-----\\n"]',
    "raw": b"\xff\x00",
    "encoded": b" aGkK\n",
    "number": b"5432",
    "long": b"[" + b"1," * 4096 + b"1]",
}


def made(template: str) -> bytes:
    return render(Shape(template=template), VALUES)


def refused(shape: Shape, values: dict[str, bytes] | None = None) -> str:
    assert check_shape(shape) == []
    with pytest.raises(ShapeError) as caught:
        render(shape, VALUES if values is None else values)
    assert caught.value.item == shape.item
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ username }}:{{ password }}", b'app:p"w\n'),
        ("{{username}}", b"app"),
        ("{{ password | json }}", b'"p\\"w\\n"'),
        ('{"a":{"u":{{ username | json }}}}', b'{"a":{"u":"app"}}'),
        ("{{ raw | base64 }}", b"/wA="),
        ("{{ encoded | base64decode }}", b"hi\n"),
        ("{{ encoded | base64decode | trim }}", b"hi"),
        ("{{ chain | lines }}\n", b"-----A-----\nx\n-----B-----\n"),
        ("{{ config | lines }}", None),
        ("{{ raw }}", b"\xff\x00"),
        ('{{ "{{" }} {{ username }} }}', b"{{ app }}"),
        ("postgres://{{ username }}@db:{{ number }}/", b"postgres://app@db:5432/"),
    ],
)
def test_a_template_shows_keys_through_filters(template: str, expected: bytes | None) -> None:
    if expected is None:
        assert "filter lines" in refused(Shape(template=template))
    else:
        assert made(template) == expected


def test_all_keys_become_one_json_object_sorted_by_name() -> None:
    values = {"b": b"2", "a": b'"'}
    assert render(Shape(template="{{ . | json }}"), values) == b'{"a":"\\"","b":"2"}'
    assert render(Shape(template="{{ . | json | base64 }}"), values) == base64.b64encode(b'{"a":"\\"","b":"2"}')


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/users/0/name", b"ann"),
        ("/users/1/name", "ü".encode()),
        ("/users/0/age", b"1.50"),
        ("/users/0", b'{"name":"ann","age":1.50}'),
        ("/a~1b/~0", b"t"),
        ("/n", b"null"),
        ("/", b"e"),
    ],
)
def test_a_pointer_shows_a_part_of_json_with_its_digits_as_they_were_written(pointer: str, expected: bytes) -> None:
    assert render(Shape(key="config", json_pointer=pointer), VALUES) == expected


def test_what_a_pointer_finds_can_be_decoded() -> None:
    values = {"k": json.dumps({"tls": base64.b64encode(b"\x00pem").decode()}).encode()}
    assert render(Shape(key="k", json_pointer="/tls", decode=Decode.BASE64), values) == b"\x00pem"
    assert render(Shape(key="encoded", decode=Decode.BASE64), VALUES) == b"hi\n"


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (Shape(key="passwd", decode=Decode.BASE64), "no key 'passwd'; it has 'chain', 'config', 'encoded'"),
        (Shape(template="{{ user }}"), "{{ user }}: the secret has no key 'user'"),
        (Shape(key="config", json_pointer="/users/2"), "jsonPointer '/users/2': what is at '/users' is a list with no"),
        (Shape(key="config", json_pointer="/users/-"), "'-' is not the number of an item"),
        (Shape(key="config", json_pointer="/users/01"), "'01' is not the number of an item"),
        (Shape(key="config", json_pointer="/nobody"), "what is at '' has no member 'nobody'"),
        (Shape(key="config", json_pointer="/users/0/name/x"), "at '/users/0/name' is neither an object nor a list"),
        (Shape(key="username", json_pointer="/a"), "key 'username': jsonPointer '/a': what is at '' is not JSON"),
        (Shape(key="raw", json_pointer="/a"), "is not JSON"),
        (Shape(key="password", decode=Decode.BASE64), "key 'password': decode base64: is not base64"),
        (Shape(template="{{ password | base64decode }}"), "{{ password | base64decode }}: filter base64decode: is not"),
        (Shape(template="{{ raw | json }}"), "filter json: is not UTF-8 text"),
        (Shape(template="{{ . | json }}"), "the value of the key 'raw' is not UTF-8 text"),
        (Shape(template="{{ number | lines }}"), "filter lines: is JSON of another kind"),
        (Shape(template="{{ long | lines }}"), "filter lines: is a list of more than 4096 items"),
    ],
)
def test_what_cannot_be_made_names_key_pointer_or_filter(shape: Shape, why: str) -> None:
    assert why in refused(shape)


def test_no_refusal_shows_a_value() -> None:
    secret = "hunter2-hunter2"
    for value in (secret, json.dumps(secret), json.dumps({secret: secret}), json.dumps([secret]), '{"a":"' + secret):
        for shape in (
            *(Shape(template=f"{{{{ k | {name} | lines | base64decode }}}}") for name in FILTERS),
            Shape(key="k", json_pointer="/a"),
            Shape(key="k", json_pointer="/0/b"),
            Shape(key="k", decode=Decode.BASE64),
        ):
            told = refused(shape, {"k": value.encode()})
            assert secret not in told


def test_nothing_larger_than_a_file_comes_out() -> None:
    most = b"x" * MAX_FILE_BYTES
    assert render(Shape(template="{{ k }}"), {"k": most}) == most
    for template in ("{{ k }}.", "{{ k | base64 }}", "{{ k | json }}", "{{k}}" * 64, "{{ . | json }}"):
        assert f"makes more than {MAX_FILE_BYTES} bytes" in refused(Shape(template=template), {"k": most})
    document = b'{"a":"' + most + b'."}'
    assert "makes more than" in refused(Shape(key="k", json_pointer="/a"), {"k": document})


def test_work_that_comes_to_nothing_is_bounded_too() -> None:
    blank = b" " * MAX_FILE_BYTES
    deep = b"[" * 400 + b"1," * (MAX_FILE_BYTES // 2) + b"1" + b"]" * 400
    for shape, value in (
        (Shape(template="{{ k | trim }}" * 64), blank),
        (Shape(key="k", json_pointer="/0" * 32), deep),
        (Shape(template="{{ k | trim }}"), b" " * (MAX_WORK + 1)),
        (Shape(template="{{ k | lines | trim }}" * 64), b'[""' + b',""' * 4095 + b"]"),
    ):
        began = time.process_time()
        assert "takes more work than one file may" in refused(shape, {"k": value})
        assert time.process_time() - began < 1


@pytest.mark.parametrize("nest", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_json_that_is_nested_without_end_is_refused(nest: bytes) -> None:
    assert "is not JSON" in refused(Shape(key="k", json_pointer="/0"), {"k": b"[" + nest + b"]"})
    assert "is not JSON" in refused(Shape(template="{{ k | lines }}"), {"k": b"[" + nest + b"]"})


def test_items_stand_beside_the_keys_and_are_no_key_s_name() -> None:
    shapes = [Shape(key="config", json_pointer="/users/0/name"), Shape(template="{{ username }}")]
    items = with_items(VALUES, [*shapes, shapes[0]])
    assert {name: items[name] for name in VALUES} == VALUES
    assert {items[shape.item] for shape in shapes} == {b"ann", b"app"}
    assert all("/" in shape.item for shape in shapes)
    assert with_items(VALUES, []) == VALUES


def test_two_shapes_never_share_an_item() -> None:
    shapes = [
        Shape(key="a", json_pointer="/{{x}}"),
        Shape(template="a/text/{{x}}"),
        Shape(key="a", decode=Decode.BASE64, json_pointer="/{{x}}"),
        Shape(key="a", decode=Decode.BASE64),
    ]
    assert len({shape.item for shape in shapes}) == len(shapes)


def test_a_shape_that_fails_is_named_by_its_item() -> None:
    good, bad = Shape(template="{{ username }}"), Shape(template="{{ nobody }}")
    with pytest.raises(ShapeError) as caught:
        with_items(VALUES, [good, bad])
    assert caught.value.item == bad.item


KEYS = st.from_regex(r'[^\s"{}|/\x00-\x1f\x7f-\x9f]{1,8}', fullmatch=True).filter(
    lambda key: key != "." and not key.startswith("..")
)
INSERTS = st.builds(Insert, KEYS, st.lists(st.sampled_from(sorted(FILTERS)), max_size=3).map(tuple)) | st.just(
    Insert(".", ("json",))
)
TEXTS = st.text(st.sampled_from('{}" |ab\n.') | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def printed(template: Template) -> str:
    """A template's text, as people are told to write it: braces that are none stand in quotes."""
    return "".join(
        f"{{{{ {part} }}}}" if isinstance(part, Insert) else part.replace("{", '{{ "{" }}') for part in template
    )


def joined(parts: list[str | Insert]) -> Template:
    made: list[str | Insert] = []
    for part in parts:
        if made and isinstance(part, str) and isinstance(made[-1], str):
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


@given(st.lists(TEXTS | INSERTS, max_size=8), INSERTS)
def test_what_is_printed_is_read_back_the_same(parts: list[str | Insert], last: Insert) -> None:
    template = joined([*parts, last])
    assert parse(printed(template)) == template


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
BYTES = (
    st.binary(max_size=20)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.text(max_size=9).map(lambda text: text.encode(errors="replace"))
)
SHAPES = st.one_of(
    st.builds(Shape, template=st.lists(TEXTS | INSERTS.map(lambda one: f"{{{{{one}}}}}"), max_size=5).map("".join)),
    st.builds(
        Shape,
        key=st.just("a"),
        json_pointer=st.text(st.sampled_from("/~01ab"), max_size=8),
        decode=st.sampled_from([None, Decode.BASE64]),
    ),
)


def told(do: Callable[[], object]) -> str:
    """What is said of it where it is refused; everything else that is raised is an error."""
    try:
        do()
    except ShapeError as error:
        return str(error)
    return ""


@given(SHAPES, st.dictionaries(KEYS | st.just("a"), BYTES, max_size=4))
def test_whatever_is_asked_of_whatever_values_is_made_or_refused_in_one_line_of_ascii(
    shape: Shape, values: dict[str, bytes]
) -> None:
    problems = check_shape(shape)
    said = [*map(str, problems), "" if problems else told(lambda: render(shape, values))]
    assert all(one.isprintable() and one.isascii() for one in said)


@given(st.text())
def test_any_text_is_a_template_or_refused_in_one_line_of_ascii(text: str) -> None:
    said = told(lambda: parse(text))
    assert said.isprintable()
    assert said.isascii()


@given(st.binary(max_size=100))
def test_base64_goes_there_and_back(value: bytes) -> None:
    assert render(Shape(template="{{ k | base64 | base64decode }}"), {"k": value}) == value
    assert render(Shape(key="k", decode=Decode.BASE64), {"k": base64.encodebytes(value)}) == value


@given(st.text(max_size=50))
def test_text_goes_into_json_and_comes_out_by_pointer(text: str) -> None:
    value = text.encode(errors="replace")
    document = render(Shape(template='{"a":[{{ k | json }}]}'), {"k": value})
    assert render(Shape(key="k", json_pointer="/a/0"), {"k": document}) == value


@given(JSON, st.data())
def test_a_pointer_finds_what_python_finds(value: Any, data: st.DataObject) -> None:
    pointer, at = "", value
    while isinstance(at, dict | list) and at and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        pointer, at = f"{pointer}/{str(step).replace('~', '~0').replace('/', '~1')}", at[step]
    shape = Shape(key="k", json_pointer=pointer)
    if check_shape(shape):
        return
    found = render(shape, {"k": json.dumps(value).encode()})
    if pointer and isinstance(at, str):
        assert found.decode() == at
    else:
        assert json.loads(found) == at
