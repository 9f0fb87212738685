"""What the door to Vault says, where operators look."""

from __future__ import annotations

import pytest

from agent.sources.vault.errors import Kind, VaultError
from agent.vault_ref import Identity
from agent.vault_telling import VaultTelling
from kernelsecret.interceptor import VaultMethod
from tests.unit.serving.desk import Desk

SEALED = VaultError(Kind.SEALED, "KERNELSECRET_VAULT_ADDRESS", "Vault is sealed", "unseal it")
WEB = Identity(VaultMethod.JWT, "jwt", "web", "shop/web", "vault")


@pytest.fixture
def told(desk: Desk) -> VaultTelling:
    return VaultTelling(desk.telling)


async def test_an_outage_is_a_condition_until_vault_is_back(desk: Desk, told: VaultTelling) -> None:
    told.went_down(SEALED)
    (held,) = desk.telling.conditions.holding()
    assert (held.reason.value, held.subject) == ("source-down", "vault")
    assert "Vault is sealed" in held.why
    told.came_up(12.5)
    assert desk.reasons() == []
    value = desk.telling.metrics.registry.get_sample_value
    assert value("kernelsecret_source_down_seconds_total", {"source": "vault"}) == 12.5
    assert value("kernelsecret_source_errors_total", {"source": "vault", "kind": "sealed"}) == 1


async def test_errors_are_counted_by_their_kind_and_logins_by_what_became_of_them(
    desk: Desk, told: VaultTelling
) -> None:
    for kind in Kind:
        told.failed(VaultError(kind, "vault:secret/data/app", "no"))
    told.logged_in(WEB, again=False)
    told.logged_in(WEB, again=True)
    told.token_failing(WEB, SEALED)
    value = desk.telling.metrics.registry.get_sample_value
    for kind in Kind:
        assert value("kernelsecret_source_errors_total", {"source": "vault", "kind": kind.value}) == 1
    logins = [
        value("kernelsecret_source_logins_total", {"source": "vault", "result": result})
        for result in ("first", "again", "failing")
    ]
    assert logins == [1, 1, 1]
