"""Pods created one after the other while something happens, and what became of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kubernetes.client import ApiException

from kernelsecret.names import DRIVER_NAME
from tests.apiserver.harness.cluster import Cluster

MOST: Final = 5000
"""Creations in all: a loop that nobody ends, ends."""
PAUSE_S: Final = 0.01


@dataclass
class Creating:
    """How it went so far: injected pods, and everything else in words."""

    injected: int = 0
    wrong: list[str] = field(default_factory=list)

    def assert_none_lost(self, least: int) -> None:
        """Fails where one was refused, or not injected, or where there were too few to tell."""
        assert not self.wrong, f"{len(self.wrong)} lost beside {self.injected} injected, the first: {self.wrong[:5]}"
        assert self.injected >= least, f"only {self.injected} were created"


def is_injected(kept: Any) -> bool:
    """Whether a pod, as the official client has it, has a volume of ours."""
    return any(volume.csi and volume.csi.driver == DRIVER_NAME for volume in kept.spec.volumes or [])


@contextmanager
def creating(cluster: Cluster, namespace: str, thing: dict[str, Any], *, threads: int = 2) -> Iterator[Creating]:
    """Create `thing` again and again (as a dry run: the same admission, and nothing is left) while the block runs."""
    progress = Creating()
    lock = threading.Lock()
    ended = threading.Event()

    def create(number: int) -> None:
        for _ in range(MOST // threads):
            if ended.wait(PAUSE_S):
                return
            began = time.monotonic()
            try:
                kept = cluster.core.create_namespaced_pod(namespace, thing, dry_run="All")
                wrong = "" if is_injected(kept) else "not injected"
            except ApiException as error:
                wrong = f"{error.status}: {error.body}"
            except OSError as error:
                wrong = type(error).__name__
            with lock:
                if wrong:
                    progress.wrong.append(f"{wrong} (after {time.monotonic() - began:.3f} s, thread {number})")
                else:
                    progress.injected += 1

    workers = [threading.Thread(target=create, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield progress
    finally:
        ended.set()
        for worker in workers:
            worker.join(30)
