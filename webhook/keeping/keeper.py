"""The keys of this replica: what the Secret has, loaded as soon as it changes, and the last good ones if it is damaged.

Every replica runs `run`; the leader runs `lead` too, and it alone writes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.reflector import Reflector
from certs.document import state_of
from certs.keys import KeyState
from certs.leaf import issue_node_leaf
from certs.rotation import Policy
from certs.signing import SigningKey
from certs.tls import client_context, load_pair, trust
from kernelsecret.errors import Code, Refused
from kernelsecret.names import KEYS_OBJECT, SYSTEM_NAMESPACE, WEBHOOK_CONFIGURATION
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.keeping.leading import Leading
from webhook.keeping.objects import KeysObject, read_keys
from webhook.server.tls import server_context

log = get_logger("keeping")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A state and what was made of it. Contexts are made anew, never changed: no authority can be taken out of one."""

    state: KeyState = field(repr=False)
    server: ssl.SSLContext
    nodes: ssl.SSLContext
    client: ssl.SSLContext


class Keeper:
    """Holds the keys. Use it on one event loop. Nothing of a key is in its `repr`, its errors or its log."""

    def __init__(
        self,
        client: ApiClient,
        policy: Policy,
        *,
        namespace: str = SYSTEM_NAMESPACE,
        configuration: str = WEBHOOK_CONFIGURATION,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._client = client
        self._policy = policy
        self._namespace = namespace
        self._configuration = configuration
        self._clock = clock
        self._news = asyncio.Event()
        self._loaded: _Loaded | None = None
        self._ready = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._leading: Leading | None = None
        self._unusable: Refused | None = None
        self._reflector = Reflector(
            client,
            paths.secrets(namespace),
            read_keys,
            key=lambda keys: keys.name,
            selectors=paths.only(KEYS_OBJECT),
            on_change=self._changed,
            name="keys",
        )

    async def run(self) -> None:
        """Watch the Secret until cancelled. Every replica does."""
        await self._reflector.run()

    async def lead(self) -> None:
        """Make, publish and change keys until cancelled. Only while this replica leads."""
        self._leading = Leading(
            self._client, self._namespace, self._configuration, self._policy, self._clock, self._news
        )
        try:
            await self._leading.run()
        finally:
            self._leading = None

    def current(self) -> KeyState:
        """The keys in use. Raises Refused (UNAVAILABLE) before there are any."""
        return self._in_use().state

    def signing_key(self) -> SigningKey:
        """The key that registrations are signed with now. Raises as `current`."""
        return self.current().signing_key

    def certify(self, csr_pem: str, node: str) -> str:
        """The certificate (PEM) of a node's agent, for a node that has been proven. Raises Refused."""
        return issue_node_leaf(self.current().authority, csr_pem, node, self._clock(), self._policy.node_leaf_lifetime)

    def server_context(self) -> ssl.SSLContext:
        """For the next connection of the API server. Raises as `current`."""
        return self._in_use().server

    def node_context(self) -> ssl.SSLContext:
        """For the next connection of an agent, which may show its certificate. Raises as `current`."""
        return self._in_use().nodes

    def client_context(self) -> ssl.SSLContext:
        """For the next connection to an agent; ask for it each time. Raises as `current`."""
        return self._in_use().client

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call it whenever other keys are in use; at once, too, if there are any."""
        self._callbacks.append(callback)
        if self._loaded is not None:
            callback()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether there are keys, after waiting for them so long at most."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    @property
    def is_ready(self) -> bool:
        """Whether clients can believe us now: there is a certificate, and it has not expired."""
        if self._loaded is None:
            return False
        leaf = self._loaded.state.leaf
        return leaf.not_before <= self._clock() < leaf.not_after

    def problems(self) -> list[Refused]:
        """What is wrong now, for readiness to say; also where the last good keys serve on."""
        found = [one for one in (self._unusable, self._leading and self._leading.problem) if one]
        if self._loaded is None and not found:
            found.append(_unavailable("has not been read yet", "the leading replica makes it; see its log"))
        if self._loaded is not None and not self.is_ready:
            fix = "compare clocks; the leading replica renews it, see its log"
            found.append(Refused(Code.FAILED_PRECONDITION, "certificate", "is not valid now", fix))
        return found

    def _in_use(self) -> _Loaded:
        if self._loaded is None:
            raise _unavailable("there are no keys yet", "the leading replica makes them; see its log")
        return self._loaded

    def _changed(self, _name: str, _old: KeysObject | None, new: KeysObject | None) -> None:
        """The Secret is another one now."""
        self._news.set()
        try:
            if new is None or not new.data:
                raise _unavailable("is not there", "the leading replica makes it anew")
            state = state_of(new.data)
            self._unusable = None
            if self._loaded is not None and self._loaded.state == state:
                return
            self._loaded = self._made(state)
        except Refused as refused:
            self._unusable = refused
            log.error(Event.KEYS_UNUSABLE, **problem(refused))
            return
        log.info(Event.KEYS_LOADED, keys=len(state.signing_keys), count=len(state.authorities))
        self._ready.set()
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the others must have the new keys all the same
                log.error(Event.CALLBACK_FAILED, object=KEYS_OBJECT, **problem(error))

    def _made(self, state: KeyState) -> _Loaded:
        leaf, bundle = state.leaf, state.bundle(self._clock())
        if not bundle:
            why = "every authority in it has expired"
            raise Refused(Code.FAILED_PRECONDITION, f"Secret {KEYS_OBJECT}", why, "the leading replica makes a new one")
        server, nodes = server_context(asks_peer=False), server_context(asks_peer=True)
        load_pair(server, leaf.certificate_pem, leaf.key_pem)
        load_pair(nodes, leaf.certificate_pem, leaf.key_pem)
        trust(nodes, bundle)
        return _Loaded(state, server, nodes, client_context(bundle, leaf.certificate_pem, leaf.key_pem))


def _unavailable(why: str, fix: str) -> Refused:
    return Refused(Code.UNAVAILABLE, f"Secret {KEYS_OBJECT}", why, fix)
