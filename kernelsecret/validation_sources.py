"""Where a secret comes from: what is wrong with `spec.secrets[].source`. Pure functions that name the field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kernelsecret.interceptor import SecretSource, VaultAuth, VaultMethod, VaultSource
from kernelsecret.plain import MAX_PATH, is_printable, plain_name_problem, relative_path_problem
from kernelsecret.problems import Problem, quoted

MAX_ROLE: Final = 253
"""Letters of a Vault role's name, and of an audience."""
MAX_MOUNT: Final = 253
"""Letters of where an auth method is mounted, and of a Vault namespace."""
MAX_VERSION: Final = (1 << 31) - 1
MAX_PARAMETERS: Final = 16
MAX_PARAMETER: Final = 1024
"""Bytes of one parameter's value."""
PARAMETER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBDOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_ROLE: Final = re.compile(r"[A-Za-z0-9_.-]+")


def source_problems(source: SecretSource, at: str) -> Iterator[Problem]:
    """Everything that is wrong with one source, in the order of its fields."""
    if len(source.kinds) != 1:
        found = f"both {' and '.join(source.kinds)}" if source.kinds else "none"
        yield Problem(at, f"needs exactly one of file, vault and kubernetes, has {found}")
    if source.file and (problem := relative_path_problem(source.file.path)):
        yield Problem(f"{at}.file.path", problem)
    if source.vault:
        yield from _vault_problems(source.vault, f"{at}.vault")
    if source.kubernetes and not SUBDOMAIN.fullmatch(source.kubernetes.name):
        yield Problem(f"{at}.kubernetes.name", f"{quoted(source.kubernetes.name)} is not the name of a Secret")


def _vault_problems(vault: VaultSource, at: str) -> Iterator[Problem]:
    yield from _path_problems(vault.path, f"{at}.path")
    yield from _role_problems(vault, f"{at}.role")
    yield from _auth_problems(vault.auth, f"{at}.auth")
    if vault.namespace and (problem := _mount_problem(vault.namespace)):
        yield Problem(f"{at}.namespace", problem, "write it as Vault lists it, without a '/' at either end")
    if not 0 <= vault.version <= MAX_VERSION:
        why = f"{vault.version} is not the number of a version"
        yield Problem(f"{at}.version", why, "write 1 or more, or leave it out for the newest")
    elif vault.version and vault.parameters:
        why = "pins a version of a KV v2 secret, but parameters ask for something new"
        yield Problem(f"{at}.version", why, "remove one of them")
    yield from _parameter_problems(vault.parameters, f"{at}.parameters")


def _path_problems(path: str, at: str) -> Iterator[Problem]:
    bare = path.removeprefix("/").removeprefix("v1/")
    if not path:
        yield Problem(at, "empty", "write the path of Vault's API, such as secret/data/payments/db")
    elif path != bare:
        yield Problem(at, f"{quoted(path)} begins with '/' or 'v1/'", f"write {quoted(bare)}")
    elif ".." in path:
        yield Problem(at, f"{quoted(path)} has '..', which Vault refuses", "name the path itself")
    elif "?" in path or "#" in path:
        why = f"{quoted(path)} has a query or a fragment"
        yield Problem(at, why, "use version to pin a version, and parameters for what the path is written with")
    elif not is_printable(path):
        yield Problem(at, f"{quoted(path)} has a control character", "leave it out")
    elif any(part in ("", ".") for part in path.split("/")):
        yield Problem(at, f"{quoted(path)} has an empty part or one that is '.'", "write a/b, with no '/' at the end")
    elif f"{path}/".startswith("auth/token/"):
        yield Problem(at, f"{quoted(path)} shows the agent's own token", "name a secret")
    elif len(path.encode()) > MAX_PATH:
        yield Problem(at, f"has more than {MAX_PATH} bytes")


def _role_problems(vault: VaultSource, at: str) -> Iterator[Problem]:
    method, role = vault.auth.method, vault.role
    if method is VaultMethod.APP_ROLE:
        if role:
            why = "is not for the method appRole, whose role is that of its credential"
            yield Problem(at, why, "remove it")
    elif not role:
        why = f"empty, but the method {method.value} logs in as a role"
        yield Problem(at, why, f"name the role that the pod's account is bound to in auth/{vault.auth.mount or method}")
    elif len(role) > MAX_ROLE:
        yield Problem(at, f"has more than {MAX_ROLE} letters")
    elif not _ROLE.fullmatch(role):
        yield Problem(at, f"{quoted(role)} is not the name of a role", "use letters, digits, '-', '_' and '.'")


def _auth_problems(auth: VaultAuth, at: str) -> Iterator[Problem]:
    if auth.mount and (problem := _mount_problem(auth.mount)):
        yield Problem(f"{at}.mount", problem, "write it as vault auth list does, without a '/' at either end")
    elif auth.mount.startswith("auth/"):
        bare = auth.mount.removeprefix("auth/")
        yield Problem(f"{at}.mount", f"{quoted(auth.mount)} begins with 'auth/'", f"write {quoted(bare)}")
    if auth.method is VaultMethod.APP_ROLE:
        if not auth.credential:
            yield Problem(f"{at}.credential", "empty, but the method is appRole", "name the agent's credential")
        elif problem := plain_name_problem(auth.credential):
            yield Problem(f"{at}.credential", problem)
        return
    if auth.credential:
        why = f"is for the method appRole only, and this is {auth.method.value}"
        yield Problem(f"{at}.credential", why, "remove it, or set method: appRole")
    if not auth.audience:
        yield Problem(f"{at}.audience", "empty", "name the audience that the role expects, or leave it out for 'vault'")
    elif len(auth.audience) > MAX_ROLE:
        yield Problem(f"{at}.audience", f"has more than {MAX_ROLE} letters")
    elif not is_printable(auth.audience):
        yield Problem(f"{at}.audience", f"{quoted(auth.audience)} has a control character", "leave it out")


def _mount_problem(mount: str) -> str | None:
    """Why a text is not where something is mounted."""
    if any(plain_name_problem(part) or ".." in part for part in mount.split("/")):
        return f"{quoted(mount)} is not a plain path"
    return f"has more than {MAX_MOUNT} letters" if len(mount) > MAX_MOUNT else None


def _parameter_problems(parameters: Mapping[str, str], at: str) -> Iterator[Problem]:
    if len(parameters) > MAX_PARAMETERS:
        yield Problem(at, f"{len(parameters)} entries, at most {MAX_PARAMETERS}")
    for name, value in parameters.items():
        here = f"{at}[{quoted(name)}]"
        if not PARAMETER.fullmatch(name):
            yield Problem(here, "is not the name of a parameter", "use letters, digits, '-' and '_', 64 at most")
        elif not is_printable(value):
            yield Problem(here, "has a control character in its value", "leave it out")
        elif len(value.encode()) > MAX_PARAMETER:
            yield Problem(here, f"has a value of more than {MAX_PARAMETER} bytes")
