"""Requests to the API server: one session, checked TLS, bounded time and size. Raw JSON in and out."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Final

import aiohttp
from yarl import URL

from apiclient.connection import Connection
from apiclient.credentials import AskedToken, Tls, Token
from apiclient.errors import (
    REASON_TIMEOUT,
    REASON_TOO_LARGE,
    REASON_UNREACHABLE,
    REASON_UNTRUSTED,
    ApiError,
    from_answer,
)

__all__ = ["ApiClient", "ApiError", "PatchKind"]

NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})
MAX_ANSWER: Final = 32 << 20
"""Bytes of one answer: an object has at most 3 MB, a page of a list is asked for in smaller parts when it is larger."""
MAX_ERROR: Final = 64 << 10
"""Bytes of an error's body that are looked at."""
CONNECT_S: Final = 5.0
JSON: Final = "application/json"


class PatchKind(StrEnum):
    """How a patch is meant; the value is its content type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class ApiClient:
    """One session of HTTP/1.1 with keep-alive. Paths come from `apiclient.paths`; every failure is an ApiError.

    Open it in a running loop: `async with ApiClient(connection) as client`, or call `close()`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str = "kernelsecret",
        token: Callable[[], str] | None = None,
        connections: int = 32,
    ) -> None:
        """`token`, where given, is asked for each request, and the connection's own is not used; it may raise Refused.
        At most so many `connections` are open at a time; a stream holds one of them."""
        self._base = connection.server
        self._server_name = connection.server_name or None
        self._user_agent = user_agent
        self._connections = connections
        self._token: Token | AskedToken = Token(connection) if token is None else AskedToken(token)
        self._tls = Tls(connection)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection for good; what is under way fails."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(
        self,
        path: str,
        *,
        query: Mapping[str, str] = NO_QUERY,
        timeout_s: float = 5.0,
        max_bytes: int = MAX_ANSWER,
    ) -> bytes:
        """The object or the list at a path, as JSON."""
        return await self._whole("GET", path, query, timeout_s=timeout_s, max_bytes=max_bytes)

    async def create(self, path: str, body: bytes, *, timeout_s: float = 5.0) -> bytes:
        """POST an object to its collection; answers it as stored."""
        return await self._whole("POST", path, body=body, timeout_s=timeout_s)

    async def replace(self, path: str, body: bytes, *, timeout_s: float = 5.0) -> bytes:
        """PUT an object; with `metadata.resourceVersion` in it only if nobody wrote in between (else 409)."""
        return await self._whole("PUT", path, body=body, timeout_s=timeout_s)

    async def patch(
        self,
        path: str,
        body: bytes,
        *,
        kind: PatchKind = PatchKind.MERGE,
        field_manager: str = "kernelsecret",
        timeout_s: float = 5.0,
    ) -> bytes:
        """PATCH an object. APPLY takes the fields that it names over from other managers."""
        query = {"fieldManager": field_manager}
        if kind is PatchKind.APPLY:
            query["force"] = "true"
        return await self._whole("PATCH", path, query, body=body, content_type=kind.value, timeout_s=timeout_s)

    async def delete(self, path: str, *, timeout_s: float = 5.0) -> None:
        """DELETE an object."""
        await self._whole("DELETE", path, timeout_s=timeout_s)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        open_within_s: float = 30.0,
        silence_s: float = 90.0,
        accept: str = JSON,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of an answer without an end, such as a watch; ApiError after `silence_s` without a byte. `accept`
        is the form that is asked for, which is a form of JSON."""
        timeout = aiohttp.ClientTimeout(total=None, connect=open_within_s, sock_connect=CONNECT_S, sock_read=silence_s)
        request = f"WATCH {path}"
        async with (
            self._answer("GET", path, query, timeout, request, accept=accept) as response,
            aclosing(_chunks(response, request)) as chunks,
        ):
            yield chunks

    async def _whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = NO_QUERY,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout_s: float,
        max_bytes: int = MAX_ANSWER,
    ) -> bytes:
        request = f"{method} {path}"
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        async with self._answer(method, path, query, timeout, request, body, content_type) as response:
            parts, size = [], 0
            async for chunk in _chunks(response, request):
                size += len(chunk)
                if size > max_bytes:
                    raise ApiError(request, 0, REASON_TOO_LARGE)
                parts.append(chunk)
            return b"".join(parts)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        request: str,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of 2xx. A 401 is asked once more with a token that was read just now, if that is another one."""
        self._tls.refresh()
        url = URL(self._base + path, encoded=True).with_query(query)
        token = self._token.value()
        response = await self._send(method, url, token, timeout, request, body, content_type, accept)
        try:
            if response.status == 401 and (fresh := self._token.value(fresh=True)) != token:
                response.close()
                response = await self._send(method, url, fresh, timeout, request, body, content_type, accept)
            if not 200 <= response.status < 300:
                raise await _refusal(response, request)
            yield response
        finally:
            # Read to its end the connection is kept, otherwise it is closed with what is still to come.
            response.close()

    async def _send(
        self,
        method: str,
        url: URL,
        token: str,
        timeout: aiohttp.ClientTimeout,
        request: str,
        body: bytes | None,
        content_type: str,
        accept: str,
    ) -> aiohttp.ClientResponse:
        if self._closed:
            raise ApiError(request, 0, REASON_UNREACHABLE)
        if self._session is None:
            self._session = _session(self._tls.context, self._user_agent, self._connections)
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            return await self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,  # the token is for this server alone
                server_hostname=self._server_name,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(request, error) from error


def _session(context: ssl.SSLContext | None, user_agent: str, connections: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        ssl=context if context is not None else True,
        limit=connections,
        keepalive_timeout=60.0,
        socket_factory=_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Identity: a small compressed answer could be a large one, and the way is short.
        headers={"Accept-Encoding": "identity", "User-Agent": user_agent},
        auto_decompress=False,
        trust_env=False,
    )


def _socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket that notices within half a minute that its peer is gone, also where nothing is being sent."""
    made = socket.socket(info[0], info[1], info[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return made


async def _chunks(response: aiohttp.ClientResponse, request: str) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _no_answer(request, error) from error


async def _refusal(response: aiohttp.ClientResponse, request: str) -> ApiError:
    body = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):  # the status alone says enough
        body = await response.content.read(MAX_ERROR)
    return from_answer(request, response.status, body, response.headers.get("Retry-After"))


def _no_answer(request: str, error: BaseException) -> ApiError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return ApiError(request, 0, REASON_UNTRUSTED)
    return ApiError(request, 0, REASON_TIMEOUT if isinstance(error, TimeoutError) else REASON_UNREACHABLE)
