"""Whose token it is, and on which node: the API server's word, by a TokenReview for our own audience."""

from __future__ import annotations

from typing import Final

import msgspec

from apiclient import paths
from apiclient.client import ApiClient, ApiError
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ACCOUNT_AGENT, AUDIENCE_IDENTITY, SYSTEM_NAMESPACE
from kernelsecret.problems import quoted
from webhook.handover.issuer import unasked

AGENT_USER: Final = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{ACCOUNT_AGENT}"
EXTRA_NODE: Final = "authentication.kubernetes.io/node-name"
"""What a token says that is bound to a pod: the node that the pod runs on."""

_FIELD = "Authorization"


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, tuple[str, ...]] | None = None


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] | None = None


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


_reviews = msgspec.json.Decoder(_Review)


def node_in(answer: bytes) -> str:
    """The node of the agent whose token was reviewed. Raises Refused for whoever else it is."""
    try:
        status = _reviews.decode(answer).status
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.UNAVAILABLE, "TokenReview", "the API server's answer cannot be read") from None
    if not status.authenticated:
        raise _denied("the token is not valid", "it may have expired, or be for another audience")
    # An API server that does not know audiences says nothing of them, and then the token may be meant for anybody.
    if AUDIENCE_IDENTITY not in (status.audiences or ()):
        raise _denied(
            f"the token is not for the audience {AUDIENCE_IDENTITY}", "use a projected token of this audience"
        )
    if status.user.username != AGENT_USER:
        raise _denied(f"the token is of {quoted(status.user.username)}", f"only {AGENT_USER} gets a node's certificate")
    nodes = (status.user.extra or {}).get(EXTRA_NODE, ())
    if len(nodes) != 1 or not nodes[0]:
        raise _denied("the token is bound to no node", "use a token that kubelet projected into the agent's pod")
    return nodes[0]


class TokenReviewer:
    """Asks the API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def node_of(self, token: str) -> str:
        """The node of the agent that this token is of. Raises Refused, which holds nothing of the token."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE_IDENTITY]},
        }
        try:
            answer = await self._client.create(paths.token_reviews(), msgspec.json.encode(review))
        except ApiError as error:
            raise unasked(error) from None
        return node_in(answer)


def _denied(why: str, fix: str) -> Refused:
    return Refused(Code.PERMISSION_DENIED, _FIELD, why, fix)
