"""Secrets of a real Vault: how soon a write is read by polling, beside the real Vault Agent; and how an outage ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench.families.polls import SECRETS, publish_many
from bench.families.rotation import distribution, timed, value, wait_for
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.sidecar import PodSidecar, Sidecar
from bench.stats import median, percentile
from bench.vault_world import VaultWorld
from bench.world import World

FIGURES = (
    "vault_poll_p50_ms",
    "vault_poll_p99_ms",
    "vault_agent_fastest_p50_ms",
    "vault_agent_default_s",
    "vault_agent_rss_mb",
    "outage_recovery_s",
    "outage_notice_s",
)
CONDITION = "source-down"
LIMIT_S = 60.0


def run(options: Options) -> Outcome:
    """One Vault and one agent for all of it; the sidecar at its default runs beside."""
    outcome = Outcome()
    with VaultWorld.started() as made, Sidecar.started(made, "default") as slow:
        world = made.world
        made.put("default", value(1))
        world.start_agent()
        publish_many(made)
        made.put("one", value(1))
        pod = made.shown("one", "one")
        reader = world.start(world.command(pod, "first", pod.target / "one"))
        say("rotations by a poll of one second")
        times = timed(reader, lambda new: made.put("one", new), rounds := options.rounds(100, 8), 1.0)
        outcome.figures += _polled(times)
        outcome.series["vault_poll_ms"] = distribution(times)
        slow.wait_rendered()
        written = time.time()
        made.put("default", value(2))
        with PodSidecar.started(made, "fastest") as fast:
            outcome.figures += _beside(made, fast, options.rounds(30, 4))
        if not options.quick:
            outcome.figures.append(_default(slow, written))
        outcome.figures += _outage(made, reader, rounds + 1, options.rounds(300, 15))
    return outcome


def _polled(times: list[float]) -> list[Figure]:
    how = (
        f"{len(times)} writes to KV v2 at any moment of the second: from just before the write's request to the return "
        f"of the first read of the new value, by a C program in a pod that reads all the time, while the agent polls "
        f"{SECRETS} other secrets; at most {max(times):.0f} ms"
    )
    return [
        measured("vault_poll_p50_ms", median(times), how, 1),
        measured("vault_poll_p99_ms", percentile(times, 99), how, 1),
    ]


def _beside(made: VaultWorld, sidecar: PodSidecar, times: int) -> list[Figure]:
    made.put("fastest", value(1))
    reader = made.world.start([str(made.world.tools.path("first")), str(sidecar.wait_rendered())])
    say("the same by Vault Agent, every second")
    found = timed(reader, lambda new: made.put("fastest", new), times, 1.0)
    reader.kill()
    how = (
        f"the sidecar of mode vault-agent, which is the real vault agent 1.21, with one KV v2 secret at a pollInterval "
        f"of 1s, read by the same program: {times} writes, at most {max(found):.0f} ms"
    )
    rss = (
        "resident memory of that process, built without plugins for clouds: a released one is larger; the requests of "
        "its injector's sidecar are 64 Mi and 250m CPU a pod"
    )
    return [
        measured("vault_agent_fastest_p50_ms", median(found), how, 1),
        measured("vault_agent_rss_mb", sidecar.rss_mb(), rss, 1),
    ]


def _default(sidecar: Sidecar, written: float) -> Figure:
    """One write, at whatever moment of its interval the rest left it."""
    say("Vault Agent at its default: up to 6 minutes")
    _until(lambda: sidecar.shows(value(2)), time.monotonic(), 420.0)
    how = (
        "the real vault agent 1.21 with a template of a KV v2 secret and no interval set (5 minutes): one write at any "
        "moment of that, to the file's time of change"
    )
    return measured("vault_agent_default_s", sidecar.changed() - written, how, 1)


def _outage(made: VaultWorld, reader: subprocess.Popen[bytes], last: int, seconds: float) -> list[Figure]:
    """The reader reads all the time: one that met an empty or failed read has ended, and `wait_for` says so."""
    made.vault.stop()
    gone = time.monotonic()
    noticed = _until(lambda: _is_held(made.world), gone, LIMIT_S)
    say(f"Vault is away for {seconds:g} s")
    while (left := gone + seconds - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        if not _is_held(made.world):
            raise RuntimeError("the agent served old values and did not say so")
        if reader.poll() is not None:
            raise RuntimeError("the reader met a failed or empty read")
    made.vault.start()
    back = made.put("one", value(last + 1))
    seen = wait_for(reader, last + 1, LIMIT_S)
    _until(lambda: not _is_held(made.world), time.monotonic(), LIMIT_S)
    how = (
        f"Vault ended for {seconds:g} s, with {SECRETS + 1} secrets polled; started, unsealed and written to at once: "
        f"from that write to its first read; the condition {CONDITION} was held all the while, every read gave the "
        f"last good value"
    )
    notice = f"from the end of Vault's process to the condition {CONDITION} in the agent's status"
    return [
        measured("outage_recovery_s", (seen - back) / 1e9, how, 2),
        measured("outage_notice_s", noticed, notice, 2),
    ]


def _is_held(world: World) -> bool:
    return any(one["reason"] == CONDITION for one in world.status()["conditions"])


def _until(done: Callable[[], bool], began: float, limit_s: float) -> float:
    """Seconds since `began` at which it was so."""
    while not done():
        if time.monotonic() - began > limit_s:
            raise RuntimeError(f"did not come in {limit_s:g} s")
        time.sleep(0.02)
    return time.monotonic() - began
