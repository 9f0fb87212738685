"""Certificates and keys of a cluster, made anew for each, and the kubeconfigs that hold them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Certificates:
    """An authority in `folder`, which only this user can read, and what it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._authority = trustme.CA(organization_name="tests of KernelSecret")
        self.authority = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.authority))

    def server(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate that serves these hosts: the files of the chain and of the key."""
        return self._issue(name, *hosts, common_name=name)

    def client(self, user: str, *, group: str | None = None) -> tuple[Path, Path]:
        """A certificate by which the API server knows this user, in one group: the files of the chain and the key."""
        name = user.replace(":", "-")
        return self._issue(name, f"{name}.client.test", common_name=user, organization_name=group)

    def account_key(self) -> Path:
        """The key that service-account tokens are signed with, one for all API servers."""
        path = self.folder / "accounts.key"
        if path.exists():
            return path
        key = ec.generate_private_key(ec.SECP256R1())
        return self._secret(
            path.name,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            ),
        )

    def _issue(
        self, name: str, *hosts: str, common_name: str, organization_name: str | None = None
    ) -> tuple[Path, Path]:
        issued = self._authority.issue_cert(*hosts, common_name=common_name, organization_name=organization_name)
        chain = self.folder / f"{name}.crt"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return chain, self._secret(f"{name}.key", issued.private_key_pem.bytes())

    def _secret(self, name: str, value: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(value)
        return path


def kubeconfig(
    path: Path,
    server: str,
    authority: Path,
    *,
    certificate: tuple[Path, Path] | None = None,
    token: str = "",
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig (JSON, which is YAML) for a client certificate (chain, key) or a token."""
    user: dict[str, str] = {}
    if certificate:
        user = {"client-certificate": str(certificate[0]), "client-key": str(certificate[1])}
    if token:
        user["token"] = token
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {
                "name": "test",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
    return path
