"""Whether the tokens that came with a publish are the pod's own: the API server's word, by a TokenReview.

Signature, audience, account, pod (name and UID) and node are looked at; also the API server looks whether pod and
account still are there. An answer is remembered by the token's digest, never by the token.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.credentials import PodToken
from agent.kube.token_claims import Bound, agree, at, claims_of, denied, ends
from agent.model import PodRef
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.reviews import EXTRA_NODE, EXTRA_POD, EXTRA_POD_UID, read_review, review_of
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

MOST_REMEMBERED = 2048
REMEMBERED_S = 600.0
"""An answer is believed for so long at most, however long the token lasts. Kubelet brings another one within that time,
and a token of a pod that was deleted opens nothing: the pod is looked at by itself at each publish."""


@dataclass(frozen=True, slots=True)
class _Known:
    bound: Bound
    ends_s: float
    until_s: float


class TokenVerifier:
    """Asks the API server, once for each token. Use it on one event loop."""

    def __init__(self, client: ApiClient, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = wall_clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def verified(self, pod: PodRef, node: str, tokens: Mapping[str, str]) -> dict[str, PodToken]:
        """The tokens by audience, which are all the pod's own, of this node, and have not ended.

        Raises Refused, which holds nothing of a token: PERMISSION_DENIED with the field named, UNAVAILABLE where the
        API server cannot be asked. One that is wrong refuses all.
        """
        answers = await asyncio.gather(
            *(self._verified(pod, node, audience, token) for audience, token in tokens.items()), return_exceptions=True
        )
        if refusals := [one for one in answers if isinstance(one, Refused)]:
            # A wrong token is said before a question that went unanswered: asking again does not mend it.
            raise min(refusals, key=_is_unanswered)
        found = {}
        for audience, answer in zip(tokens, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found[audience] = answer
        return found

    async def _verified(self, pod: PodRef, node: str, audience: str, token: str) -> PodToken:
        digest = hashlib.sha256(f"{audience}\0{token}".encode()).digest()
        known = self._known.get(digest)
        now = self._clock()
        if known is None or known.until_s <= now:
            self._known.pop(digest, None)
            known = await self._asked(audience, token)
            self._remember(digest, known)
        agree(known.bound, pod, node, audience, needs_node=True)
        return PodToken(token, known.ends_s)

    async def _asked(self, audience: str, token: str) -> _Known:
        try:
            answer = await self._client.create(paths.token_reviews(), review_of(token, audience))
        except ApiError as error:
            # Even a 403 is about our right to ask, not about the token.
            raise Refused(Code.UNAVAILABLE, at(audience), f"cannot be verified: {error.why}", error.fix) from None
        found = read_review(answer)
        if not found.authenticated:
            why = (
                "the API server does not accept the token: it is forged, has ended, is for another audience, or its pod"
            )
            raise denied(at(audience), f"{why} or account is gone", "kubelet brings another by itself")
        # An API server that does not know audiences says nothing of them, and then the token may be meant for anybody.
        if audience and audience not in found.audiences:
            raise denied(f"{at(audience)}.aud", f"the token is not for the audience {quoted(audience)}")
        now = self._clock()
        ends_s = ends(claims_of(token, audience), audience, now)
        bound = Bound(found.username, found.only(EXTRA_POD), found.only(EXTRA_POD_UID), found.only(EXTRA_NODE))
        return _Known(bound, ends_s, min(ends_s, now + REMEMBERED_S))

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)


def _is_unanswered(refused: Refused) -> bool:
    return refused.code is not Code.PERMISSION_DENIED
