"""From the source's change to a reader's first new byte: one volume alone, and one of 250 that share the secret."""

from __future__ import annotations

import random
import select
import struct
import subprocess
import time
from collections.abc import Callable

from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.results import Series
from bench.stats import median, percentile, quantiles
from bench.world import World

FIGURES = ("rotation_1_p50_ms", "rotation_1_p99_ms", "rotation_250_p50_ms", "rotation_250_p99_ms")
RECORD = struct.Struct("=QQ")
LIMIT_S = 10.0
LONGEST_PAUSE_S = 0.01


class NeverSeen(RuntimeError):
    """A reader did not see a new value in ten seconds, or ended."""


def run(options: Options) -> Outcome:
    """One world; the second half with 249 volumes more."""
    outcome = Outcome()
    many = options.rounds(250, 40)
    with World() as world:
        world.write_secret("one", {"key": value(1)})
        world.write_secret("many", {f"key{n}": value(1) for n in range(4)})
        world.interceptor("one", {"one": [("value", "key")]})
        world.interceptor("many", {"many": [(f"value{n}", f"key{n}") for n in range(4)]})
        world.start_agent()
        pod = world.add_pod("one")
        world.publish(pod)
        reader = world.start(world.command(pod, "first", pod.target / "value"))
        times = rotate(world, reader, "one", "key", options.rounds(400, 60))
        outcome.figures += figures("rotation_1", times, "the only volume")
        outcome.series["rotation_1_ms"] = distribution(times)
        reader.kill()
        pods = [world.add_pod("many") for _ in range(many)]
        say(f"publishing {many} volumes that share one secret")
        for pod in pods:
            world.publish(pod)
        # The volume that is told last.
        reader = world.start(world.command(pods[-1], "first", pods[-1].target / "value0"))
        times = rotate(world, reader, "many", "key0", options.rounds(400, 60))
        outcome.figures += figures("rotation_250", times, f"the last of {many} volumes that all show the secret")
        outcome.series["rotation_250_ms"] = distribution(times)
    return outcome


def value(number: int) -> bytes:
    """The value of a number; its length changes with it, so that sizes have to follow."""
    return f"{number:020d}".encode() + b"x" * (12 + number % 5 * 16)


def rotate(world: World, reader: subprocess.Popen[bytes], path: str, key: str, times: int) -> list[float]:
    """Change the secret so often, each time when the reader has the last value and a while has passed; ms each."""
    say(f"{times} rotations of {path}")
    return timed(reader, lambda new: world.change_secret(path, key, new), times, LONGEST_PAUSE_S)


def timed(
    reader: subprocess.Popen[bytes], change: Callable[[bytes], int], times: int, pause_s: float, first: int = 1
) -> list[float]:
    """As `rotate`, by any `change`, which gives CLOCK_MONOTONIC ns just before it; the value of `first` is there."""
    dice = random.Random(times)
    wait_for(reader, first)
    found = []
    for number in range(first + 1, first + times + 1):
        # Not in step with anything that is done at intervals.
        time.sleep(dice.uniform(0, pause_s))
        before = change(value(number))
        found.append((wait_for(reader, number) - before) / 1e6)
    return found


def wait_for(reader: subprocess.Popen[bytes], number: int, limit_s: float = LIMIT_S) -> int:
    """CLOCK_MONOTONIC ns at which the reader first saw this value. Raises NeverSeen."""
    assert reader.stdout is not None
    while True:
        if not select.select([reader.stdout], [], [], limit_s)[0]:
            raise NeverSeen(f"value {number} did not come in {limit_s:g} s")
        record = reader.stdout.read(RECORD.size)
        if len(record) < RECORD.size:
            raise NeverSeen(f"the reader ended with {reader.wait()} before value {number}")
        seen, at = RECORD.unpack(record)
        if seen == number:
            return int(at)
        if seen > number:
            raise NeverSeen(f"value {seen} came before {number}")


def distribution(times: list[float]) -> Series:
    """x: percent of rotations, y: ms that they took at most."""
    return Series([float(step) for step in range(101)], [round(ms, 4) for ms in quantiles(times)])


def figures(name: str, times: list[float], where: str) -> list[Figure]:
    """Median and p99."""
    how = (
        f"{len(times)} rotations: from just before the rename that changes the source's file to the return of the "
        f"first read of the new value, by a C program in a pod that reads all the time; {where}; the length changes "
        f"too; at most {max(times):.2f} ms"
    )
    return [
        measured(f"{name}_p50_ms", median(times), how),
        measured(f"{name}_p99_ms", percentile(times, 99), how),
    ]
