"""The wire between webhook and agents: paths, messages and names, in both directions. Types only, no I/O here.

Webhook, port 8444: POST `PATH_IDENTITY` (proven by the agent's own service-account token) and POST
`PATH_REGISTRATIONS` (proven by the node's certificate). Agent, port 9474, for the webhook's certificate only: PUT and
GET `PATH_REGISTRATIONS/<pod uid>`. Refusals are `Refusal` documents with a 4xx or 5xx status.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kernelsecret.names import NODE_DOMAIN

PATH_IDENTITY: Final = "/v1/identity"
PATH_REGISTRATIONS: Final = "/v1/registrations"


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
