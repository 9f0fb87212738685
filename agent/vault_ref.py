"""A Vault secret as a SecretRef and back: the reference alone says what is read, how, and as whom. Pure.

    vault:secret/data/payments/db?role=payments as payments/app

What is not the default stands behind the `?`, sorted, so that the same request is the same reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, unquote, urlencode

from agent.model import SecretRef
from kernelsecret.interceptor import VaultAuth, VaultMethod, VaultSource

SOURCE = "vault"
MOUNTS = MappingProxyType(
    {VaultMethod.KUBERNETES: "kubernetes", VaultMethod.JWT: "jwt", VaultMethod.APP_ROLE: "approle"}
)
"""Where Vault mounts each auth method unless told otherwise."""

GIVEN = "token"
"""How a reference says that it is read with a token that is there already."""

_PARAMETER = "parameter."


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Whom Vault takes us for: one token each. `reader` is empty for an AppRole, which is nobody's pod. Without a
    `method` nobody logs in: the token is there already, and is somebody else's to end."""

    method: VaultMethod | None
    mount: str
    role: str
    reader: str = ""
    audience: str = ""
    credential: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        if self.method is None:
            return "the token"
        who = f" as {self.reader}" if self.reader else f" with {self.credential}" if self.credential else ""
        return f"auth/{self.mount} role {self.role or '(default)'}{who}"


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """One thing to read: `source` as the interceptor has it, and who reads."""

    source: VaultSource
    identity: Identity


def vault_ref(source: VaultSource, namespace: str, account: str) -> SecretRef:
    """The reference of what a pod of that namespace and account reads."""
    auth = source.auth
    given = {
        "role": source.role,
        "auth": "" if auth.method is VaultMethod.KUBERNETES else str(auth.method),
        "mount": "" if auth.mount == MOUNTS[auth.method] else auth.mount,
        "audience": "" if auth.audience == VaultAuth().audience else auth.audience,
        "credential": auth.credential,
    }
    return _ref(source, given, "" if auth.method is VaultMethod.APP_ROLE else f"{namespace}/{account}")


def given_ref(source: VaultSource) -> SecretRef:
    """The reference of what is read with a token that is there already: role and `auth` of the source mean nothing."""
    return _ref(source, {"auth": GIVEN}, "")


def _ref(source: VaultSource, login: dict[str, str], reader: str) -> SecretRef:
    given = {
        **login,
        "namespace": source.namespace,
        "version": str(source.version) if source.version else "",
        **{f"{_PARAMETER}{name}": value for name, value in source.parameters.items()},
    }
    query = urlencode(sorted((name, value) for name, value in given.items() if value or name.startswith(_PARAMETER)))
    path = quote(source.path, safe="/")
    return SecretRef(SOURCE, f"{path}?{query}" if query else path, reader)


def request_of(ref: SecretRef) -> VaultRequest:
    """What the reference asks for. Raises ValueError for one that `vault_ref` did not make."""
    if ref.source != SOURCE:
        raise ValueError("not a reference to Vault")
    path, _, query = ref.path.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    parameters = {name.removeprefix(_PARAMETER): given.pop(name) for name in list(given) if name.startswith(_PARAMETER)}
    is_given = given.get("auth") == GIVEN
    method = VaultMethod.KUBERNETES if is_given else VaultMethod(given.get("auth", VaultMethod.KUBERNETES.value))
    auth = VaultAuth(
        method=method,
        mount=given.get("mount", MOUNTS[method]),
        audience=given.get("audience", VaultAuth().audience),
        credential=given.get("credential", ""),
    )
    source = VaultSource(
        path=unquote(path),
        role=given.get("role", ""),
        auth=auth,
        namespace=given.get("namespace", ""),
        version=int(given.get("version", "0")),
        parameters=parameters,
    )
    if is_given:
        return VaultRequest(source, Identity(None, GIVEN, "", namespace=source.namespace))
    as_pod = method is not VaultMethod.APP_ROLE
    identity = Identity(
        method=method,
        mount=auth.mount,
        role=source.role,
        reader=ref.reader,
        audience=auth.audience if as_pod else "",
        credential="" if as_pod else auth.credential,
        namespace=source.namespace,
    )
    return VaultRequest(source, identity)
