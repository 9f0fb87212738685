"""How `run` comes to Vault: as Vault's own command line does, by the same variables; or by a role, or an AppRole."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from agent.credentials import Credentials, PodToken
from agent.model import SecretRef
from agent.sources.vault import settings as agents
from agent.sources.vault.settings import VaultSettings
from agent.vault_ref import MOUNTS, given_ref, vault_ref
from kernelsecret.cli.run.references import Reference
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretSource, VaultMethod, VaultSource
from kernelsecret.interceptor import VaultAuth as Auth
from kernelsecret.problems import Invalid, Problem
from kernelsecret.validation_sources import source_problems

TOKEN: Final = "VAULT_TOKEN"  # noqa: S105 - a name
"""Never passed on to COMMAND."""
TOKEN_FILE: Final = ".vault-token"  # noqa: S105 - a name
ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
DEFAULT_ADDRESS: Final = "https://127.0.0.1:8200"
_MOST: Final = 64 * 1024
_NO: Final = ("", "0", "false", "f", "no")
_WORDS: Final = {
    "source.vault.role": "--vault-role",
    "source.vault.auth.mount": "--vault-mount",
    "source.vault.auth.audience": "--vault-jwt-file",
    "source.vault.auth.credential": "--vault-approle",
    agents.ADDRESS: "VAULT_ADDR",
    agents.CA_FILE: "VAULT_CACERT",
    agents.CLIENT_CERT_FILE: "VAULT_CLIENT_CERT",
    agents.CLIENT_KEY_FILE: "VAULT_CLIENT_KEY",
    agents.SERVER_NAME: "VAULT_TLS_SERVER_NAME",
    " below the root of secrets": "",
}
"""What the agent calls it, and what it is called here."""
_PATH: Final = re.compile(r"`path: ([^`]*)`")


@dataclass(frozen=True, slots=True)
class Options:
    """As the command line has them. With a `role` a token of Kubernetes logs in, with an `approle` (a folder) that."""

    role: str = ""
    method: VaultMethod = VaultMethod.KUBERNETES
    mount: str = ""
    jwt_file: Path = ACCOUNT_TOKEN
    approle: Path | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Where Vault is, and as whom it is asked."""

    settings: VaultSettings
    credentials: Credentials = field(repr=False)
    ref: Callable[[Reference], SecretRef]


class _Own(Credentials):
    """One credential for whatever is asked, as it is now."""

    def __init__(self, read: Callable[[], str]) -> None:
        super().__init__()
        self._read = read

    def token(self, reader: str, audience: str) -> PodToken:
        return PodToken(self._read(), math.inf)


def in_our_words(text: str) -> str:
    """What the agent's parts say, with the names that options and variables have here."""
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return _PATH.sub(r"vault:\1#KEY", text)


def login_of(environment: Mapping[str, str], options: Options) -> Login:
    """Raises Refused or Invalid, which name the variable or the option."""
    settings = _settings(environment, options)
    namespace = environment.get("VAULT_NAMESPACE", "").strip("/")
    if options.approle is not None:
        if options.role:
            raise Invalid(
                [Problem("--vault-role", "goes with a token, and --vault-approle is given", "drop one of them")]
            )
        name = options.approle.absolute().name
        auth = Auth(method=VaultMethod.APP_ROLE, mount=options.mount or MOUNTS[VaultMethod.APP_ROLE], credential=name)
        _check("", auth, namespace)
        return Login(settings, Credentials(), lambda one: vault_ref(_source(one, "", auth, namespace), "", ""))
    if options.role:
        jwt = jwt_in(options.jwt_file)
        mount = options.mount or MOUNTS[options.method]
        auth = Auth(method=options.method, mount=mount, audience=audience_of(jwt))
        _check(options.role, auth, namespace)
        owner, account = subject_of(jwt)
        return Login(
            settings,
            _Own(lambda: jwt_in(options.jwt_file)),
            lambda one: vault_ref(_source(one, options.role, auth, namespace), owner, account),
        )
    if options.mount:
        raise Invalid([Problem("--vault-mount", "is where to log in, and nothing says as whom", "add --vault-role")])
    auth = Auth(method=VaultMethod.APP_ROLE, mount="approle", credential="none")
    _check("", auth, namespace)
    given, home = environment.get(TOKEN, "").strip(), environment.get("HOME") or "/"

    def token() -> str:
        return _plain(given, TOKEN) if given else token_in(Path(home) / TOKEN_FILE)

    token()
    return Login(settings, _Own(token), lambda one: given_ref(_source(one, "", auth, namespace)))


def token_in(path: Path) -> str:
    """The token that `vault login` has left. Raises Refused."""
    fix = "run `vault login`, or use --vault-role or --vault-approle"
    try:
        return _plain(_text(path), str(path))
    except FileNotFoundError:
        why = f"is not set, and there is no {path}"
        raise Refused(Code.FAILED_PRECONDITION, TOKEN, why, fix) from None
    except OSError as error:
        raise Refused(Code.FAILED_PRECONDITION, str(path), f"cannot be read ({error.strerror})", fix) from None


def jwt_in(path: Path) -> str:
    """The token of an account, as it is now. Raises Refused."""
    fix = "name the file of a token with --vault-jwt-file; in a pod it is a projected service-account token"
    try:
        return _plain(_text(path), str(path))
    except OSError as error:
        raise Refused(Code.FAILED_PRECONDITION, str(path), f"cannot be read ({error.strerror})", fix) from None


def subject_of(jwt: str) -> tuple[str, str]:
    """Namespace and name of the account whose token it is, for messages; nothing is believed of it."""
    claims = _claims(jwt)
    if claims is None:
        return "unknown", "token"
    parts = str(claims.get("sub", "")).removeprefix("system:serviceaccount:").split(":")
    return (parts[0], parts[1]) if len(parts) == 2 else ("user", parts[0] or "token")


def audience_of(jwt: str) -> str:
    """Whom it is for, as far as it says, for messages."""
    found = (_claims(jwt) or {}).get("aud")
    first = found[0] if isinstance(found, list) and found else found
    return first if isinstance(first, str) and first else Auth().audience


def _claims(jwt: str) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="), type=dict[str, object])
    except (IndexError, binascii.Error, msgspec.DecodeError, ValueError):
        return None


def _source(reference: Reference, role: str, auth: Auth, namespace: str) -> VaultSource:
    return VaultSource(path=reference.path, role=role, auth=auth, namespace=namespace, version=reference.version)


def _settings(environment: Mapping[str, str], options: Options) -> VaultSettings:
    skip = environment.get("VAULT_SKIP_VERIFY", "")
    if skip.lower() not in _NO:
        why, fix = (
            "is set, and Vault's certificate is always verified",
            "unset it, and name the authority in VAULT_CACERT",
        )
        raise Refused(Code.INVALID_ARGUMENT, "VAULT_SKIP_VERIFY", why, fix)
    if environment.get("VAULT_CAPATH") and not environment.get("VAULT_CACERT"):
        why = "is a folder of authorities, and one file is read here"
        raise Refused(Code.INVALID_ARGUMENT, "VAULT_CAPATH", why, "name the file in VAULT_CACERT")

    def path(name: str) -> Path | None:
        return Path(environment[name]).absolute() if environment.get(name) else None

    try:
        return VaultSettings(
            address=environment.get("VAULT_ADDR") or DEFAULT_ADDRESS,
            ca_file=path("VAULT_CACERT"),
            client_cert_file=path("VAULT_CLIENT_CERT"),
            client_key_file=path("VAULT_CLIENT_KEY"),
            server_name=environment.get("VAULT_TLS_SERVER_NAME", ""),
            approle_dir=options.approle.absolute().parent if options.approle else None,
        )
    except Refused as refusal:
        raise Refused(
            refusal.code, *(in_our_words(text) for text in (refusal.field, refusal.why, refusal.fix))
        ) from None


def _check(role: str, auth: Auth, namespace: str) -> None:
    whole = SecretSource(vault=VaultSource(path="x/y", role=role, auth=auth, namespace=namespace))
    problems = [
        Problem(
            {"source.vault.namespace": "VAULT_NAMESPACE"}.get(one.field) or in_our_words(one.field), one.why, one.fix
        )
        for one in source_problems(whole, "source")
    ]
    if problems:
        raise Invalid(problems)


def _text(path: Path) -> str:
    with path.open("rb") as opened:
        return opened.read(_MOST).decode("ascii", errors="replace").strip()


def _plain(text: str, field: str) -> str:
    if not text or not all("!" <= letter <= "~" for letter in text):
        raise Refused(Code.FAILED_PRECONDITION, field, "is empty or no token", "put the token there, and nothing else")
    return text
