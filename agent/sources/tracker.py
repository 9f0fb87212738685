"""One watched secret: from events to versions. Called on the event loop only."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from agent.model import SecretRef, SecretVersion, SourceFacts
from agent.sources.book import Book
from agent.sources.candidates import Candidates
from agent.sources.chain import AWAY, Chain
from agent.sources.folder import label_of, problem_of, read_folder, read_keys, secret_folder
from agent.sources.keys import DATA, Busy, Missing, Outcome
from agent.sources.subscriptions import Audience, Subscription
from agent.sources.system import Event, In
from agent.sources.watches import Place, Role, Watches

RETRY_S = 1.0
"""How often what no event announces is looked at again, while something is wrong: a root that is away, a limit."""

_GONE = In.DELETE_SELF | In.MOVE_SELF | In.UNMOUNT | In.IGNORED


class Tracker:
    """Watches one secret, and tells its subscriptions."""

    def __init__(
        self,
        root: Path,
        ref: SecretRef,
        watches: Watches[Tracker],
        loop: asyncio.AbstractEventLoop,
        only: Collection[str] | None = None,
    ) -> None:
        self._audience = Audience(ref, loop)
        self.subscriptions = self._audience.subscriptions
        self._root = root
        self._ref = ref
        self._chain = Chain(root, ref.path, watches, self)
        self._loop = loop
        self._only = only
        self._book = Book()
        self._identity: tuple[int, int] | None = None
        self._lost = ""
        self._label = ""
        self._everything = True
        self._touched: set[str] = set()
        self._renamed: dict[int, str] = {}
        self._forgotten: set[str] = set()
        self._candidates = Candidates()
        self._settling: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    @property
    def facts(self) -> SourceFacts:
        """What people may know of it."""
        return SourceFacts(label=self._label, how="watch", problem=self._problem)

    def start(self) -> None:
        """Begin to watch. Raises OSError where the node's limits forbid it; a folder that is away is no error."""
        try:
            self._read_everything()
        except FileNotFoundError as error:
            self._lose(problem_of(error))
        except OSError:
            self.stop()
            raise
        self._audience.told = self._problem

    def tell_state(self, subscription: Subscription) -> None:
        """Tell one observer how things stand, so that nothing between its fetch and its watch is lost."""
        self._audience.tell_state(subscription, self._version(0), self._problem)

    def emptied(self, values: Mapping[str, bytes]) -> str | None:
        """A key that is empty in `values` and has a good value that is not."""
        good = self._book.values
        return next((name for name, data in sorted(values.items()) if not data and good.get(name)), None)

    def note(self, place: Place, event: Event) -> bool:
        """Remember what an event touches; whether there is something to do."""
        name = os.fsdecode(event.name)
        if event.mask & _GONE and place.role is not Role.DATA:
            self._everything = True
        elif place.role is Role.ABOVE:
            self._everything |= name == place.next
            return name == place.next
        elif place.role is Role.OWN and name == DATA:
            self._everything = True
        elif not name or name.startswith("..") or event.mask & In.ISDIR or self._is_foreign(name):
            return False
        else:
            return self._note_name(name, event)
        return True

    def _is_foreign(self, name: str) -> bool:
        """Whether the file is none of this secret's."""
        return self._only is not None and name not in self._only

    def _note_name(self, name: str, event: Event) -> bool:
        if event.mask & In.MOVED_FROM and self._book.heard_of(name):
            self._renamed[event.cookie] = name
        elif event.mask & In.MOVED_TO and name in self._book.known and event.cookie in self._renamed:
            # A writer's temporary file that was taken for a key: its rename to a key is no removal.
            self._forgotten.add(self._renamed[event.cookie])
        if event.mask & (In.MOVED_FROM | In.DELETE):
            self._candidates.went(name)
        if self._book.heard_of(name):
            self._touched.add(name)
            return True
        if not event.mask & (In.MOVED_FROM | In.DELETE):
            self._candidates.came(name, self._loop.time())
            self._settle_later()
        return False

    def note_overflow(self) -> None:
        """Events were lost: look at everything."""
        self._everything = True

    def process(self, now_ns: int) -> None:
        """Read what was touched and tell the observers. `now_ns` is when the events were read."""
        try:
            changed = self._read_everything() if self._everything else self._read_touched()
            self._lost = "" if self._identity else self._lost
        except OSError as error:
            changed = False
            self._lose(problem_of(error))
        self._report(changed, now_ns)

    def stop(self) -> None:
        """Let go of every watch and timer. Idempotent."""
        self.subscriptions.clear()
        for timer in (self._settling, self._retrying):
            if timer:
                timer.cancel()
        self._chain.release()

    # Reading

    def _read_everything(self) -> bool:
        self._touched.clear()
        folder = self._attach()
        if folder is None:
            return False
        try:
            found = os.fstat(folder)
            another = (found.st_dev, found.st_ino) != self._identity
            if another:
                self._book.replaced()
                self._candidates.clear()
            outcomes = read_folder(folder, self._book.known, self._only)
            self._identity = found.st_dev, found.st_ino
            self._everything = False
        finally:
            os.close(folder)
        if not another:
            for name in [name for name in outcomes if not self._book.heard_of(name)]:
                self._candidates.came(name, self._loop.time())
                del outcomes[name]
            self._settle_later()
        return self._apply(outcomes)

    def _read_touched(self) -> bool:
        with secret_folder(self._root, self._ref.path) as folder:
            found = os.fstat(folder)
            outcomes = read_keys(folder, self._touched) if (found.st_dev, found.st_ino) == self._identity else None
        if outcomes is None:
            return self._read_everything()
        self._touched.clear()
        return self._apply(outcomes)

    def _apply(self, outcomes: dict[str, Outcome]) -> bool:
        if any(isinstance(outcome, Busy) for outcome in outcomes.values()):
            # Closing it is an event, unless it was opened by another name.
            self._retry_later()
        changed = self._book.apply(outcomes)
        for name in self._forgotten:
            if isinstance(outcomes.get(name), Missing):
                self._book.forget(name)
        self._forgotten.clear()
        self._renamed.clear()
        if changed:
            self._label = label_of(outcomes.values())
        return changed

    def _attach(self) -> int | None:
        """The secret's folder, watched with all that is above it; None where it is away. Raises OSError."""
        try:
            return self._chain.attach()
        except OSError as error:
            if error.errno not in AWAY:
                raise
            self._lose(problem_of(error))
            return None

    def _lose(self, problem: str) -> None:
        self._lost = problem
        self._identity = None
        self._everything = True
        self._retry_later()

    # Later

    def _settle_later(self) -> None:
        due = self._candidates.next_s()
        if due is not None and self._settling is None:
            self._settling = self._loop.call_at(due, self._settled)

    def _settled(self) -> None:
        self._settling = None
        names = self._candidates.settled(self._loop.time())
        self._settle_later()
        try:
            with secret_folder(self._root, self._ref.path) as folder:
                outcomes = read_keys(folder, names)
        except OSError:
            outcomes = None
        if outcomes is None:
            self._everything = True
            self.process(time.monotonic_ns())
        else:
            self._report(self._apply(outcomes), time.monotonic_ns())

    def _retry_later(self) -> None:
        if self._retrying is None:
            self._retrying = self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        self._everything = True
        self.process(time.monotonic_ns())

    # Telling

    @property
    def _problem(self) -> str:
        return self._lost or self._book.problem

    def _version(self, changed_ns: int) -> SecretVersion | None:
        return SecretVersion(self._ref, self._book.values, self._label, changed_ns) if self._book.known else None

    def _report(self, changed: bool, now_ns: int) -> None:
        self._audience.report(self._version(now_ns), self._problem, changed=changed)
