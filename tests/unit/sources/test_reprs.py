"""What holds a credential shows nothing of it, wherever it is printed."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from agent.sources.vault import answers, records, token_record
from agent.sources.vault.kv import Data
from webhook.push import keys

CANARY = "canary-0123456789"


def filled(kind: type[Any]) -> Any:
    """One with a canary wherever a text, or anything, can be."""
    return msgspec.convert([_canary(one.type) for one in msgspec.structs.fields(kind)], kind)


def _canary(kind: Any) -> Any:
    return {str: CANARY, bool: True, dict[str, bytes]: {CANARY: base64.b64encode(CANARY.encode()).decode()}}.get(
        kind, 1
    )


def test_a_lease_as_it_is_kept_shows_its_label_only() -> None:
    held = filled(records._Held)
    assert repr(msgspec.structs.replace(held, label="lease 1f")) == "_Held(lease 1f)"


@pytest.mark.parametrize(
    "shown",
    [
        msgspec.json.decode(f'{{"client_token": "{CANARY}", "accessor": "{CANARY}"}}'.encode(), type=answers.Auth),
        answers.envelope(f'{{"lease_id": "{CANARY}", "data": {{"a": "{CANARY}"}}}}'.encode()),
        answers.Answer("secret/x", CANARY.encode(), lease_id=CANARY),
        answers.Lease(CANARY, 1, True),
        token_record.granted(answers.Auth(client_token=CANARY, accessor=CANARY), 0.0),
        msgspec.convert({"metadata": {}, "data": {"a": CANARY}}, Data),
        keys._secret.decode(f'{{"metadata": {{}}, "data": {{"ci": "{base64.b64encode(CANARY.encode()).decode()}"}}}}'),
        keys.Keys({"ci": CANARY.encode()}),
    ],
)
def test_no_credential_is_shown(shown: object) -> None:
    assert CANARY not in repr(shown)
