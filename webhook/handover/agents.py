"""The way to the agents: one request to the door of a node's agent, with mutual TLS, in a bounded time.

The address is the Node object's, never a caller's; whoever answers there must show the certificate of that node. A node
that does not answer is left alone for a while, so that it does not hold up the registrations of the others.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from ipaddress import ip_address

import aiohttp
import msgspec

from kernelsecret.errors import Code, Refused
from kernelsecret.names import PORT_AGENT
from kernelsecret.node_api import (
    CONTENT_TYPE,
    MAX_BODY,
    MAX_SERVED,
    PATH_REGISTRATIONS,
    PATH_SERVED,
    Served,
    ServedSecret,
    node_host,
    refused_by,
)

ATTEMPTS = 3
ATTEMPT_S = 1.5
BETWEEN_S = 0.1
REST_S = 10.0
"""How long a node is left alone that did not answer: each attempt at it took a worker's time."""
BRIEF_REST_S = 1.0
"""The same of one that failed at once: its agent is being started, or certificates and trust are just changing."""
_MOST_RESTING = 16_384
_ASKED_AGAIN = "see whether it runs; it is asked again"
_served = msgspec.json.Decoder(Served)


class Answer(StrEnum):
    """What the agent made of it."""

    TAKEN = "taken"
    KNOWN = "known"  # this very registration came before


def usable_address(text: str) -> str:
    """The address as it stands in a URL. Raises Refused for what no node can have: it decides where we connect to."""
    try:
        address = ip_address(text)
    except ValueError:
        raise _unusable("is not an IP address") from None
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        raise _unusable("is no address of one node")
    return f"[{address}]" if address.version == 6 else str(address)


class Agents:
    """`context` gives the newest client context; open connections keep theirs."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        port: int = PORT_AGENT,
        monotonic: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._context, self._port, self._sleep = context, port, sleep
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._session: aiohttp.ClientSession | None = None
        self._resting: dict[str, float] = {}

    async def put(self, node: str, address: str, pod_uid: str, signed: bytes) -> Answer:
        """Hand a registration over. Raises Refused: UNAVAILABLE where the agent cannot be reached, otherwise in the
        agent's words.
        """
        url = f"https://{usable_address(address)}:{self._port}{PATH_REGISTRATIONS}/{pod_uid}"
        if self._resting.get(node, 0.0) > self._monotonic():
            raise _away(node, "could not be reached a moment ago")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(node, url, signed)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # Without the error's own words: aiohttp's may repeat what was sent.
                if attempt == ATTEMPTS or isinstance(error, TimeoutError | aiohttp.ClientSSLError):
                    self._rest(node, REST_S if isinstance(error, TimeoutError) else BRIEF_REST_S)
                    raise _away(node, f"cannot be reached ({type(error).__name__})") from None
            await self._sleep(BETWEEN_S * attempt)
        raise AssertionError("not reached")

    async def served(self, node: str, address: str) -> tuple[ServedSecret, ...]:
        """How the secrets of a node do. Raises Refused: UNAVAILABLE where the agent cannot be reached or says something
        else, otherwise in its words. Asked once, on a connection of its own: there are many nodes, and it is rare.
        """
        url = f"https://{usable_address(address)}:{self._port}{PATH_SERVED}"
        try:
            async with self._open().get(
                url,
                headers={"Connection": "close"},
                ssl=self._context(),
                server_hostname=node_host(node),
                allow_redirects=False,
            ) as response:
                body = b""
                while len(body) <= MAX_SERVED and (more := await response.content.read(MAX_SERVED)):
                    body += more
                if response.status != 200:
                    raise refused_by(f"agent of node {node}", response.status, body[:MAX_BODY])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _away(node, f"cannot be reached ({type(error).__name__})", _ASKED_AGAIN) from None
        if len(body) > MAX_SERVED:
            raise _away(node, f"answered with more than {MAX_SERVED} bytes", _ASKED_AGAIN)
        try:
            return _served.decode(body).secrets
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _away(node, "answered with something else than what it serves", _ASKED_AGAIN) from None

    async def close(self) -> None:
        """End every connection. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _attempt(self, node: str, url: str, signed: bytes) -> Answer:
        async with self._open().put(
            url,
            data=signed,
            headers={"Content-Type": CONTENT_TYPE},
            ssl=self._context(),
            server_hostname=node_host(node),
            allow_redirects=False,
        ) as response:
            if response.status in (200, 201, 204):
                return Answer.TAKEN
            body = await response.content.read(MAX_BODY)
            if response.status == 409:
                return Answer.KNOWN
            raise refused_by(f"agent of node {node}", response.status, body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, limit_per_host=4, keepalive_timeout=30.0),
                timeout=aiohttp.ClientTimeout(total=ATTEMPT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _rest(self, node: str, seconds: float) -> None:
        if len(self._resting) >= _MOST_RESTING:
            self._resting.clear()
        self._resting[node] = self._monotonic() + seconds


def _away(node: str, why: str, fix: str = "it asks for what it lacks when it is back") -> Refused:
    return Refused(Code.UNAVAILABLE, f"agent of node {node}", why, fix)


def _unusable(why: str) -> Refused:
    return Refused(Code.UNAVAILABLE, "status.addresses[InternalIP]", why, "look at the Node object")
