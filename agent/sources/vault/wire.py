"""From one request to one answer of Vault: verified, bounded in time and size, and never of anybody else.

One redirect is followed, that of a standby to the active server: to the same path, over TLS, to whom the pinned
authorities vouch for. A token goes nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.http1 import Connection, Idle
from agent.sources.vault.reply_parser import HttpError, Reply
from agent.sources.vault.request import Request
from agent.sources.vault.settings import ADDRESS, VaultSettings
from agent.sources.vault.tls import Tls, failure_of
from kernelsecret.errors import said
from kernelsecret.problems import quoted

KEPT: Final = 32
"""Connections that are kept."""
AGE_S: Final = 60.0
"""A connection is not used for longer, so that an expired certificate or revocation list is noticed."""
_TURNS: Final = 100
"""Of the event loop, within which an aborted connection has ended."""
_CLOSING_S: Final = 2.0
_LEFT_S: Final = 5.0
"""For a connection that nobody waits for any more to be made, and ended then."""
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TARGETS: Final = 8
"""Servers of one Vault that are known at a time."""


class Wire:
    """Connections to one Vault, and to whichever of its servers is active."""

    def __init__(self, settings: VaultSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._tls = Tls(settings, clock)
        self._generation = 0
        self._targets: dict[str, _Target] = {}
        self._live: set[Connection] = set()
        self._left: set[asyncio.Task[Connection]] = set()
        self._first = self._target(settings.base)
        self.where = f"Vault at {settings.base}"
        """How errors name it."""

    async def ask(self, request: Request, *, connect_s: float = 0.0, whole_s: float = 0.0) -> Reply:
        """The answer, whatever its status. Raises VaultError where there is none that can be used."""
        connect_s, whole_s = connect_s or self._settings.connect_s, whole_s or self._settings.whole_s
        loop = asyncio.get_running_loop()
        ends = loop.time() + whole_s
        reply = await self._ask(self._first, request, connect_s, ends)
        if reply.status not in _REDIRECTS:
            return reply
        target = self._target(self._redirect(request, reply))
        try:
            reply = await self._ask(target, request, connect_s, ends)
        except VaultError as error:
            error.certain = False  # of another server than the one whose health is looked at
            raise
        if reply.status in _REDIRECTS:
            raise self._standby("and it sends on to another one yet")
        return reply

    def give_up(self, after_s: float) -> None:
        """End the connections on which an answer has been waited for so long: Vault may be back, and never answer on
        those. What can be asked again is, at once."""
        for connection in tuple(self._live):
            if connection.waits_s >= after_s:
                connection.abort()

    async def close(self) -> None:
        """End all connections, whatever they wait for."""
        self._drop_kept()
        for connection in tuple(self._live):
            connection.abort()
        for turn in range(2 * _TURNS):
            if not self._live and not self._left:
                break
            if turn == _TURNS:
                for making in self._left:
                    making.cancel()
            await asyncio.sleep(0)

    def _drop_kept(self) -> None:
        for target in self._targets.values():
            target.idle.clear()

    async def _ask(self, target: _Target, request: Request, connect_s: float, ends: float) -> Reply:
        context = self._context()
        generation = self._generation
        try:
            connection, reply = await self._exchange(target, request, context, connect_s, ends)
        # TimeoutError and ssl.SSLError are OSErrors; a host that is no name at all is a UnicodeError.
        except (HttpError, OSError, UnicodeError) as error:
            raise self._no_answer(error, target.host) from None
        if generation == self._generation:
            target.idle.give(connection)
        else:
            connection.close()
        return reply

    async def _exchange(
        self, target: _Target, request: Request, context: ssl.SSLContext | None, connect_s: float, ends: float
    ) -> tuple[Connection, Reply]:
        sent = request.to(target.authority)
        loop = asyncio.get_running_loop()
        kept = None if request.once else target.idle.take()
        if kept is not None:
            try:
                return kept, await kept.ask(sent, max(0.0, ends - loop.time()))
            except HttpError as error:
                # Vault may have closed it just now, without a word: then once more, where that does nothing twice.
                if not error.unanswered or request.method != "GET" or isinstance(error.__cause__, ssl.SSLError):
                    raise
        made = await self._connected(target, context, min(connect_s, ends - loop.time()))
        return made, await made.ask(sent, max(0.0, ends - loop.time()))

    async def _connected(self, target: _Target, context: ssl.SSLContext | None, within_s: float) -> Connection:
        """A new connection. Raises OSError.

        Who gives up does not cancel it at once: asyncio, which tries several addresses, would forget a socket that is
        connected just then, and leave it open.
        """
        making = asyncio.ensure_future(target.connect(context, self._settings.server_name, self._live))
        try:
            async with asyncio.timeout(max(0.0, within_s)):
                return await asyncio.shield(making)
        except BaseException as error:
            self._left.add(making)
            making.add_done_callback(self._leave)
            if not making.done():
                asyncio.get_running_loop().call_later(_LEFT_S, making.cancel)
            if isinstance(error, TimeoutError):
                raise ConnectTimeout from None
            raise

    def _leave(self, making: asyncio.Task[Connection]) -> None:
        self._left.discard(making)
        if not making.cancelled() and making.exception() is None:
            making.result().abort()

    def _context(self) -> ssl.SSLContext | None:
        try:
            return self._tls.context()
        finally:
            if self._generation != self._tls.generation:
                self._generation = self._tls.generation
                self._drop_kept()

    def _target(self, base: str) -> _Target:
        found = self._targets.get(base)
        if found is None:
            if len(self._targets) >= _TARGETS:
                oldest = next(name for name in self._targets if name != self._settings.base)
                self._targets.pop(oldest).idle.clear()
            found = self._targets[base] = _Target(base)
        return found

    def _redirect(self, request: Request, reply: Reply) -> str:
        """Where the active server is. Raises VaultError where a token must not go there."""
        location = reply.header(b"location")
        try:
            url = urlsplit(location)
            host, port = url.hostname, url.port
        except ValueError:
            raise self._standby("and it does not say to where") from None
        asked = url.path + (f"?{url.query}" if url.query else "")
        if reply.status not in (307, 308) or not host or asked != request.path or url.username is not None:
            raise self._standby("but not to the active server")
        if url.scheme != "https":
            raise self._standby("to an address without TLS, where no token goes")
        if self._settings.ca_file is None and host != self._first.host:
            raise self._standby(f"to {quoted(host)}, for which no pinned authority vouches")
        return f"https://[{host}]:{port or 443}" if ":" in host else f"https://{host}:{port or 443}"

    def _standby(self, what: str) -> VaultError:
        why = f"it sends on {what}"
        fix = "set api_addr of each server of Vault to its https address, and let standbys forward requests"
        return VaultError(Kind.STANDBY, self.where, why, fix)

    def _no_answer(self, error: Exception, host: str) -> VaultError:
        cause = error.__cause__ if isinstance(error, HttpError) else error
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return failure_of(cause, self.where, self._settings.server_name or host)
        if isinstance(error, HttpError):
            if error.cut:
                return VaultError(Kind.UNAVAILABLE, self.where, str(error), "it is asked again")
            return VaultError(Kind.BAD_ANSWER, self.where, f"the answer cannot be used: {error}", f"see {ADDRESS}")
        if isinstance(error, ConnectTimeout):
            why = "no connection within its time"
            return VaultError(Kind.TIMEOUT, self.where, why, "see whether it runs, and the way to it", certain=True)
        if isinstance(error, TimeoutError):
            return VaultError(Kind.TIMEOUT, self.where, "no answer within its time", "see whether it is overloaded")
        if isinstance(error, socket.gaierror | UnicodeError):
            why, fix = f"the name {quoted(host)} is not known", f"see {ADDRESS} and this node's DNS"
        else:
            why, fix = f"cannot be reached: {said(error)}", f"see whether it runs, and {ADDRESS}"
        return VaultError(Kind.UNAVAILABLE, self.where, why, fix, certain=True)


class ConnectTimeout(TimeoutError):
    """No connection, or no handshake, in time."""


class _Target:
    """One server."""

    def __init__(self, base: str) -> None:
        url = urlsplit(base)
        self.host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self.authority = url.netloc
        self.idle = Idle(most=KEPT, age_s=AGE_S)

    async def connect(self, context: ssl.SSLContext | None, server_name: str, live: set[Connection]) -> Connection:
        """A new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        name = (server_name or self.host) if context else None
        _, made = await loop.create_connection(
            lambda: Connection(loop, live),
            self.host,
            self._port,
            ssl=context,
            server_hostname=name,
            happy_eyeballs_delay=0.25,
            ssl_shutdown_timeout=_CLOSING_S if context else None,
        )
        made.notice_a_dead_peer()
        return made
