"""Why Vault refuses a login, in words that name the field of the interceptor and what would mend it. Pure.

Vault's own words are the only thing that tells the reasons apart. What is not known is shown as Vault said it.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.replies import refusal, words_of
from agent.sources.vault.reply_parser import Reply
from agent.vault_ref import Identity
from kernelsecret.interceptor import VaultMethod
from kernelsecret.problems import quoted, shown

_ROLE = "source.vault.role"
_MOUNT = "source.vault.auth.mount"
_AUDIENCE = "source.vault.auth.audience"
_CREDENTIAL = "source.vault.auth.credential"


def login_refusal(reply: Reply, identity: Identity, where: str, hide: Iterable[str]) -> VaultError:
    """The error of a login that was answered by no 2xx. `hide` is what was sent."""
    mount = f"auth/{shown(identity.mount)}"
    path = f"{mount}/login"
    if reply.status not in (400, 403, 404):
        return refusal(reply, where, path, str(identity), wrote=True, hide=hide)
    words = words_of(reply, hide)
    field, why, fix = _reason(words.lower(), identity, mount)
    return VaultError(Kind.LOGIN, field, f"{why} ({words})" if words else why, fix)


def _reason(words: str, identity: Identity, mount: str) -> tuple[str, str, str]:
    role, account = quoted(identity.role), quoted(identity.reader)
    namespace, _, name = identity.reader.partition("/")
    at = f"{mount}/role/{shown(identity.role)}"
    if "missing role" in words:
        return _ROLE, f"is empty, and {mount} has no default role", "name a role"
    if "invalid role name" in words or ("role" in words and "could not be found" in words):
        return _ROLE, f"Vault has no role {role} at {mount}", f"write it with `vault write {at}`, or name another"
    if "audience" in words:
        why = f"the role {role} of {mount} is not for tokens of the audience {quoted(identity.audience)}"
        setting = "audience" if identity.method is VaultMethod.KUBERNETES else "bound_audiences"
        return _AUDIENCE, why, f"name the one that {setting} of {at} has, or set it there"
    if "account name not authorized" in words:
        why = f"the role {role} of {mount} is not for the account {account}"
        return _ROLE, why, f"add {quoted(name)} to bound_service_account_names of {at}"
    if "namespace not authorized" in words:
        why = f"the role {role} of {mount} is not for the namespace {quoted(namespace)}"
        return _ROLE, why, f"add it to bound_service_account_namespaces of {at}"
    if "signature" in words or "issuer" in words:
        why = f"{mount} does not trust this cluster's service-account tokens"
        return _MOUNT, why, f"set the keys (or discovery URL) and bound_issuer of {mount}/config to this cluster's"
    if "expir" in words or "not before" in words or "issued at" in words:
        return _MOUNT, f"{mount} takes the pod's token for one out of its time", "compare the clocks of Vault and node"
    if "subject" in words or "claim" in words:
        why = f"the role {role} of {mount} is not for the account {account}"
        subject = f"system:serviceaccount:{namespace}:{name}"
        return _ROLE, why, f"let bound_subject and bound_claims of {at} fit {quoted(subject)}"
    if identity.method is VaultMethod.APP_ROLE and ("role or secret id" in words or "secret_id" in words):
        why = f"Vault does not take the ids of {quoted(identity.credential)} at {mount}"
        return _CREDENTIAL, why, "put a live secret-id, and the role-id of the same role, into its folder"
    if "permission denied" in words or "no handler" in words:
        why = f"Vault has no auth method at {mount}, or it does not accept the token of {account}"
        if identity.method is VaultMethod.APP_ROLE:
            return _MOUNT, f"Vault has no auth method at {mount}", "enable approle there, or name its mount"
        fix = f"enable it there, or name its mount; see that {mount}/config leads to this cluster"
        return _MOUNT, why, fix
    return _ROLE, f"Vault refuses the login at {mount} as {role}", "see Vault's words"
