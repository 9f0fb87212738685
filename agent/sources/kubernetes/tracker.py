"""One Secret that is watched: two tasks, of which one hears of changes and the other reads what has changed.

What was read last good goes on being served, whatever happens. A Secret is read whole, so there are no halves; it is
read again as long as something is wrong, whether or not the watch is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from agent.model import Observer, SecretVersion, SourceFacts
from agent.sources.kubernetes.place import PASSING, Kind, SecretError
from agent.sources.kubernetes.reading import Reading
from agent.sources.kubernetes.secret import Fingerprints, Read, WatchEnded
from agent.sources.kubernetes.shared import Shared, jitter, set_within
from agent.sources.subscriptions import Subscription
from apiclient.backoff import Backoff
from kernelsecret.errors import Code, Refused, said
from kernelsecret.problems import shown
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

SPACING_S = 0.05
"""Between two reads for notices of one Secret: one that is written all the time is not read all the time."""
WATCHED_S = 60.0
"""How often a Secret is read whose watch is silent: should the watch be dead, or the right to read have ended."""
DENIED_WATCH_S = 60.0
"""How often a right to watch is asked for that was denied."""
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
MOST_ASKED_S = 3.0
"""What the API server may ask to wait, so that an outage that has ended is noticed within five seconds."""
OWN_TROUBLE_S = (1.0, 5.0)
"""How often a Secret is read again that is denied, away or unusable: at its pace, within these bounds."""
LASTED_S = 1.0

log = get_logger("sources")


class SecretTracker:
    """Tells its subscriptions of each new version. `start` and `stop`; use it on one event loop."""

    def __init__(self, reading: Reading, shared: Shared) -> None:
        self.subscriptions: list[Subscription] = []
        self._reading, self._place, self._shared = reading, reading.place, shared
        self._ref = reading.place.ref
        self._version = ""
        """The API server's name of what was read last."""
        self._label = ""
        self._known: Fingerprints | None = None
        self._problem: Refused | None = None
        self._read_ns = 0
        self._noticed_ns = 0
        self._is_watching = False
        self._why_not = ""
        self._wanted = asyncio.Event()
        self._watch_now = asyncio.Event()
        self._must_tell = False
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[SecretVersion] | None = None
        self._reads: set[asyncio.Task[SecretVersion]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._waits = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._loop = asyncio.get_running_loop()

    @property
    def facts(self) -> SourceFacts:
        """What people may know of it."""
        how = "watch" if self._is_watching else f"read every {self._pace():g}s ({self._why_not or 'watch not open'})"
        return SourceFacts(
            label=self._label, read_ns=self._read_ns, how=how, problem=str(self._problem) if self._problem else ""
        )

    def start(self) -> None:
        """Begin to watch and to read."""
        self._shared.wakers.add(self.wake)
        self._loops = [asyncio.create_task(self._keep_reading()), asyncio.create_task(self._keep_watching())]

    async def stop(self, *, at_once: bool) -> None:
        """End both. Who waits for a read gets it, unless it is `at_once`. Idempotent."""
        self.subscriptions.clear()
        self._shared.wakers.discard(self.wake)
        for loop in self._loops:
            loop.cancel()
        reads = tuple(self._reads)
        if at_once:
            for read in reads:
                read.cancel()
        await asyncio.gather(*self._loops, *reads, return_exceptions=True)

    def subscribe(self, subscription: Subscription) -> None:
        """Tell also this one, at first how things stand."""
        self.subscriptions.append(subscription)
        self._must_tell = True
        self._wanted.set()

    def wake(self) -> None:
        """Look at once; also whether it can be watched by now."""
        self._wanted.set()
        self._watch_now.set()

    def token_came(self) -> None:
        """The reader has another token: what was refused to the old one may be given."""
        if self._problem or not self._is_watching:
            self.wake()

    async def look(self) -> SecretVersion:
        """What the Secret is now, read after this was called. Whoever asks while a read is waited for shares it.

        Raises Refused.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read())
            self._reads.add(self._next)
            self._next.add_done_callback(self._has_read)
        return await asyncio.shield(self._next)

    def _has_read(self, task: asyncio.Task[SecretVersion]) -> None:
        self._reads.discard(task)
        if not task.cancelled():
            task.exception()  # told already; asyncio complains where nobody is left to hear it

    # Reading

    async def _keep_reading(self) -> None:
        while True:
            self._wanted.clear()
            began = self._loop.time()
            with suppress(Refused):  # it has been told
                await self.look()
            if (left := began + SPACING_S - self._loop.time()) > 0:
                await asyncio.sleep(left)
            await set_within(self._wanted, self._next_look_s())

    def _next_look_s(self) -> float:
        """Seconds until it is read again by itself."""
        if self._problem is not None:
            if isinstance(self._problem, SecretError) and self._problem.kind in PASSING:
                wait = self._waits.next_s(min(self._problem.retry_after_s, MOST_ASKED_S))
                return max(wait, self._shared.away_wait_s()) if self._problem.is_away else wait
            least, longest = OWN_TROUBLE_S
            return min(max(self._pace(), least), longest) * jitter()
        return (WATCHED_S if self._is_watching else self._pace()) * jitter()

    def _pace(self) -> float:
        return self._shared.pace_of(self._ref)

    async def _read(self) -> SecretVersion:
        async with self._turn:  # one after the other, so that what is read later is newer
            self._next = None
            try:
                noticed_ns, self._noticed_ns = self._noticed_ns, 0
                version = self._taken(await self._reading.get(), noticed_ns)
            except Refused as refused:
                self._fail(refused)
                raise
            except Exception as error:  # noqa: BLE001 - whoever relies on it must hear that it is not read any more
                why = f"cannot be read: {said(error)}"
                unknown = SecretError(Kind.UNAVAILABLE, Code.UNAVAILABLE, str(self._ref), why)
                self._fail(unknown)
                raise unknown from None
        return version

    def _taken(self, read: Read, noticed_ns: int) -> SecretVersion:
        if self._known is not None and (name := self._known.emptied(read.values)) is not None:
            self._version = read.version
            fix = "write its value; the last good one goes on being served"
            raise self._place.unusable(f"the key {shown(name)} became empty", fix)
        found = Fingerprints(read.values)
        is_first, is_new = self._known is None, found != self._known
        recovered, self._problem = self._problem is not None, None
        self._waits.reset()
        self._version, self._known, self._read_ns = read.version, found, time.time_ns()
        if is_new:
            self._label = f"version {read.version}"
        changed_ns = 0 if is_first or not is_new else noticed_ns or time.monotonic_ns()
        version = SecretVersion(self._ref, read.values, self._label, changed_ns)
        if is_new or recovered or self._must_tell:
            self._must_tell = False
            self._tell(lambda observer: observer.changed(version))
        return version

    def _fail(self, refused: Refused) -> None:
        before, self._problem = self._problem, refused
        if before is None or str(before) != str(refused) or self._must_tell:
            self._must_tell = False
            self._tell(lambda observer: observer.failed(self._ref, str(refused)))

    def _tell(self, say: Callable[[Observer], None]) -> None:
        for subscription in self.subscriptions:
            subscription.tell(self._loop, say)

    # Watching

    async def _keep_watching(self) -> None:
        waits = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        while True:
            began, asked_s, denied, was_open = self._loop.time(), 0.0, False, False
            if self._shared.watches_left <= 0:
                self._polled("too many watches at this node")
                denied = True
            else:
                self._shared.watches_left -= 1
                try:
                    await self._watch()
                except SecretError as refused:
                    denied = refused.kind is Kind.DENIED
                    if denied:
                        self._polled("no right to watch", str(refused))
                except (WatchEnded, Refused):
                    pass  # it is read by itself meanwhile, which tells what is wrong
                except Exception as error:  # noqa: BLE001 - it must be opened again
                    log.warning(Event.WATCH_FAILED, secret=str(self._ref), **problem(error))
                finally:
                    self._shared.watches_left += 1
                    was_open, self._is_watching = self._is_watching, False
            if was_open:
                self._wanted.set()  # it is read by itself from now on
            if denied:
                asked_s = DENIED_WATCH_S * jitter()
            elif was_open and self._loop.time() - began >= LASTED_S:
                waits.reset()
                continue
            if self._shared.is_away:
                asked_s = max(asked_s, self._shared.away_wait_s())
            await set_within(self._watch_now, asked_s or waits.next_s())
            self._watch_now.clear()

    async def _watch(self) -> None:
        async with self._reading.watch() as notices:
            self._is_watching, self._why_not = True, ""
            self._wanted.set()  # what changed before it was open
            async for notice in notices:
                if notice.version != self._version or not notice.version:
                    self._noticed_ns = self._noticed_ns or time.monotonic_ns()
                    self._wanted.set()

    def _polled(self, why: str, problem: str = "") -> None:
        if self._why_not != why:
            self._why_not = why
            self._shared.hint(self._ref, f"{self._ref} is read every {self._pace():g} s: {problem or why}")
