"""hvac, in a few threads of its own; what it asks goes out by our own wire, on the event loop.

So there is one TLS context, one set of connections and one bound on what is under way, and none of what requests would
bring: its own authorities, proxies from the environment, redirects that take a token along, debug lines with headers.
hvac is imported when it is first needed: 9 MB and 0.2 s of CPU that an agent without Vault does not pay.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from agent.sources.vault.answers import UNREADABLE, body_of
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.reply_parser import Reply
from agent.sources.vault.request import Request

THREADS: Final = 4
LONGEST_S: Final = 60.0
"""For one call of hvac with all that it waits for; each request has its own, shorter bound."""

Send = Callable[[Request], Coroutine[Any, Any, Reply]]


class Declined(Exception):
    """Vault answered with another status than 2xx. Says nothing of the answer by itself."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"status {reply.status}")


class Bridge:
    """Use it on one event loop."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._slots = asyncio.Semaphore(THREADS)
        self._asking: set[concurrent.futures.Future[Reply]] = set()
        self._closed = False

    async def run(
        self, call: Callable[[Any], Any], before: Callable[[], Coroutine[Any, Any, None]], token: str, namespace: str
    ) -> Any:
        """What `call` gives for an adapter of hvac with this token, in a thread; awaits `before` when its turn comes.

        Raises Declined, and VaultError where there was no answer.
        """
        loop = asyncio.get_running_loop()
        async with self._slots:
            await before()
            if self._closed:
                raise VaultError(Kind.UNAVAILABLE, "agent", "is stopping")
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="vault")
            return await loop.run_in_executor(
                self._pool, lambda: call(_adapter(self._from_thread, loop, token, namespace))
            )

    def close(self) -> None:
        """What is under way fails; the threads end by themselves."""
        self._closed = True
        for asked in tuple(self._asking):
            asked.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _from_thread(self, loop: asyncio.AbstractEventLoop, request: Request) -> Reply:
        asked = asyncio.run_coroutine_threadsafe(self._send(request), loop)
        self._asking.add(asked)
        try:
            if self._closed:
                asked.cancel()
            return asked.result(LONGEST_S)
        except concurrent.futures.CancelledError:
            raise VaultError(Kind.UNAVAILABLE, "agent", "is stopping") from None
        except TimeoutError:
            asked.cancel()
            raise VaultError(
                Kind.TIMEOUT, "Vault", "no answer within its time", "see whether it is overloaded"
            ) from None
        finally:
            self._asking.discard(asked)


def _adapter(
    ask: Callable[[asyncio.AbstractEventLoop, Request], Reply],
    loop: asyncio.AbstractEventLoop,
    token: str,
    namespace: str,
) -> Any:
    try:
        from hvac import adapters
    except ImportError:
        raise VaultError(Kind.LOGIN, "hvac", "is not installed", "install kernelsecret[vault]") from None
    base: Any = adapters.Adapter

    class OverOurWire(base):  # type: ignore[misc]
        """Gives hvac the JSON of an answer, as its own JSONAdapter does."""

        def get_login_token(self, response: Any) -> str:
            return str(response["auth"]["client_token"])

        def request(
            self, method: str, url: str, headers: object = None, raise_exception: bool = True, **given: Any
        ) -> Any:
            body = body_of(given["json"]) if given.get("json") is not None else None
            reply = ask(loop, Request(method.upper(), url, token, namespace, body))
            if not 200 <= reply.status < 300:
                raise Declined(reply)
            try:
                return msgspec.json.decode(reply.body) if reply.body else {}
            except UNREADABLE:
                raise VaultError(
                    Kind.BAD_ANSWER, "Vault", "the answer is not JSON", "is it Vault that answers?"
                ) from None

    # A session of requests, which the base class would make, is never used.
    return OverOurWire(base_uri="", token=token, session=SimpleNamespace(verify=None, cert=None, proxies=None))
