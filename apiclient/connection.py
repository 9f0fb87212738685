"""Where the API server is and how we prove ourselves: from the pod that we run in, or from a kubeconfig file."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from apiclient import kubeconfig
from apiclient.kubeconfig import pem
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where kubelet projects the pod's own token, the cluster's CA and the namespace."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What `ApiClient` needs. `server` is an https URL, perhaps with a path (http only to this machine itself).

    Files are read again when they change; `..._pem` and `token` are what a kubeconfig had inline. A CA of neither kind
    means the system's.
    """

    server: str
    ca_file: Path | None = None
    token_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    namespace: str = "default"
    server_name: str = ""
    """The name that the server's certificate must have, where it is not the host of `server`."""
    ca_pem: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    client_certificate_pem: str = field(default="", repr=False)
    client_key_pem: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        url = urlsplit(self.server)
        if url.username is not None:  # and what comes with it is not shown
            raise Refused(Code.FAILED_PRECONDITION, "server", "has a user in it", "give the credential as a token")
        if url.scheme not in ("https", "http") or not url.hostname or url.query or url.fragment:
            raise Refused(Code.FAILED_PRECONDITION, "server", f"{quoted(self.server)} is not an https URL")
        if url.scheme == "http" and not is_this_machine(url.hostname):
            raise Refused(
                Code.FAILED_PRECONDITION,
                "server",
                f"{quoted(self.server)} would send the credential in the clear",
                "use https; http is for this machine's own addresses only",
            )
        certificate = bool(self.client_certificate or self.client_certificate_pem)
        if certificate != bool(self.client_key or self.client_key_pem):
            raise Refused(
                Code.FAILED_PRECONDITION, "client certificate", "certificate and key come together", "give both"
            )


def without_identity(connection: Connection) -> Connection:
    """The same server, believed by the same CA, without anything that proves who we are: for tokens of others.

    A client certificate would win over a token, and others would be given our rights.
    """
    return replace(
        connection,
        token_file=None,
        token="",
        client_certificate=None,
        client_key=None,
        client_certificate_pem="",
        client_key_pem="",
    )


def is_this_machine(host: str) -> bool:
    """Whether a host of a URL is a loopback address, or `localhost`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def in_cluster(environment: Mapping[str, str] = os.environ, folder: Path = ACCOUNT_FOLDER) -> Connection:
    """The connection of the pod that we run in. Raises Refused that names the variable or the file that is missing."""
    outside = "this works in a pod with a service-account token; elsewhere name a kubeconfig"
    host, port = (_variable(environment, f"KUBERNETES_SERVICE_{part}", outside) for part in ("HOST", "PORT"))
    token, authority = folder / "token", folder / "ca.crt"
    for needed in (token, authority):
        if not needed.is_file():
            raise Refused(Code.FAILED_PRECONDITION, str(needed), "missing", outside)
    try:
        namespace = (folder / "namespace").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    host = f"[{host}]" if ":" in host else host
    return Connection(f"https://{host}:{port}", ca_file=authority, token_file=token, namespace=namespace or "default")


def from_kubeconfig(path: Path, context: str = "") -> Connection:
    """The connection of a context (the current one by default). Raises Refused that names the field that is wrong."""
    chosen = kubeconfig.read(path, context)
    cluster, user = chosen.cluster, chosen.user

    def file(name: str, inline: str = "") -> Path | None:
        return path.parent / name if name and not inline else None

    return Connection(
        cluster.server.rstrip("/"),
        ca_file=file(cluster.certificate_authority, cluster.certificate_authority_data),
        ca_pem=pem(cluster.certificate_authority_data, "certificate-authority-data"),
        token_file=file(user.token_file),
        token="" if user.token_file else user.token,
        client_certificate=file(user.client_certificate, user.client_certificate_data),
        client_certificate_pem=pem(user.client_certificate_data, "client-certificate-data"),
        client_key=file(user.client_key, user.client_key_data),
        client_key_pem=pem(user.client_key_data, "client-key-data"),
        namespace=chosen.namespace,
        server_name=cluster.tls_server_name,
    )


def _variable(environment: Mapping[str, str], name: str, fix: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise Refused(Code.FAILED_PRECONDITION, name, "not set", fix)
    return value
