"""Two accounts that read one secret: its bytes are shared, the right to them is each account's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.harness import until
from tests.agent.opening import opened
from tests.needs import kernel_lacks, need
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from tests.vault.nodes import VaultNode, as_pod
from tests.vault.sourced import subject

OLD, NEW = (f"{tag}:{'x' * 5000}:end" for tag in ("v1", "v2"))


@pytest.fixture
def node(vault: VaultServer) -> Iterator[VaultNode]:
    need(not kernel_lacks(), kernel_lacks() or "")
    with opened(VaultNode) as made:
        made.reads_from(vault)
        yield made


async def test_who_has_lost_the_right_gets_nothing_of_what_is_stored_for_another(
    node: VaultNode, vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    vault.write(f"{kv}/data/app", data={"key": OLD})
    rules = (f"{kv}/data/app: read", f"{kv}/metadata/app: read")
    policies = {account: vault.policy(*rules) for account in ("one", "other")}
    for account, policy in policies.items():
        jwt.add_role(account, subject(account), policy)
    one, other = (
        node.pod_of(account, as_pod(jwt, f"{kv}/data/app", account), "key", account=account) for account in policies
    )

    def chunks() -> int:
        return int(node.status()["kernel"]["chunks_used"])

    def facts(account: str) -> tuple[str, str]:
        (found,) = (secret for secret in node.served() if secret["reader"] == f"shop/{account}")
        return found["version"], found["problem"]

    await node.started()
    empty = chunks()
    await node.publish_as(one, jwt)
    stored = chunks() - empty
    assert stored >= 4
    await node.publish_as(other, jwt)
    assert node.status()["kernel"]["secrets"] == 2, "each account has its own"
    assert chunks() - empty == stored, "of the same bytes"
    readers = [node.reader(pod, "key") for pod in (one, other)]

    vault.set_policy(policies["other"])
    await until(lambda: "Vault forbids" in facts("other")[1], "the loss is told")
    vault.write(f"{kv}/data/app", data={"key": NEW})
    await node.shows(one, "key", NEW.encode())
    assert node.read(other, "key") == [OLD.encode()]
    assert facts("one") == ("version 2", "")
    assert facts("other")[0] == "version 1"
    (told,) = node.troubles()
    assert told.endswith(" as shop/other")
    await until(lambda: chunks() - empty == 2 * stored, "both versions are stored")
    late = node.pod("late", "other", account="other")
    error = await node.refused(late, volume_context=node.token(late, jwt))
    assert (error.code, "Vault forbids" in error.details) == ("PERMISSION_DENIED", True)
    assert node.read(other, "key") == [OLD.encode()]

    vault.set_policy(policies["other"], *rules)
    await node.shows(other, "key", NEW.encode())
    await until(lambda: chunks() - empty == stored, "it is stored once again")
    await until(lambda: not node.troubles(), "nothing is wrong any more")
    for reader in readers:
        seen = reader.finish()
        assert (seen.faults, seen.versions) == ([], ["v1", "v2"])
    for pod in (one, other):
        await node.unpublish(pod)
    await until(lambda: chunks() == empty, "nothing is stored any more")
