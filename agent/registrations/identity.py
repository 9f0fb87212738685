"""This node's certificate: a key that never leaves memory, a request for it, the webhook's answer; renewed in time.

The request is proven by the agent's own service-account token, which is bound to its node. The token is read anew each
time, because kubelet replaces the file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from agent.registrations.contexts import NodeContexts
from agent.registrations.webhook_door import WebhookDoor
from certs.leaf import Leaf, load_leaf, node_csr
from kernelsecret.errors import Code, KernelSecretError, Refused
from kernelsecret.node_api import PATH_IDENTITY, Identity, IdentityRequest, node_host
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

RENEW_AT = 2 / 3
"""The part of a certificate's life after which a new one is asked for."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 15.0
"""Pods may be waiting for the first certificate, and no longer than this (and a half) after the webhook is back."""
LOOK_S = 300.0
"""The clock is looked at this often: it may be set, and a machine may have slept."""
SPREAD_S = 30.0
"""When the authorities change, every node of the cluster asks anew; they do so over this time."""
NEW = timedelta(minutes=10)
"""So young a certificate is not replaced for a doubt: something else is wrong."""
LONGEST_TOKEN = 16 * 1024

log = get_logger("registrations")
_answer = msgspec.json.Decoder(Identity)


class NodeIdentity:
    """Keeps a valid certificate in `contexts`. `now` gives the time with a zone; `chance` numbers from 0 to 1."""

    def __init__(
        self,
        node: str,
        token_file: Path,
        door: WebhookDoor,
        contexts: NodeContexts,
        now: Callable[[], datetime],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        on_failed: Callable[[Refused], None] = lambda refused: None,
        on_renewed: Callable[[datetime], None] = lambda not_after: None,
    ) -> None:
        self._node, self._token_file, self._door, self._contexts = node, token_file, door, contexts
        self._now, self._sleep, self._chance = now, sleep, chance
        self._on_failed, self._on_renewed = on_failed, on_renewed
        self._leaf: Leaf | None = None
        self._renewed_at: datetime | None = None
        self._soon = asyncio.Event()
        self._trusted = asyncio.Event()
        self._known = asyncio.Event()

    @property
    def not_after(self) -> datetime | None:
        """The end of the current certificate, None before the first."""
        return self._leaf.not_after if self._leaf else None

    async def wait(self) -> None:
        """Until there is a first certificate."""
        await self._known.wait()

    def trusts_change(self) -> None:
        """There are authorities, or others than before: a new certificate is asked for, not by all nodes at once."""
        self._trusted.set()
        self._soon.set()

    def renew_soon(self) -> None:
        """The webhook may not trust the certificate: a new one is asked for before its time, unless it is new."""
        if self._renewed_at is None or self._now() - self._renewed_at >= NEW:
            self._soon.set()

    async def run(self) -> None:
        """Wait for trust, ask, renew, and try again, until cancelled."""
        delay = FIRST_RETRY_S
        await self._trusted.wait()
        while True:
            self._soon.clear()
            self._trusted.clear()
            try:
                await self.renew()
            except KernelSecretError as error:
                refused = error if isinstance(error, Refused) else Refused(Code.INTERNAL, "node identity", str(error))
                log.warning(Event.IDENTITY_FAILED, node=self._node, delay_s=round(delay, 1), **problem(refused))
                self._on_failed(refused)
                await self._first_of(self._trusted, delay * (0.5 + self._chance()))
                delay = min(2 * delay, LONGEST_RETRY_S)
            else:
                delay = FIRST_RETRY_S
                await self._until_due()

    async def renew(self) -> None:
        """Ask once and take the answer. Raises Refused, and then the certificate from before stays."""
        context = self._contexts.anonymous()
        token = _read_token(self._token_file)
        key, csr = node_csr(self._node)
        body = msgspec.json.encode(IdentityRequest(node=self._node, csr=csr))
        answer = await self._door.post(PATH_IDENTITY, body, context, {"Authorization": f"Bearer {token}"})
        try:
            certificate = _answer.decode(answer).certificate
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Refused(Code.UNAVAILABLE, "webhook", "answered with something else than a certificate") from None
        leaf = load_leaf(certificate, key, "node identity")
        if leaf.hosts != (node_host(self._node),) or leaf.not_after <= self._now():
            why = "the certificate that came is not for this node, or has expired"
            raise Refused(Code.UNAVAILABLE, "node identity", why, "compare the clocks of webhook and node")
        self._contexts.identify(leaf.certificate_pem, leaf.key_pem)
        self._leaf, self._renewed_at = leaf, self._now()
        self._known.set()
        log.info(Event.IDENTITY_RENEWED, node=self._node)
        self._on_renewed(leaf.not_after)

    async def _until_due(self) -> None:
        assert self._leaf is not None
        life = self._leaf.not_after - self._leaf.not_before
        # A little before, each node at another moment: those that were started together do not come together.
        due = self._leaf.not_before + life * RENEW_AT * (0.9 + 0.1 * self._chance())
        while (left := (due - self._now()).total_seconds()) > 0:
            if await self._first_of(self._soon, min(left, LOOK_S)):
                await self._sleep(SPREAD_S * self._chance())
                return

    async def _first_of(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether the event came before `seconds` had passed."""
        came = asyncio.ensure_future(event.wait())
        passed = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([came, passed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (came, passed):
                one.cancel()
            await asyncio.gather(came, passed, return_exceptions=True)
        return event.is_set()


def _read_token(file: Path) -> str:
    """The token, fit for a header. Raises Refused without a word of it."""
    fix = "mount a service-account token with the audience kernelsecret.io/identity"
    try:
        with file.open("rb") as opened:
            raw = opened.read(LONGEST_TOKEN + 1)
    except OSError as error:
        raise Refused(Code.UNAVAILABLE, str(file), f"cannot be read ({type(error).__name__})", fix) from None
    token = raw.strip()
    if not token or len(token) > LONGEST_TOKEN or not all(0x21 <= byte <= 0x7E for byte in token):
        raise Refused(Code.FAILED_PRECONDITION, str(file), "does not hold a token", fix)
    return token.decode("ascii")
