"""Whose token it is, and on which node: the API server's word, by a TokenReview for our own audience."""

from __future__ import annotations

from typing import Final

from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.reviews import EXTRA_NODE, read_review, review_of
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ACCOUNT_AGENT, AUDIENCE_IDENTITY, SYSTEM_NAMESPACE
from kernelsecret.problems import quoted
from webhook.handover.issuer import unasked

AGENT_USER: Final = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{ACCOUNT_AGENT}"
_FIELD = "Authorization"


def node_in(answer: bytes) -> str:
    """The node of the agent whose token was reviewed. Raises Refused for whoever else it is."""
    found = read_review(answer)
    if not found.authenticated:
        raise _denied("the token is not valid", "it may have expired, or be for another audience")
    # An API server that does not know audiences says nothing of them, and then the token may be meant for anybody.
    if AUDIENCE_IDENTITY not in found.audiences:
        raise _denied(
            f"the token is not for the audience {AUDIENCE_IDENTITY}", "use a projected token of this audience"
        )
    if found.username != AGENT_USER:
        raise _denied(f"the token is of {quoted(found.username)}", f"only {AGENT_USER} gets a node's certificate")
    node = found.only(EXTRA_NODE)
    if not node:
        raise _denied("the token is bound to no node", "use a token that kubelet projected into the agent's pod")
    return node


class TokenReviewer:
    """Asks the API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def node_of(self, token: str) -> str:
        """The node of the agent that this token is of. Raises Refused, which holds nothing of the token."""
        try:
            answer = await self._client.create(paths.token_reviews(), review_of(token, AUDIENCE_IDENTITY))
        except ApiError as error:
            raise unasked(error) from None
        return node_in(answer)


def _denied(why: str, fix: str) -> Refused:
    return Refused(Code.PERMISSION_DENIED, _FIELD, why, fix)
