"""Login as the pod by Vault's kubernetes auth, which asks a real API server about the pod's token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.model import PodRef
from agent.sources.vault.errors import Kind
from agent.vault_ref import Identity
from kernelsecret.interceptor import VaultMethod
from tests.apiserver.harness.cluster import Cluster
from tests.unit.cli.run.commanded import ran
from tests.vault.doors import Door, identity, opened, refused, settings_for
from tests.vault.harness.logins import KubernetesAuth
from tests.vault.harness.server import VaultServer, new_path


@dataclass
class Shop:
    """A namespace with two accounts; `web` has a role."""

    auth: KubernetesAuth
    cluster: Cluster
    namespace: str
    policy: str
    kv: str

    def who(self, role: str = "web", account: str = "web") -> Identity:
        """Whom a pod of an account reads as."""
        pod = PodRef(self.namespace, f"{account}-1", "uid", account)
        return identity(self.auth.mount, role, method=VaultMethod.KUBERNETES, pod=pod)

    def bring(self, door: Door, account: str = "web", *, audience: str = "vault") -> str:
        """As kubelet brings the token of a pod of an account; it says that it is for `vault` in any case."""
        token = self.cluster.token(self.namespace, account, audience=audience)
        door.bring(token, PodRef(self.namespace, f"{account}-1", "uid", account))
        return token

    async def value(self, door: Door, who: Identity) -> str:
        """What is read as somebody."""
        return str((await door.client.read(who, f"{self.kv}/data/app")).data["data"]["password"])


@pytest.fixture
def shop(vault: VaultServer, cluster: Cluster, kv: str) -> Shop:
    auth, namespace = KubernetesAuth(vault, cluster), new_path("shop")
    cluster.namespace(namespace)
    for account in ("web", "other"):
        cluster.account(namespace, account)
    vault.write(f"{kv}/data/app", data={"password": "one"})
    policy = vault.policy(f"{kv}/data/app: read")
    auth.add_role("web", namespace, "web", policy)
    return Shop(auth, cluster, namespace, policy, kv)


async def test_a_pod_reads_with_the_token_that_kubelet_brings(vault: VaultServer, shop: Shop) -> None:
    async with opened(settings_for(vault)) as door:
        shop.bring(door)
        assert await shop.value(door, shop.who()) == "one"
        assert await shop.value(door, shop.who()) == "one"
    logins = [one for one in vault.audit.requests(f"auth/{shop.auth.mount}/login") if one.is_login]
    assert [one.who for one in logins] == [f"{shop.auth.mount}-{shop.namespace}-web"]


@pytest.mark.parametrize(
    ("case", "field", "words"),
    [
        ("role", "source.vault.role", "Vault has no role 'nope'"),
        ("audience", "source.vault.auth.audience", "is not for tokens of the audience 'vault'"),
        ("account", "source.vault.role", "is not for the account"),
        ("namespace", "source.vault.role", "is not for the namespace"),
        ("other cluster", "source.vault.auth.mount", "it does not accept the token of"),
    ],
)
async def test_each_refusal_names_the_field_to_change(
    vault: VaultServer, shop: Shop, case: str, field: str, words: str
) -> None:
    async with opened(settings_for(vault)) as door:
        who = shop.who()
        token = shop.bring(door, audience="another" if case == "audience" else "vault")
        if case == "role":
            who = shop.who("nope")
        elif case == "account":
            who, token = shop.who(account="other"), shop.bring(door, "other")
        elif case == "namespace":
            shop.auth.add_role("elsewhere", "elsewhere", "web", shop.policy)
            who = shop.who("elsewhere")
        elif case == "other cluster":
            header, claims, signature = token.split(".")
            token = f"{header}.{claims}.{'A' * len(signature)}"
            door.bring(token, PodRef(shop.namespace, "web-1", "uid", "web"))
        error = await refused(shop.value(door, who))
        assert error.kind is Kind.LOGIN
        assert error.field == field
        assert words in error.why
        assert error.fix
        assert token not in str(error)


def test_one_command_without_the_product_logs_in_as_its_pod(vault: VaultServer, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "token"
    login = ("--vault-role", "web", "--vault-mount", shop.auth.mount, "--vault-jwt-file", file)
    show = ("--", "sh", "-c", 'cat "$A"')
    given = {"A": f"vault:{shop.kv}/data/app#password", "VAULT_ADDR": vault.url, "VAULT_CACERT": str(vault.ca_file)}
    file.write_text(shop.cluster.token(shop.namespace, "web", audience="vault"))
    done = ran(*login, *show, **given)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == vault.read(f"{shop.kv}/data/app")["data"]["data"]["password"]
    file.write_text(shop.cluster.token(shop.namespace, "web", audience="another"))
    done = ran(*login, *show, **given)
    assert (done.stdout, done.returncode) == ("", 125)
    assert "--vault-jwt-file: the role 'web'" in done.stderr
    assert "is not for tokens of the audience 'another'" in done.stderr
