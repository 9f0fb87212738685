"""docs/admission.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kernelsecret.interceptor import Mode
from kernelsecret.names import EXCLUDED_NAMESPACES
from webhook.policy.explanation import Explanation
from webhook.policy.host_paths import OUR_PATHS
from webhook.policy.rules import STATUS_ANNOTATIONS, WISHES
from webhook.policy.served import SERVED_SOURCES
from webhook.policy.steps import Rule

PAGE = (Path(__file__).parents[4] / "docs" / "admission.md").read_text()


@pytest.mark.parametrize(
    "word",
    [
        *(rule.value for rule in Rule if rule is not Rule.OPT_IN),  # which refuses nothing
        *EXCLUDED_NAMESPACES,
        *STATUS_ANNOTATIONS,
        *WISHES,
        *OUR_PATHS,
        *Mode,
        *SERVED_SOURCES,
        *(field.encode_name for field in msgspec.structs.fields(Explanation) if field.encode_name not in ("rules",)),
    ],
)
def test_the_page_names_it(word: str) -> None:
    assert f"`{word}`" in PAGE or f"`{word}[]`" in PAGE
