"""What is told instead of asked for: a Kubernetes Secret by its watch, a secret of Vault by a signed push at the
webhook; and ten thousand pushes in ten seconds.
"""

from __future__ import annotations

import asyncio
import select
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.families.rotation import RECORD, distribution, timed, value
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.pushed_world import PushedWorld, Pusher
from bench.stats import median, percentile

FIGURES = (
    "vault_push_p50_ms",
    "vault_push_p99_ms",
    "kubernetes_p50_ms",
    "kubernetes_p99_ms",
    "rapid_fire_lost",
    "rapid_fire_flips_per_s",
    "rapid_fire_rss_growth_mb",
)
PAUSE_S = 0.3
SECONDS = 10.0
CONNECTIONS = 200
"""That push side by side: each is answered once its push is written, up to a tenth of a second later."""
WRITES_PER_S = 50
LAST_WITHIN_S = 5.0
TAKEN = 202


def run(options: Options) -> Outcome:
    """One cluster, one node, one Vault."""
    outcome = Outcome()
    rounds = options.rounds(200, 20)
    with PushedWorld.started() as made:
        made.create_object("app", value(1))
        pod = asyncio.run(made.shown("kube", {"kubernetes": {"name": "app"}}))
        reader = made.reader(pod)
        say(f"{rounds} changes of a Kubernetes Secret")
        times = timed(reader, lambda new: made.put_object("app", new), rounds, PAUSE_S)
        reader.kill()
        outcome.figures += _two("kubernetes", times, "the Secret's replacement by the API server's client")
        outcome.series["kubernetes_ms"] = distribution(times)

        made.put("app", value(1))
        pod = asyncio.run(made.shown("vault", made.source("app")))
        reader, pusher = made.reader(pod), made.pusher()
        say(f"{rounds} writes to Vault, each followed by a push")
        times = timed(reader, lambda new: _written_and_pushed(made, pusher, new), rounds, PAUSE_S)
        outcome.figures += _two("vault_push", times, "the write's request to Vault, push included")
        outcome.series["vault_push_ms"] = distribution(times)
        pusher.close()

        outcome.figures += _rapid_fire(made, reader, options.rounds(10_000, 1_000), rounds + 1)
    return outcome


def _written_and_pushed(made: PushedWorld, pusher: Pusher, new: bytes) -> int:
    before = made.put("app", new)
    status = pusher.push(made.path("app"))
    if status != TAKEN:
        raise RuntimeError(f"the push was answered by {status}")
    return before


def _two(name: str, times: list[float], what: str) -> list[Figure]:
    how = (
        f"{len(times)} changes: from just before {what} to the return of the first read of the new value, by a C "
        f"program in a pod that reads all the time; polls are an hour apart; at most {max(times):.1f} ms"
    )
    return [
        measured(f"{name}_p50_ms", median(times), how, 1),
        measured(f"{name}_p99_ms", percentile(times, 99), how, 1),
    ]


def _rapid_fire(made: PushedWorld, reader: subprocess.Popen[bytes], pushes: int, last: int) -> list[Figure]:
    """Pushes as fast as they are due, values written meanwhile; then one last value. The reader sleeps until then."""
    reader.send_signal(signal.SIGSTOP)
    say(f"{pushes} pushes in {SECONDS:g} s")
    answers: list[int] = []
    numbers = iter(range(last + 1, 1 << 30))
    pushers = [made.pusher() for _ in range(CONNECTIONS)]
    for pusher in pushers:
        pusher.connect()
    rss, flips, began = _rss_mb(made.node.pid), _flips(made), time.monotonic()
    threads = [
        threading.Thread(target=_fire, args=(made, pushers[number], answers, pushes // CONNECTIONS, began, number))
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    written = 0
    while any(thread.is_alive() for thread in threads):
        made.put("app", value(next(numbers)))
        written += 1
        time.sleep(max(0.0, began + written / WRITES_PER_S - time.monotonic()))
    took = time.monotonic() - began
    made.put("app", value(final := next(numbers)))
    pusher = made.pusher()
    _until(lambda: pusher.push(made.path("app")) == TAKEN, 10.0, "the last push is taken")
    reader.send_signal(signal.SIGCONT)
    lost = 0 if _sees(reader, final) else 1
    pusher.close()
    flipped = _flips(made) - flips
    growth = _rss_mb(made.node.pid) - rss
    told = ", ".join(f"{count} of {status}" for status, count in sorted(Counter(answers).items()))
    how = (
        f"{len(answers)} signed pushes of one secret on {CONNECTIONS} connections in {took:.1f} s (answers: {told}), "
        f"{written} values "
        f"written to Vault meanwhile; then one more value and push, read within {LAST_WITHIN_S:g} s"
    )
    limit = f"flips in the kernel's map over {took:.1f} s: the agent looks at most ten times a second"
    return [
        measured("rapid_fire_lost", lost, how, 0),
        measured("rapid_fire_flips_per_s", flipped / took, limit, 1),
        measured("rapid_fire_rss_growth_mb", growth, "resident memory of the agent, before and after", 1),
    ]


def _sees(reader: subprocess.Popen[bytes], final: int) -> bool:
    """Whether the reader comes to this value, whatever it sees before."""
    assert reader.stdout is not None
    end = time.monotonic() + LAST_WITHIN_S
    while (left := end - time.monotonic()) > 0:
        if (
            select.select([reader.stdout], [], [], left)[0]
            and RECORD.unpack(reader.stdout.read(RECORD.size))[0] == final
        ):
            return True
    return False


def _fire(made: PushedWorld, pusher: Pusher, answers: list[int], count: int, began: float, number: int) -> None:
    for step in range(count):
        due = began + (step + number / CONNECTIONS) * SECONDS / count
        time.sleep(max(0.0, due - time.monotonic()))
        answers.append(pusher.push(made.path("app")))
    pusher.close()


def _flips(made: PushedWorld) -> int:
    path = made.path("app")
    return sum(
        int(generation)
        for volume in made.node.status()["volumes"]
        for ref, generation in volume.get("generations", {}).items()
        if path in ref
    )


def _rss_mb(pid: int) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024 / 1e6


def _until(done: Callable[[], bool], limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"in {limit_s:g} s not: {what}")
        time.sleep(0.01)
