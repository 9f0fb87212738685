from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from certs.document import state_of
from certs.rotation import Policy, first_state
from kernelsecret.errors import Refused
from webhook.keeping.objects import configuration_body, keys_body, read_keys, trust_body

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STATE = first_state(NOW, Policy())
TRUST = STATE.trust(NOW)
UNREADABLE = (b"", b"\xff", b"[]", b"null", b"[" * 10_000)


def raw(**fields: Any) -> bytes:
    return json.dumps({"metadata": {"name": "it", "resourceVersion": "7"}, **fields}).encode()


def read(body: bytes | None) -> Any:
    assert body is not None
    return json.loads(body)


def test_every_webhook_gets_the_bundle_in_one_writing_and_keeps_the_rest() -> None:
    found = raw(
        webhooks=[
            {"name": "a", "clientConfig": {"url": "https://127.0.0.1/mutate", "caBundle": "b2xk"}, "rules": [1]},
            {"name": "b", "clientConfig": {"service": {"name": "s"}}},
            {"name": "c"},
        ],
        unknown={"kept": True},
    )
    changed = read(configuration_body(found, "bundle"))
    assert [one["clientConfig"]["caBundle"] for one in changed["webhooks"]] == ["YnVuZGxl"] * 3
    assert changed["webhooks"][0]["clientConfig"]["url"] == "https://127.0.0.1/mutate"
    assert changed["webhooks"][0]["rules"] == [1]
    assert changed["unknown"] == {"kept": True}
    assert changed["metadata"]["resourceVersion"] == "7"
    assert configuration_body(json.dumps(changed).encode(), "bundle") is None


@pytest.mark.parametrize("fields", [{}, {"webhooks": None}, {"webhooks": []}])
def test_a_configuration_without_webhooks_has_nothing_to_change(fields: dict[str, Any]) -> None:
    assert configuration_body(raw(**fields), "bundle") is None


def test_published_trust_is_changed_only_where_it_differs() -> None:
    made = trust_body(None, "kernelsecret-system", TRUST)
    assert made is not None
    assert trust_body(made, "kernelsecret-system", TRUST) is None
    assert read(made)["metadata"] == {"name": "kernelsecret-trust", "namespace": "kernelsecret-system"}
    repaired = read(trust_body(raw(data={"ca.crt": "x"}, binaryData={"ca.crt": "eA=="}), "kernelsecret-system", TRUST))
    assert repaired["data"] == read(made)["data"]
    assert "binaryData" not in repaired
    assert repaired["metadata"]["resourceVersion"] == "7"


def test_published_trust_holds_public_halves_only() -> None:
    made = read(trust_body(None, "kernelsecret-system", TRUST))
    assert set(made["data"]) == {"ca.crt", "registration-keys.json"}
    assert [set(key) for key in json.loads(made["data"]["registration-keys.json"])] == [{"id", "publicKey", "notAfter"}]


def test_the_keys_come_back_from_the_secret_that_keeps_them() -> None:
    body = keys_body(None, "kernelsecret-system", STATE)
    found = read_keys(body)
    assert found is not None
    assert state_of(found.data) == STATE
    assert "state.json" not in repr(found)


def test_the_secret_keeps_its_metadata_and_the_version_that_was_read() -> None:
    found = raw(type="Opaque", data={"state.json": "eA=="}, metadata={"resourceVersion": "7", "labels": {"a": "b"}})
    assert read(keys_body(found, "kernelsecret-system", STATE))["metadata"] == {
        "resourceVersion": "7",
        "labels": {"a": "b"},
    }


def test_another_secret_is_not_ours() -> None:
    assert read_keys(raw(data={"state.json": "eA=="})) is None


@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_refused(answer: bytes) -> None:
    with pytest.raises(Refused):
        read_keys(answer)
    with pytest.raises(Refused):
        trust_body(answer, "kernelsecret-system", TRUST)
    with pytest.raises(Refused):
        configuration_body(answer, "bundle")
    with pytest.raises(Refused):
        keys_body(answer, "kernelsecret-system", STATE)
