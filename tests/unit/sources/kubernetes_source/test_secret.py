"""From the API server's JSON to values and notices; what is odd is refused, and nothing of it is repeated."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import SecretRef
from agent.sources.kubernetes.place import Kind, SecretError, place_of
from agent.sources.kubernetes.secret import Fingerprints, WatchEnded, read_notice, read_secret

PLACE = place_of(SecretRef("kubernetes", "payments/db", "payments/api"), "a/b")
CANARY = "canary-71c2"


def secret(data: object, **more: Any) -> bytes:
    return json.dumps({"kind": "Secret", "metadata": {"resourceVersion": "7"}, "data": data, **more}).encode()


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@given(st.dictionaries(st.text("abc.-_", min_size=1, max_size=8), st.binary(max_size=200), min_size=1, max_size=8))
def test_values_are_what_was_encoded(values: dict[str, bytes]) -> None:
    read = read_secret(PLACE, secret({name: encoded(value) for name, value in values.items()}))
    assert (read.version, read.values) == ("7", values)


def test_a_value_shows_in_no_repr() -> None:
    read = read_secret(PLACE, secret({"password": encoded(CANARY.encode())}))
    assert CANARY not in repr(read)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 5000,
        secret({"password": f"?{CANARY}?"}),
        secret([CANARY]),
        secret({}, kind="ConfigMap"),
        secret({"password": encoded(b"x")}, metadata={}),
        secret({"password": 7}),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(answer: bytes) -> None:
    with pytest.raises(SecretError) as caught:
        read_secret(PLACE, answer)
    assert caught.value.kind is Kind.BAD_ANSWER
    assert CANARY not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "has no keys"),
        ({}, "has no keys"),
        ({f"key-{number}": "" for number in range(65)}, "more than 64 keys"),
        ({"a": "", "large": encoded(b"x" * (1 << 20) + b"x")}, "the key large has more than 1048576 bytes"),
    ],
)
def test_keys_and_sizes_are_bounded_as_elsewhere(data: object, words: str) -> None:
    with pytest.raises(SecretError, match=words) as caught:
        read_secret(PLACE, secret(data))
    assert caught.value.kind is Kind.UNUSABLE


def line(kind: str, version: str = "8") -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": version}}}).encode()


def test_a_notice_says_which_version_there_is_now() -> None:
    assert [read_notice(line(kind)).version for kind in ("ADDED", "MODIFIED", "DELETED")] == ["8", "8", ""]
    assert not read_notice(line("BOOKMARK")).is_news


@pytest.mark.parametrize("text", [line("ERROR"), line("OTHER"), b"{}", b'{"type":"ADDED","object":7}', b"\xff"])
def test_a_watch_that_says_something_else_has_ended(text: bytes) -> None:
    with pytest.raises(WatchEnded):
        read_notice(text)


def test_values_are_told_apart_without_being_kept() -> None:
    before = Fingerprints({"password": b"one", "note": b""})
    assert before == Fingerprints({"note": b"", "password": b"one"})
    for other in ({"password": b"two", "note": b""}, {"password": b"one"}, {"password": b"one", "note": b"", "x": b""}):
        assert before != Fingerprints(other)
    assert b"one" not in b"".join(before._digests.values())
    assert before.emptied({"password": b"", "note": b"", "new": b""}) == "password"
    assert before.emptied({"note": b"x", "password": b"two"}) is None
