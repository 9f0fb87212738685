"""The tokens of pods: verified whenever kubelet brings them, held while the pod has a volume, never needed in vain."""

from __future__ import annotations

import pytest

from kernelsecret.errors import Code, Refused
from tests.unit.serving.desk import AWAY, Desk
from tests.unit.serving.interceptors import from_vault

READER = "payments/api"
FORGED = Refused(Code.PERMISSION_DENIED, "serviceAccount.tokens['vault'].pod-uid", "is not the live pod's")


def held(desk: Desk, audience: str = "vault") -> str:
    return desk.credentials.token(READER, audience).token


async def test_a_verified_token_is_there_before_the_first_read_and_gone_with_the_last_volume(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish(vault="token-1")
    await desk.publish("csi-2", vault="token-1")
    assert (held(desk), desk.verified[0]) == ("token-1", ("uid-1", {"vault": "token-1"}))
    await desk.unpublish("csi-1")
    assert held(desk) == "token-1"
    await desk.unpublish("csi-2")
    with pytest.raises(Refused, match="no live token"):
        held(desk)


async def test_a_token_that_is_not_the_pods_own_refuses_also_where_none_is_needed(desk: Desk) -> None:
    desk.refusal = FORGED
    with pytest.raises(Refused, match="pod-uid"):
        await desk.publish(vault="token-1")
    assert (len(desk.volumes), desk.source.fetched) == (0, [])
    with pytest.raises(Refused, match="no live token"):
        held(desk)


async def test_a_volume_of_files_needs_no_token_and_none_that_can_be_verified(desk: Desk) -> None:
    await desk.publish()
    desk.refusal = AWAY
    await desk.publish("csi-2", vault="token-1")
    assert len(desk.volumes) == 2


async def test_where_nobody_can_verify_nothing_is_read_as_the_pod(desk: Desk) -> None:
    from_vault(desk)
    desk.refusal = AWAY
    with pytest.raises(Refused) as refused:
        await desk.publish(vault="token-1")
    assert (refused.value.code, desk.vault.fetched) == (Code.UNAVAILABLE, [])


async def test_kubelet_asking_again_brings_a_new_token(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish(vault="token-1")
    await desk.publish(vault="token-2")
    assert held(desk) == "token-2"


async def test_a_forged_token_is_refused_also_when_kubelet_asks_again(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish(vault="token-1")
    desk.refusal = FORGED
    with pytest.raises(Refused, match="pod-uid"):
        await desk.publish(vault="forged")
    assert held(desk) == "token-1"


async def test_a_container_that_restarts_finds_its_volume_while_nobody_can_verify(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish(vault="token-1")
    desk.refusal = AWAY
    await desk.publish(vault="token-2")
    assert held(desk) == "token-1"


async def test_a_publish_that_fails_leaves_no_token(desk: Desk) -> None:
    from_vault(desk)
    desk.vault.failure = Refused(Code.UNAVAILABLE, "KERNELSECRET_VAULT_ADDRESS", "nobody answers")
    with pytest.raises(Refused, match="nobody answers"):
        await desk.publish(vault="token-1")
    with pytest.raises(Refused, match="no live token"):
        held(desk)


async def test_no_token_is_in_what_is_written_or_shown(desk: Desk) -> None:
    from_vault(desk)
    await desk.publish(vault="secret-token")
    assert "secret-token" not in repr(desk.credentials.token(READER, "vault"))
    assert "secret-token" not in str(desk.parts.secrets.as_status())
