"""Tokens are read from where kubelet puts them, and appear in no error, not even in one that hangs behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.csi.tokens import MAX_BYTES, TOKENS_KEY, tokens_of
from kernelsecret.errors import Refused
from tests.unit.csi.door import CANARY, TOKENS, outcome


def everything_behind(error: BaseException | None) -> str:
    told = ""
    while error is not None:
        told += repr(error) + str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return told


def test_tokens_come_in_secrets_or_in_the_volume_context() -> None:
    assert tokens_of({TOKENS_KEY: TOKENS}, {}) == {"vault": CANARY}
    assert tokens_of({}, {TOKENS_KEY: TOKENS}) == {"vault": CANARY}
    assert tokens_of({}, {}) == {}


def test_the_default_audience_has_an_empty_name() -> None:
    assert tokens_of({}, {TOKENS_KEY: '{"": {"token": "t"}}'}) == {"": "t"}


def test_tokens_in_both_places_are_refused_for_the_author_of_the_pod_wrote_one() -> None:
    with pytest.raises(Refused, match="volume_context") as caught:
        tokens_of({TOKENS_KEY: TOKENS}, {TOKENS_KEY: TOKENS})
    assert CANARY not in everything_behind(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        CANARY,
        f'"{CANARY}"',
        f'["{CANARY}"]',
        f'{{"vault": "{CANARY}"}}',
        f'{{"vault": {{"token": ["{CANARY}"]}}}}',
        f'{{"vault": {{"Token": "{CANARY}"}}}}',
        f'{{"vault": {{"token": "{CANARY}"}}',
        f'{{"vault": {{"token": "{CANARY}"}}, "other": {{"token": ""}}}}',
        "[" * 100_000 + CANARY,
        '{"a": ' * 100_000 + CANARY,
        f'{{"vault": {{"token": "{CANARY}{"x" * MAX_BYTES}"}}}}',
        "{" + ", ".join(f'"{i}": {{"token": "{CANARY}"}}' for i in range(33)) + "}",
    ],
)
@pytest.mark.parametrize("place", ["secrets", "volume_context"])
def test_what_is_not_kubelets_json_is_refused_without_repeating_it(text: str, place: str) -> None:
    with pytest.raises(Refused) as caught:
        tokens_of({TOKENS_KEY: text}, {}) if place == "secrets" else tokens_of({}, {TOKENS_KEY: text})
    assert caught.value.field == f"{place}[{TOKENS_KEY}]"
    assert CANARY not in everything_behind(caught.value)


@given(st.text(), st.text())
def test_no_text_around_the_token_makes_an_error_repeat_it(before: str, after: str) -> None:
    taken = outcome(lambda: tokens_of({TOKENS_KEY: before + CANARY + after}, {}))
    if isinstance(taken, Refused):
        assert CANARY not in everything_behind(taken)
