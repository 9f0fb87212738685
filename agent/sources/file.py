"""The `file` source: a secret is a folder, its keys are the files in it. Nothing else is needed to try the product.

    ROOT/payments/db/username       the key `username` of the secret `payments/db`
    ROOT/payments/db/password

Write a file beside the key and rename it, or write in place: a value is taken when its writer has closed it. To change
several keys at once lay them out as kubelet does, the keys linking to `..data/KEY`, and swap the link `..data`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from agent.model import Observer, SecretRef, SecretVersion, SourceFacts
from agent.sources.folder import label_of, read_folder, refusal_of, secret_folder
from agent.sources.keys import MAX_KEYS, Bad, Outcome, Value
from agent.sources.subscriptions import Subscription, leaving, silence
from agent.sources.system import In
from agent.sources.tracker import Tracker
from agent.sources.watches import Watches
from kernelsecret.errors import Code, Refused
from kernelsecret.plain import relative_path_problem
from kernelsecret.problems import quoted, shown

_ROUNDS = 64
"""Reads of the event queue before others on the loop get their turn."""
_BUSY_TRIES = 20
_BUSY_WAIT_S = 0.01


class FileSource:
    """Implements `agent.model.Source`. Reads on the loop: keys are at most 1 MiB, and the root is a local folder."""

    name = "file"

    def __init__(self, root: Path, only: Mapping[str, Collection[str]] | None = None) -> None:
        """`root` is absolute; it may be away for a time. It may be a link, which is followed at each look.

        `only`: for a secret's path the keys that it has, where not every file of its folder is one.
        """
        if not root.is_absolute():
            raise ValueError("the root of secrets must be an absolute path")
        self._root = root
        self._only = only or {}
        self._watches: Watches[Tracker] | None = None
        self._trackers: dict[SecretRef, Tracker] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """Every key of the secret as of now. Waits up to 0.2 s for a writer to close a key.

        Raises Refused: NOT_FOUND for a secret that is not there, FAILED_PRECONDITION for a key that cannot be served,
        UNAVAILABLE for one that is being written.
        """
        self._check(ref)
        outcomes: dict[str, Outcome] = {}
        for attempt in range(_BUSY_TRIES):
            if attempt:
                await asyncio.sleep(_BUSY_WAIT_S)
            try:
                with secret_folder(self._root, ref.path) as folder:
                    outcomes = read_folder(folder, only=self._only.get(ref.path))
            except OSError as error:
                raise refusal_of(error, str(ref)) from error
            values = {name: outcome.data for name, outcome in outcomes.items() if isinstance(outcome, Value)}
            _refuse_bad(ref, outcomes)
            self._refuse_emptied(ref, values)
            if values and len(values) == len(outcomes):
                return SecretVersion(ref, values, label_of(outcomes.values()))
            if not outcomes:
                break
        if not outcomes:
            wanted = ", ".join(quoted(name) for name in sorted(self._only.get(ref.path, ())))
            why = f"the folder has no {wanted}" if wanted else "the folder has no keys"
            raise Refused(Code.NOT_FOUND, str(ref), why, "put a file in it for each key")
        busy = next(name for name, outcome in sorted(outcomes.items()) if not isinstance(outcome, Value))
        why = "somebody has it open for writing"
        raise Refused(Code.UNAVAILABLE, f"{ref}[{shown(busy)}]", why, "it is taken when the writer closes it")

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        """Tell the observer of every version until the returned function is called. Needs a running loop.

        Its first call tells the state at the start of watching (`changed_ns` 0), so that nothing between a fetch and
        the watch is lost; it may be what was fetched. Raises Refused where the node's limits forbid to watch.
        """
        self._check(ref)
        try:
            tracker = self._tracker(ref)
        except OSError as error:
            self._close_if_idle()
            raise refusal_of(error, str(ref)) from error
        subscription = Subscription(observer)
        tracker.subscriptions.append(subscription)
        tracker.tell_state(subscription)
        return leaving(subscription, tracker.subscriptions, lambda: self._drop_if_unwatched(ref, tracker))

    def nudge(self, path: str) -> int:
        """Files tell by themselves."""
        return 0

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        """What is known of a watched secret."""
        tracker = self._trackers.get(ref)
        return tracker.facts if tracker else None

    def holds_old(self, ref: SecretRef) -> bool:
        """A file holds no lease."""
        return False

    def all_read(self, ref: SecretRef, label: str) -> None:
        """A file holds no lease."""

    async def close(self) -> None:
        """Stop watching everything. Idempotent; observers hear no more."""
        for tracker in self._trackers.values():
            silence(tracker.subscriptions)
            tracker.stop()
        self._trackers.clear()
        self._close_if_idle()

    def _refuse_emptied(self, ref: SecretRef, values: Mapping[str, bytes]) -> None:
        """A fetch for one pod must not pass on to all what the watch has refused."""
        tracker = self._trackers.get(ref)
        if tracker and (emptied := tracker.emptied(values)):
            fix = "write its value; the last good one goes on being served"
            raise Refused(Code.FAILED_PRECONDITION, f"{ref}[{shown(emptied)}]", "became empty", fix)

    def _check(self, ref: SecretRef) -> None:
        if ref.source != self.name:
            raise Refused(Code.INVALID_ARGUMENT, shown(str(ref)), f"is no secret of the source `{self.name}`")
        if problem := relative_path_problem(ref.path):
            raise Refused(Code.INVALID_ARGUMENT, shown(str(ref)), f"the path {problem}")

    def _tracker(self, ref: SecretRef) -> Tracker:
        tracker = self._trackers.get(ref)
        if tracker is None:
            loop = asyncio.get_running_loop()
            if self._watches is None:
                self._watches = Watches()
                self._loop = loop
                loop.add_reader(self._watches.fd, self._readable)
            tracker = Tracker(self._root, ref, self._watches, loop, self._only.get(ref.path))
            tracker.start()
            self._trackers[ref] = tracker
        return tracker

    def _drop_if_unwatched(self, ref: SecretRef, tracker: Tracker) -> None:
        if not tracker.subscriptions and self._trackers.get(ref) is tracker:
            tracker.stop()
            del self._trackers[ref]
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._watches is not None and not self._trackers:
            assert self._loop is not None
            self._loop.remove_reader(self._watches.fd)
            self._watches.close()
            self._watches = None

    def _readable(self) -> None:
        """Everything that is queued already becomes at most one version of each secret."""
        watches = self._watches
        if watches is None:
            return
        touched: dict[Tracker, None] = {}
        now_ns = 0
        for _ in range(_ROUNDS):
            events = watches.read()
            if not events:
                break
            now_ns = now_ns or time.monotonic_ns()
            for event in events:
                if event.mask & In.Q_OVERFLOW:
                    for tracker in self._trackers.values():
                        tracker.note_overflow()
                        touched[tracker] = None
                for tracker, place in watches.holders(event):
                    if tracker.note(place, event):
                        touched[tracker] = None
        for tracker in touched:
            tracker.process(now_ns)


def _refuse_bad(ref: SecretRef, outcomes: dict[str, Outcome]) -> None:
    for name, outcome in sorted(outcomes.items()):
        if isinstance(outcome, Bad):
            raise Refused(Code.FAILED_PRECONDITION, f"{ref}[{shown(name)}]", outcome.why, outcome.fix)
    if len(outcomes) > MAX_KEYS:
        why = f"has more than {MAX_KEYS} keys"
        raise Refused(Code.FAILED_PRECONDITION, str(ref), why, "split it into several secrets")
