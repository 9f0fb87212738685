"""The wire between webhook and agents: paths, messages and names, in both directions. Types only, no I/O here.

Webhook, port 8444: POST `PATH_IDENTITY` (proven by the agent's own service-account token) and POST
`PATH_REGISTRATIONS` (proven by the node's certificate). Agent, port 9474, for the webhook's certificate only: PUT and
GET `PATH_REGISTRATIONS/<pod uid>`, GET `PATH_SERVED`. Refusals are `Refusal` documents with a 4xx or 5xx status.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec

from kernelsecret.errors import Code, Refused
from kernelsecret.names import NODE_DOMAIN
from kernelsecret.problems import shown

PATH_IDENTITY: Final = "/v1/identity"
PATH_REGISTRATIONS: Final = "/v1/registrations"
PATH_SERVED: Final = "/v1/served"

MAX_BODY: Final = 16 * 1024
"""Bytes of any message in either direction; the longest, a certificate with its chain, has about 2 KB."""

MAX_SERVED: Final = 1 << 20
"""Bytes of the answer to `PATH_SERVED`, the one message that may be longer."""
MOST_SERVED: Final = 4096
"""Secrets in it."""

CONTENT_TYPE: Final = "application/json"

STATUS: Final = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: 400,
        Code.PERMISSION_DENIED: 403,
        Code.NOT_FOUND: 404,
        Code.ALREADY_EXISTS: 409,
        Code.ABORTED: 409,
        Code.FAILED_PRECONDITION: 412,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
    }
)
"""The HTTP status of a refusal, where the door has none that says more (413, 415)."""


class IdentityRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A certificate signing request (PEM) for `node_host(node)`."""

    node: str
    csr: str


class Identity(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The certificate (PEM, leaf first) that answers it."""

    certificate: str


class RegistrationRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An agent asks for what it lacks; answered by a SignedRegistration, for pods of the agent's own node only."""

    pod_uid: str
    namespace: str
    name: str


class ServedSecret(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One secret of one interceptor (`spec.secrets[].name`) on one node. Each pod is in one count; never a value.

    `failing`: its source cannot be read for the pod now, be it that the last good version is served on or that the
    volume could not be published; `behind`: it has read an older version and not yet the newest; `up_to_date`: the
    rest.
    `message` is the failure in the source's own words (a `Refused`), empty where none fails.
    """

    interceptor: str
    secret: str
    pods: int = 0
    up_to_date: int = 0
    behind: int = 0
    failing: int = 0
    message: str = ""


class Served(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What a node serves: the answer to `PATH_SERVED`."""

    secrets: tuple[ServedSecret, ...] = ()


class Refusal(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Why not, in the words of `kernelsecret.errors.Refused`."""

    code: str
    field: str
    why: str
    fix: str = ""


def node_host(node: str) -> str:
    """The name in the certificate of a node's agent."""
    return f"{node}.{NODE_DOMAIN}"


def node_of(host: str) -> str | None:
    """The node that a certificate's name stands for, None where it is not a node's."""
    node = host.removesuffix(f".{NODE_DOMAIN}")
    return node if node and node != host else None


def refusal_of(refused: Refused) -> bytes:
    """The JSON document of a refusal."""
    said = Refusal(code=refused.code.value, field=refused.field, why=refused.why, fix=refused.fix)
    return msgspec.json.encode(said)


def refused_by(who: str, status: int, body: bytes) -> Refused:
    """What the other side's refusal means here. What it says is shown escaped and cut: it comes over the wire.

    Where it is no refusal of ours (a proxy's page, another program on the port), the status decides.
    """
    try:
        said = _refusals.decode(body)
        code = Code(said.code)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        code = Code.UNAVAILABLE if status >= 500 or status == 429 else Code.FAILED_PRECONDITION
        return Refused(code, who, f"answered with status {status} and nothing that explains it")
    return Refused(code, shown(said.field, 120), shown(said.why, 300), shown(said.fix, 300))


_refusals = msgspec.json.Decoder(Refusal)
