"""The real webhook beside a real API server: reviews it answers on one core, how fast, in how much memory, and what it
adds to the creation of a pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.creates import Creates, create_pods
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.results import Series
from bench.reviews import packed, reviews
from bench.stats import median, percentile, quantiles
from bench.tools import ToolFailed
from bench.webhook_world import CONNECTIONS, NODES, Load, WebhookWorld
from kernelsecret.names import ANNOTATION_INJECT

KB = (5, 20, 50)
FIGURES = (
    *(f"webhook_{kb}k_rps_core" for kb in KB),
    "webhook_20k_cpu_us",
    "webhook_20k_p50_half_load_ms",
    "webhook_20k_p99_half_load_ms",
    "webhook_rss_mb",
    "webhook_rss_growth_mb",
    "webhook_create_share_ms",
)
ROUNDS = 3
PACED_S = 10
BESIDE = f"{NODES} nodes and 200 interceptors known, policy, metrics and audit included"


def run(options: Options) -> Outcome:
    """Throughput in rounds of all sizes, then half of that paced, then up to a million reviews, then creations."""
    outcome = Outcome()
    each = options.rounds(30_000, 2_000)
    total = options.rounds(1_000_000, 20_000)
    with WebhookWorld.started() as world:
        bodies = {kb: _written(world.folder / f"{kb}k", kb) for kb in KB}
        _prove_that_answers_are_checked(world)
        say("warming up")
        for file in bodies.values():
            world.load(file, each // 3)
        before, done = world.rss_mb(), 0
        full: dict[int, list[Load]] = {kb: [] for kb in KB}
        for number in range(1, ROUNDS + 1):
            say(f"round {number} of {ROUNDS}: {each} reviews of each size, as fast as they are answered")
            for kb, file in bodies.items():
                full[kb].append(world.load(file, each))
        half = median([load.reviews / load.seconds for load in full[20]]) / 2
        say(f"paced: {ROUNDS} rounds of {half:.0f} reviews a second")
        paced = [world.load(bodies[20], options.rounds(int(half * PACED_S), 1_000), half) for _ in range(ROUNDS)]
        done += sum(load.reviews for load in [*paced, *(load for loads in full.values() for load in loads)])
        while done < total:
            say(f"for its memory: {done} of {total} reviews")
            done += world.load(bodies[20], min(total - done, 250_000)).reviews
        after = world.rss_mb()
        say("creating pods")
        creates = create_pods(world, options.rounds(10_000, 300))
    outcome.figures += _throughput(full)
    outcome.figures += _latency(paced, half)
    outcome.figures += _memory(before, after, done)
    outcome.figures.append(_share(creates))
    points = sorted(latency for load in paced for latency in load.latencies)
    outcome.series["webhook_half_load_ms"] = Series([float(step) for step in range(101)], quantiles(points))
    return outcome


def _written(file: Path, kb: int) -> Path:
    file.write_bytes(packed(reviews(kb)))
    return file


def _prove_that_answers_are_checked(world: WebhookWorld) -> None:
    """A pod that does not ask is allowed and not patched: the load generator must not take that for an injection."""
    file = world.folder / "unasked"
    file.write_bytes(packed(body.replace(ANNOTATION_INJECT.encode(), b"example.com/inject") for body in reviews(5, 1)))
    try:
        world.load(file, 1)
    except ToolFailed as failure:
        if "not answered by an injection" in str(failure):
            return
        raise
    raise RuntimeError("the load generator takes any answer for an injection")


def _throughput(full: dict[int, list[Load]]) -> list[Figure]:
    figures = []
    for kb, loads in full.items():
        rates = [load.reviews / load.seconds for load in loads]
        own = median([load.own_cpu_s / load.reviews * 1e6 for load in loads])
        how = (
            f"{CONNECTIONS} TLS connections with keep-alive, reviews of {kb} KB whose pods are injected, webhook on "
            f"one core and load ({own:.0f} us a review) on another; {BESIDE}; every answer checked; median of "
            f"{len(loads)} rounds of {loads[0].reviews}: {_listed(rates, 0)}"
        )
        figures.append(measured(f"webhook_{kb}k_rps_core", median(rates), how, 0))
    costs = [load.server_cpu_s / load.reviews * 1e6 for load in full[20]]
    how = f"user and system time of the webhook's process in the same rounds, by /proc/PID/stat: {_listed(costs, 1)} us"
    figures.append(measured("webhook_20k_cpu_us", median(costs), how, 1))
    return figures


def _latency(paced: Sequence[Load], rate: float) -> list[Figure]:
    figures = []
    for percent in (50, 99):
        found = [percentile(load.latencies, percent) for load in paced]
        how = (
            f"reviews of 20 KB that arrive by chance (Poisson), {rate:.0f} a second, half of what the core can answer; "
            f"each timed from when it arrived, also where it waited for one of {CONNECTIONS} connections; median of "
            f"{len(paced)} rounds of {paced[0].reviews}: {_listed(found, 2)} ms"
        )
        figures.append(measured(f"webhook_20k_p{percent}_half_load_ms", median(found), how))
    return figures


def _memory(before: float, after: float, done: int) -> list[Figure]:
    how = f"resident memory of the process after {done} reviews of 5, 20 and 50 KB; {BESIDE}"
    growth = f"the same less what it was before them, warmed up ({before:.1f} MB)"
    return [
        measured("webhook_rss_mb", after, how, 1),
        measured("webhook_rss_growth_mb", after - before, growth, 1),
    ]


def _share(creates: Creates) -> Figure:
    how = (
        f"mutation and validation as the API server itself timed them, means of {creates.pods} creations one after the "
        f"other: {creates.mutate_ms:.2f} + {creates.validate_ms:.2f} ms; a creation took {creates.asked_ms:.2f} ms "
        f"(median), one without the annotation {creates.plain_ms:.2f} ms; API server, etcd and their client share the "
        f"other core"
    )
    return measured("webhook_create_share_ms", creates.mutate_ms + creates.validate_ms, how)


def _listed(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
