"""One request to the webhook's door for nodes, port 8444: bounded in time and size, and explained where it fails."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp

from kernelsecret.errors import Code, Refused
from kernelsecret.names import HOST_WEBHOOK
from kernelsecret.node_api import CONTENT_TYPE, MAX_BODY, refused_by

_FIELD = "webhook"
_CUT = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)


class Cut(Refused):
    """The webhook took the connection and ended it without an answer, as it does to a certificate that it does not
    trust: in TLS 1.3 a client learns of that late, and often by no more than this.
    """

    def __init__(self) -> None:
        why = "ended the connection without an answer: it may not trust this node's certificate, or be stopping"
        super().__init__(Code.UNAVAILABLE, _FIELD, why, "the agent asks for a new certificate by itself")


class WebhookDoor:
    """`host` and `port` say where to connect; whose certificate it must be is not theirs to say."""

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        self._url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str, body: bytes, context: ssl.SSLContext, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The answer's body. Raises Refused: what the webhook refused in its own words, or UNAVAILABLE.

        No error holds anything of `body` or `headers`.
        """
        try:
            async with self._open().post(
                self._url + path,
                data=body,
                headers={"Content-Type": CONTENT_TYPE, **(headers or {})},
                ssl=context,
                server_hostname=HOST_WEBHOOK,
                allow_redirects=False,
            ) as response:
                answer = await response.content.read(MAX_BODY + 1)
                while len(answer) <= MAX_BODY and (more := await response.content.read(MAX_BODY)):
                    answer += more
                status = response.status
        except aiohttp.ClientConnectorCertificateError:
            why = f"its certificate is not one of {HOST_WEBHOOK} by an authority that is trusted"
            raise Refused(Code.UNAVAILABLE, _FIELD, why, "see the ConfigMap kernelsecret-trust") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, _CUT) and not isinstance(error, aiohttp.ClientConnectorError):
                raise Cut from None
            # Without the error's own words: aiohttp's may repeat what was sent.
            why = "did not answer in time" if isinstance(error, TimeoutError) else "cannot be reached"
            why += f" ({type(error).__name__})"
            raise Refused(Code.UNAVAILABLE, _FIELD, why, "see whether the webhook runs and its port is open") from None
        if len(answer) > MAX_BODY:
            raise Refused(Code.UNAVAILABLE, _FIELD, f"answered with more than {MAX_BODY} bytes")
        if status != 200:
            raise refused_by(_FIELD, status, answer)
        return answer

    async def close(self) -> None:
        """End what is open. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A connection each: these are rare, and a kept one would lead to a replica that has been replaced.
            connector = aiohttp.TCPConnector(force_close=True, limit=32)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session
