from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import create_authority
from certs.document import KEY, LONGEST, data_of, state_of
from certs.keys import Kept, KeyState
from certs.leaf import issue_server_leaf
from certs.rotation import Policy, first_state, next_state
from certs.signing import new_signing_key
from kernelsecret.errors import Code, Refused
from tests.unit.certs.samples import DAY, NOW, YEAR

POLICY = Policy()


def in_rotation() -> KeyState:
    """A state with an authority that is next and a signing key that is former."""
    state = first_state(NOW, POLICY)
    former = Kept(new_signing_key(NOW + DAY), NOW, published_at=NOW, used_from=NOW, retired_at=NOW)
    state = replace(state, signing_keys=(*state.signing_keys, former))
    after = next_state(state, NOW + POLICY.authority_lifetime / 2, POLICY, published=True)
    assert after is not None
    return replace(after, signing_keys=state.signing_keys)


STATE = in_rotation()
DATA = data_of(STATE)
SECRETS = [
    line
    for pem in [STATE.leaf.key_pem, *(kept.item.key_pem for kept in STATE.authorities)]
    for line in pem.splitlines()[1:-1]
]


def refusal(data: dict[str, bytes]) -> Refused:
    with pytest.raises(Refused) as refused:
        state_of(data)
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert refused.value.field == "Secret kernelsecret-webhook-keys"
    assert not any(line in str(refused.value) for line in SECRETS)
    return refused.value


def changed(change: Callable[[Any], object]) -> dict[str, bytes]:
    document = copy.deepcopy(json.loads(DATA[KEY]))
    change(document)
    return {KEY: json.dumps(document).encode()}


def test_a_state_comes_back_as_it_was() -> None:
    assert state_of(data_of(STATE)) == STATE
    first = first_state(NOW.replace(microsecond=123456), POLICY)
    assert state_of(data_of(first)) == first


def test_the_document_stays_small() -> None:
    assert len(DATA[KEY]) < 8000


@pytest.mark.parametrize(
    "data",
    [{}, {"tls.key": b"x"}, DATA | {"tls.key": b"x"}, {KEY: b""}, {KEY: b"{}"}, {KEY: b"\xff"}, {KEY: b"[" * 9999}],
)
def test_what_is_no_document_is_refused(data: dict[str, bytes]) -> None:
    assert "restore it, or delete it" in refusal(data).fix


def test_a_document_that_is_too_long_is_refused() -> None:
    assert refusal({KEY: DATA[KEY] + b" " * LONGEST}).why == f"longer than {LONGEST} bytes"


def test_a_document_of_a_later_version_is_refused_with_another_remedy() -> None:
    refused = refusal(changed(lambda document: document.update(version=2, more={})))
    assert refused.why.startswith("not of version 1")
    assert refused.fix == "run the version that wrote it"


OTHER = create_authority(NOW, YEAR)
OTHER_LEAF = issue_server_leaf(OTHER, ("other",), NOW, DAY)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(more=1),
        lambda document: document.pop("leaf"),
        lambda document: document.update(authorities=[]),
        lambda document: document.update(signingKeys=[]),
        lambda document: document["authorities"].append(document["authorities"][0]),
        lambda document: document["authorities"][0]["pair"].update(key=OTHER.key_pem),
        lambda document: document["authorities"][0].update(
            pair={"certificate": OTHER_LEAF.certificate_pem, "key": OTHER_LEAF.key_pem}
        ),
        lambda document: document["authorities"][0]["stamps"].update(madeAt="2026-01-01T00:00:00"),
        lambda document: document["authorities"][0]["stamps"].update(retiredAt="2026-01-01T00:00:00"),
        lambda document: document["authorities"][0]["stamps"].update(retiredAt="2026-01-01T00:00:00Z"),
        lambda document: document["authorities"][0]["stamps"].update(madeAt="yesterday"),
        lambda document: document["leaf"].update(key=OTHER.key_pem),
        lambda document: document["leaf"].update(certificate=OTHER_LEAF.certificate_pem, key=OTHER_LEAF.key_pem),
        lambda document: document["leaf"].update(certificate=OTHER.certificate_pem, key=OTHER.key_pem),
        lambda document: document["leaf"].update(certificate=document["leaf"]["key"]),
        lambda document: document["signingKeys"][0].update(privateKey="AAAA"),
        lambda document: document["signingKeys"][0].update(privateKey="not base64!"),
        lambda document: document["signingKeys"][0].update(notAfter="2030-01-01T00:00:00"),
    ],
)
def test_a_damaged_document_is_refused(change: Callable[[Any], object]) -> None:
    refusal(changed(change))


@given(st.integers(0, len(DATA[KEY]) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_document_with_any_damage_is_refused_or_read_whole(at: int, instead: bytes, taken: int) -> None:
    raw = DATA[KEY][:at] + instead + DATA[KEY][at + taken :]
    try:
        state = state_of({KEY: raw})
    except Refused as refused:
        assert not any(line in str(refused) for line in SECRETS)  # noqa: PT017  (either way is right)
    else:
        assert state_of(data_of(state)) == state


def test_no_key_is_shown() -> None:
    shown = repr(STATE) + str(STATE)
    assert "PRIVATE" not in shown
    for kept in STATE.signing_keys:
        assert repr(kept.item.private_key) not in shown
