"""Reads a kubeconfig file. What we would have to guess or to run (plugins, proxies, passwords) is refused by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from kernelsecret.errors import Code, Refused
from kernelsecret.problems import from_decoder, quoted

MAX_BYTES = 1 << 20
T = TypeVar("T", bound="_Named")


class Cluster(msgspec.Struct, rename="kebab", frozen=True):
    """The fields of `clusters[].cluster` that are used or refused."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class User(msgspec.Struct, rename="kebab", frozen=True):
    """The fields of `users[].user` that are used or refused."""

    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    exec: dict[str, object] | None = None
    auth_provider: dict[str, object] | None = None
    as_: str = msgspec.field(default="", name="as")

    def __repr__(self) -> str:
        return "User(...)"


class _Context(msgspec.Struct, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _Named(msgspec.Struct, frozen=True):
    name: str


class _NamedCluster(_Named, frozen=True):
    cluster: Cluster = Cluster()


class _NamedUser(_Named, frozen=True):
    user: User = User()


class _NamedContext(_Named, frozen=True):
    context: _Context = _Context()


class _Kubeconfig(msgspec.Struct, frozen=True):
    current_context: str = msgspec.field(default="", name="current-context")
    clusters: tuple[_NamedCluster, ...] = ()
    users: tuple[_NamedUser, ...] = ()
    contexts: tuple[_NamedContext, ...] = ()


class Chosen(msgspec.Struct, frozen=True):
    """What one context says. Secrets are in it: it is not shown."""

    cluster: Cluster
    user: User
    namespace: str

    def __repr__(self) -> str:
        return f"Chosen({self.cluster.server})"


def read(path: Path, context: str = "") -> Chosen:
    """A context (the current one by default) of a file. Raises Refused that names the field that is wrong."""
    config = _read(path)
    wanted = context or config.current_context
    if not wanted:
        raise _refused("current-context", "not set", "name a context")
    chosen = _named(config.contexts, wanted, "contexts").context
    cluster = _named(config.clusters, chosen.cluster, "clusters").cluster
    user = _named(config.users, chosen.user, "users").user if chosen.user else User()
    _refuse_what_we_do_not_do(cluster, user)
    return Chosen(cluster, user, chosen.namespace or "default")


def pem(data: str, field: str) -> str:
    """The PEM of one of the `-data` fields. Raises Refused that names the field."""
    try:
        return base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _refused(field, "not PEM in base64") from None


def _read(path: Path) -> _Kubeconfig:
    try:
        with path.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refused(str(path), f"cannot be read ({error.strerror})", "name a kubeconfig file") from error
    if len(text) > MAX_BYTES:
        raise _refused(str(path), f"larger than {MAX_BYTES} bytes", "name a kubeconfig file")
    try:
        return msgspec.convert(yaml.safe_load(text), _Kubeconfig)
    except msgspec.ValidationError as error:
        # Neither message is passed on with its cause: YAML's quotes the file, and that may be a token.
        raise _refused(from_decoder(str(error)).field, "not what a kubeconfig has there") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise _refused(str(path), "not YAML", "name a kubeconfig file") from None


def _refuse_what_we_do_not_do(cluster: Cluster, user: User) -> None:
    if cluster.insecure_skip_tls_verify:
        raise _refused("insecure-skip-tls-verify", "the server would not be checked", "give the certificate authority")
    if cluster.proxy_url:
        raise _refused("proxy-url", "proxies are not supported", "name the API server's own address")
    if user.exec is not None or user.auth_provider is not None:
        raise _refused("exec", "credential plugins are not run", "use a token, a tokenFile or a client certificate")
    if user.username:
        raise _refused("username", "passwords are not supported", "use a token or a client certificate")
    if user.as_:
        raise _refused("as", "impersonation is not supported", "use the account's own credential")


def _named(things: Iterable[T], name: str, field: str) -> T:
    found = next((thing for thing in things if thing.name == name), None)
    if found is None:
        raise _refused(field, f"there is none named {quoted(name)}")
    return found


def _refused(field: str, why: str, fix: str = "") -> Refused:
    return Refused(Code.FAILED_PRECONDITION, field, why, fix)
