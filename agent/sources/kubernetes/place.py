"""Which Secret a reference means and who reads it, and what is said to people when that fails. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agent.model import SecretRef
from apiclient.errors import (
    REASON_TIMEOUT,
    REASON_TOO_LARGE,
    REASON_UNREADABLE,
    REASON_UNTRUSTED,
    ApiError,
)
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import shown

SOURCE = "kubernetes"

_NAMESPACE = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_PATH = re.compile(f"(?P<namespace>{_NAMESPACE})/(?P<name>{_NAME})")


class Kind(StrEnum):
    """What went wrong, in the words of the metric's label `kind`."""

    DENIED = "denied"
    NOT_AUTHENTICATED = "not-authenticated"
    NO_CREDENTIAL = "no-credential"
    NOT_FOUND = "not-found"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    TLS = "tls"
    BAD_ANSWER = "bad-answer"
    UNUSABLE = "unusable"


PASSING = frozenset({Kind.THROTTLED, Kind.TIMEOUT, Kind.UNAVAILABLE})
"""The API server's trouble, not this secret's: it is tried again soon."""


class SecretError(Refused):
    """A Secret that cannot be read, or not be served. Never holds anything of an answer."""

    def __init__(
        self,
        kind: Kind,
        code: Code,
        field: str,
        why: str,
        fix: str = "",
        *,
        retry_after_s: float = 0.0,
        is_away: bool = False,
    ) -> None:
        """`is_away`: nobody answered, so that all Secrets fare the same."""
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.is_away = is_away
        super().__init__(code, field, why, fix)


def kind_of(refused: Refused) -> Kind:
    """What went wrong, also where there was no token of the reader to ask with."""
    return refused.kind if isinstance(refused, SecretError) else Kind.NO_CREDENTIAL


@dataclass(frozen=True, slots=True)
class Place:
    """One Secret and the account that reads it, `namespace/name`."""

    ref: SecretRef
    namespace: str
    name: str
    account: str

    @property
    def grant(self) -> str:
        """The commands that let the account read it, and be told of its changes."""
        role = f"read-{self.name}"
        return (
            f"kubectl -n {self.namespace} create role {role} --verb=get,watch --resource=secrets"
            f" --resource-name={self.name}; kubectl -n {self.namespace} create rolebinding {role} --role={role}"
            f" --serviceaccount={self.account.replace('/', ':')}"
        )

    def refused(self, error: ApiError, verb: str = "get") -> SecretError:
        """What it means that the API server, or the way to it, refused this."""
        kind = _kind(error)
        what = f"the Secret {self.name} in the namespace {self.namespace}"
        at = str(self.ref)
        if kind is Kind.DENIED:
            why = f"the service account {self.account} may not {verb} {what} (403)"
            return SecretError(kind, error.code, at, why, self.grant)
        if kind is Kind.NOT_AUTHENTICATED:
            why = f"the API server does not accept the token of the service account {self.account} (401)"
            fix = "kubelet brings a new one within two minutes; see that the account still exists"
            return SecretError(kind, Code.UNAVAILABLE, at, why, fix)
        if kind is Kind.NOT_FOUND:
            return SecretError(kind, error.code, at, f"there is no {what[4:]}", "create it: it is taken at once")
        why = f"cannot {verb} {what}: {error.why}"
        return SecretError(
            kind,
            error.code,
            at,
            why,
            error.fix,
            retry_after_s=error.retry_after_s or 0.0,
            is_away=error.status == 0 and kind in PASSING,
        )

    def unusable(self, why: str, fix: str = "") -> SecretError:
        """The Secret was read, and cannot be served as it is."""
        return SecretError(Kind.UNUSABLE, Code.FAILED_PRECONDITION, str(self.ref), why, fix)


def place_of(ref: SecretRef, agent_account: str) -> Place:
    """What a reference means. Raises Refused (INVALID_ARGUMENT) for one that nobody plans: above all a pod's account
    reads in its own namespace only, whatever else it may do in the cluster."""
    matched = _PATH.fullmatch(ref.path)
    if ref.source != SOURCE or matched is None:
        why = f"is no secret of the source `{SOURCE}`"
        raise Refused(Code.INVALID_ARGUMENT, shown(str(ref)), why, "it is NAMESPACE/NAME")
    if ref.reader:
        reader = _PATH.fullmatch(ref.reader)
        if reader is None or reader["namespace"] != matched["namespace"]:
            why = "its reader is no account of the Secret's namespace"
            raise Refused(Code.INVALID_ARGUMENT, shown(str(ref)), why)
    return Place(ref, matched["namespace"], matched["name"], ref.reader or agent_account)


def _kind(error: ApiError) -> Kind:
    match error.status:
        case 401:
            return Kind.NOT_AUTHENTICATED
        case 403:
            return Kind.DENIED
        case 404:
            return Kind.NOT_FOUND
        case 429:
            return Kind.THROTTLED
        case 0 if error.reason == REASON_TIMEOUT:
            return Kind.TIMEOUT
        case 0 if error.reason == REASON_UNTRUSTED:
            return Kind.TLS
        case 0 if error.reason in (REASON_TOO_LARGE, REASON_UNREADABLE):
            return Kind.BAD_ANSWER
        case status if 300 <= status < 500:
            return Kind.BAD_ANSWER
        case _:
            return Kind.UNAVAILABLE
