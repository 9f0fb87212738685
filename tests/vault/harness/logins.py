"""Ways to log in to Vault, each at a mount of its own: with a token of Kubernetes, with any signed token, by AppRole.

Each gives a role to policies (`add_role`), and a `login` as a program would, for tests of Vault itself.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.apiserver.harness.cluster import Cluster
from tests.vault.harness.server import VaultServer, new_path

AUDIENCE: Final = "vault"
"""What tokens for Vault are for, unless a test says otherwise."""


@dataclass(frozen=True)
class Login:
    """A token of Vault, and what Vault said of it."""

    token: str = field(repr=False)
    accessor: str
    policies: tuple[str, ...]
    ttl_s: int
    is_renewable: bool


def login(vault: VaultServer, mount: str, **given: str) -> Login:
    """Log in at an auth mount, without a token. An error of hvac where Vault refuses."""
    auth = vault.client().adapter.post(f"/v1/auth/{mount}/login", json=given)["auth"]
    policies = tuple(auth["policies"])
    return Login(auth["client_token"], auth["accessor"], policies, auth["lease_duration"], auth["renewable"])


class KubernetesAuth:
    """Vault's kubernetes auth at `mount`, which asks a real API server by TokenReview, as an account of its own.

    `cluster.token(namespace, account, audience=AUDIENCE, pod=...)` makes what a role logs in with.
    """

    def __init__(self, vault: VaultServer, cluster: Cluster, *, mount: str = "") -> None:
        self._vault = vault
        self.mount = mount or vault.enable_login("kubernetes")
        namespace = new_path("vault")
        cluster.namespace(namespace)
        cluster.account(namespace, "reviewer")
        cluster.kubectl.apply(_may_review(namespace, "reviewer"))
        vault.write(
            f"auth/{self.mount}/config",
            kubernetes_host=cluster.server.url,
            kubernetes_ca_cert=cluster.certificates.authority.read_text(),
            token_reviewer_jwt=cluster.token(namespace, "reviewer"),
            disable_local_ca_jwt=True,
        )

    def add_role(
        self, name: str, namespace: str, account: str, *policies: str, audience: str = AUDIENCE, **settings: Any
    ) -> None:
        """Give an account's tokens these policies (`token_ttl`, `token_max_ttl`, `token_period`, ...)."""
        self._vault.write(
            f"auth/{self.mount}/role/{name}",
            bound_service_account_names=[account],
            bound_service_account_namespaces=[namespace],
            audience=audience,
            token_policies=policies,
            **settings,
        )

    def login(self, role: str, token: str) -> Login:
        """Log in with a service-account token."""
        return login(self._vault, self.mount, role=role, jwt=token)


class JwtAuth:
    """Vault's jwt auth at `mount`, which trusts one key (ES256) of this object: for tests without an API server."""

    def __init__(self, vault: VaultServer, *, issuer: str = "https://tests.example", mount: str = "") -> None:
        self._vault = vault
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        self.mount = mount or vault.enable_login("jwt")
        self.trust_key()

    def trust_key(self, *, new: bool = False) -> None:
        """Have Vault trust the key; with `new` another one, so that older tokens log in no more."""
        if new:
            self._key = ec.generate_private_key(ec.SECP256R1())
        encoding = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        key = self._key.public_key().public_bytes(*encoding).decode()
        self._vault.write(f"auth/{self.mount}/config", jwt_validation_pubkeys=[key], bound_issuer=self.issuer)

    def add_role(self, name: str, subject: str, *policies: str, audience: str = AUDIENCE, **settings: Any) -> None:
        """Give tokens of a subject, like `system:serviceaccount:shop:web`, these policies."""
        self._vault.write(
            f"auth/{self.mount}/role/{name}",
            role_type="jwt",
            user_claim="sub",
            bound_subject=subject,
            bound_audiences=[audience],
            token_policies=policies,
            **settings,
        )

    def token(self, subject: str, *, audience: str = AUDIENCE, lives_s: float = 3600, **claims: Any) -> str:
        """A signed token; with a negative life it has expired (Vault bears 150 s)."""
        now = int(time.time())
        given = {"iss": self.issuer, "sub": subject, "aud": audience, "iat": now, "exp": int(now + lives_s), **claims}
        signed = f"{_part({'alg': 'ES256', 'typ': 'JWT'})}.{_part(given)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def login(self, role: str, token: str) -> Login:
        """Log in with a token."""
        return login(self._vault, self.mount, role=role, jwt=token)


class AppRoleAuth:
    """Vault's approle auth at `mount`."""

    def __init__(self, vault: VaultServer, *, mount: str = "") -> None:
        self._vault = vault
        self.mount = mount or vault.enable_login("approle")

    def add_role(self, name: str, *policies: str, **settings: Any) -> str:
        """A role with these policies (`secret_id_num_uses`, `token_ttl`, ...); its role id."""
        self._vault.write(f"auth/{self.mount}/role/{name}", token_policies=policies, **settings)
        return str(self._vault.read(f"auth/{self.mount}/role/{name}/role-id")["data"]["role_id"])

    def secret_id(self, role: str) -> str:
        """A new secret id."""
        return str(self._vault.write(f"auth/{self.mount}/role/{role}/secret-id")["data"]["secret_id"])

    def login(self, role_id: str, secret_id: str) -> Login:
        """Log in with both ids."""
        return login(self._vault, self.mount, role_id=role_id, secret_id=secret_id)


def _may_review(namespace: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{namespace}-{account}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def _part(content: dict[str, Any]) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
