"""Quantities, selectors and registrations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.problems import Invalid
from kernelsecret.quantities import mode, seconds, size
from kernelsecret.registration import read_registration
from kernelsecret.selectors import LabelSelector, Operator, Requirement


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1s", 1.0), ("500ms", 0.5), ("1m30s", 90.0), ("0s", 0.0), ("1.5h", 5400.0), ("2h1ms", 7200.001)],
)
def test_durations_are_read(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "1", "-1s", "1 s", "s", "1d", "\u0661s", "1e3s", "1s" * 40])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


@given(st.integers(0, 10**12))
def test_a_size_means_the_same_as_number_and_as_text(number: int) -> None:
    assert size(number) == size(str(number)) == number
    assert size(f"{number}Ki") == number * 1024


@pytest.mark.parametrize("value", [-1, "", "1KiB", "1.5Mi", "-1", " 1", "1" * 16])
def test_what_is_no_size_is_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match=r"bytes|less than"):
        size(value)


@given(st.integers(-10, 0o7777))
def test_only_reading_can_be_allowed(value: int) -> None:
    if 0 < value <= 0o444 and value & ~0o444 == 0:
        assert mode(value) == mode(f"{value:04o}") == value
    else:
        with pytest.raises(ValueError, match="only be readable"):
            mode(value)


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))
REQUIREMENTS = st.builds(
    Requirement,
    key=st.sampled_from("abc"),
    operator=st.sampled_from(Operator),
    values=st.lists(st.sampled_from("xyz"), min_size=1).map(tuple),
)


@given(LABELS, LABELS, st.lists(REQUIREMENTS).map(tuple))
def test_a_selector_matches_as_the_api_server_s_do(
    labels: dict[str, str], wanted: dict[str, str], requirements: tuple[Requirement, ...]
) -> None:
    def holds(requirement: Requirement) -> bool:
        there = requirement.key in labels
        listed = there and labels[requirement.key] in requirement.values
        return {"In": listed, "NotIn": not listed, "Exists": there, "DoesNotExist": not there}[requirement.operator]

    selector = LabelSelector(match_labels=wanted, match_expressions=requirements)
    expected = wanted.items() <= labels.items() and all(holds(requirement) for requirement in requirements)
    assert selector.matches(labels) is expected
    assert LabelSelector().matches(labels)


REGISTRATION: dict[str, Any] = {
    "podUid": "u",
    "namespace": "n",
    "name": "p",
    "serviceAccount": "s",
    "interceptor": "i",
    "node": "node",
    "expiresAt": "2100-01-01T00:00:00Z",
    "nonce": "0123456789abcdef",
}


def test_a_registration_is_read() -> None:
    assert read_registration(REGISTRATION).pod_uid == "u"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("podUid", ""),
        ("node", ""),
        ("expiresAt", "2100-01-01T00:00:00"),
        ("expiresAt", "tomorrow"),
        ("nonce", "short"),
        ("version", 2),
        ("signature", "x"),
    ],
)
def test_a_registration_that_is_not_whole_is_refused_with_its_field_named(field: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        read_registration({**REGISTRATION, field: value})
    assert caught.value.problems[0].field == field
