"""How long credentials without a lease live, in the words of the engines that make them."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from agent.sources.vault.lifetimes import life_of
from telemetry.text import rfc3339

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("data", "lives_s"),
    [
        ({"expiration": NOW + 60}, 60),  # pki
        ({"expires_at_seconds": NOW + 3600, "token_ttl": 3599}, 3600),  # gcp
        ({"token_ttl": "1800"}, 1800),
        ({"ttl": 300}, 300),  # identity
        ({"expiration": NOW - 1, "ttl": "5m"}, 7),
        ({"ttl": True}, 7),
    ],
)
def test_each_engine_says_it_in_its_own_word(data: dict[str, Any], lives_s: float) -> None:
    assert life_of(data, 7, NOW) == lives_s


def test_where_nothing_says_it_they_live_for_ever() -> None:
    assert life_of({"ciphertext": "vault:v1:x"}, 0, NOW) == inf


@pytest.mark.parametrize("odd", [10**400, -(10**400), "9" * 5000, "9" * 300, 1e308, -1])
def test_a_time_that_no_calendar_has_does_no_harm(odd: object) -> None:
    for key in ("expiration", "ttl", "expires_at_seconds", "token_ttl"):
        life = life_of({key: odd}, 0, NOW)
        assert life == inf or rfc3339(int((NOW + life) * 1e9))
