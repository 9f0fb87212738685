"""A thousand pods that share one value: what a change costs, when the last of them shows it, and a killed agent's way
back to all of them.
"""

from __future__ import annotations

import os
import select
import struct
import time

from agent.kernel.layout import Limit, Set
from agent.kernel.tables import Table
from bench.agent_process import PROBED, READY
from bench.families.rotation import NeverSeen, value
from bench.figures import measured
from bench.options import Options, Outcome, say
from bench.results import Series
from bench.stats import median, quantiles
from bench.world import Pod, World

FIGURES = ("flips_shared_by_1000", "last_of_1000_visible_ms", "adopt_1000_s", "restart_1000_s")
RECORD = struct.Struct("=QQQQ")
LIMIT_S = 30.0
FIRST_UID = 100_000
READABLE_MODE = "0444"
QUIET_S = 0.3
"""Between two rotations, so that every watcher sleeps again."""


class Watchers:
    """One program in each pod, asleep until inotify wakes it; all tell of it through one pipe."""

    def __init__(self, world: World, pods: list[Pod]) -> None:
        self._count, self._world = len(pods), world
        self._read, write = os.pipe()
        for number, pod in enumerate(pods):
            # Each pod is another user: the kernel lets one user have 128 inotify instances.
            command = world.command(pod, "notified", str(number), pod.target / "shared0", uid=FIRST_UID + number)
            world.start(command, stdout=write)
        os.close(write)

    def wait_for(self, number: int) -> list[int]:
        """CLOCK_MONOTONIC ns at which each of them, woken, had seen the value and its size. Raises NeverSeen."""
        at: dict[int, int] = {}
        while len(at) < self._count:
            if not select.select([self._read], [], [], LIMIT_S)[0]:
                left = self._count - len(at)
                why = self._world.complaint()
                raise NeverSeen(f"value {number}: {left} of {self._count} watchers were not told; {why}")
            records = os.read(self._read, RECORD.size * 1024)
            if not records:
                raise NeverSeen(f"the watchers have ended; {self._world.complaint()}")
            for index, seen, ns, _ in RECORD.iter_unpack(records):
                if seen == number:
                    at[index] = ns
        return list(at.values())

    def close(self) -> None:
        """Close the pipe: who writes to it ends."""
        os.close(self._read)


def run(options: Options) -> Outcome:
    """Each volume has two files of the shared secret and two of its pod's own."""
    count = options.rounds(1000, 100)
    outcome = Outcome()
    with World() as world:
        world.write_secret("shared", {f"key{n}": value(1) for n in range(2)})
        for number in range(count):
            world.write_secret(f"own/{number}", {f"key{n}": value(n + 1) for n in range(2)})
            world.interceptor(f"pod-{number}", _files(number), READABLE_MODE)
        world.start_agent()
        pods = [world.add_pod(f"pod-{number}") for number in range(count)]
        say(f"publishing {count} volumes")
        for pod in pods:
            world.publish(pod)
        say(f"starting {count} watchers")
        watchers = Watchers(world, pods)
        try:
            watchers.wait_for(1)
            _rotate(world, watchers, count, options.rounds(25, 5), outcome)
            _adopt(world, watchers, count, options.rounds(5, 2), outcome)
        finally:
            watchers.close()
    return outcome


def _files(number: int) -> dict[str, list[tuple[str, str]]]:
    return {
        "shared": [(f"shared{n}", f"key{n}") for n in range(2)],
        f"own/{number}": [(f"own{n}", f"key{n}") for n in range(2)],
    }


def flips(sets: Table[Set]) -> int:
    """Of all secrets together, as the kernel counts its generations."""
    return sum(sets[slot].current for slot in range(sets.entries))


def _rotate(world: World, watchers: Watchers, count: int, times: int, outcome: Outcome) -> None:
    say(f"{times} rotations of what {count} volumes share")
    last, flipped, every = [], [], []
    with world.table("sets", Set, Limit.SETS) as sets:
        for number in range(2, times + 2):
            time.sleep(QUIET_S)
            before = flips(sets)
            began = world.change_secret("shared", "key0", value(number))
            seen = [(at - began) / 1e6 for at in watchers.wait_for(number)]
            last.append(max(seen))
            every += seen
            flipped.append(flips(sets) - before)
    outcome.series["visible_of_1000_ms"] = Series(
        [float(step) for step in range(101)], [round(ms, 3) for ms in quantiles(every)]
    )
    how = (
        f"{times} rotations of a value in {count} volumes of {count} pods: flips of all secrets of the node, counted "
        "in the kernel's map, for one change; the most of any rotation"
    )
    outcome.figures.append(measured("flips_shared_by_1000", max(flipped), how))
    how = (
        f"from the source's rename until the last of {count} processes, one in each pod, was woken by inotify and had "
        f"seen the new size and read the new content; median of {times} rotations; median pod {median(every):.1f} ms, "
        f"worst rotation {max(last):.1f} ms"
    )
    outcome.figures.append(measured("last_of_1000_visible_ms", median(last), how))


def _adopt(world: World, watchers: Watchers, count: int, times: int, outcome: Outcome) -> None:
    adopting, whole = [], []
    for number in range(times):
        say(f"killing the agent and starting it again ({number + 1} of {times})")
        world.agent.kill()
        agent = world.start_agent()
        adopting.append((agent.at_ns(READY) - agent.at_ns(PROBED)) / 1e9)
        whole.append((agent.at_ns(READY) - agent.started_ns) / 1e9)
        if (adopted := world.status()["adopted"]) != count:
            raise NeverSeen(f"{adopted} of {count} volumes were adopted")
        # That they were adopted is shown by what they do: every pod is told of the next change.
        world.change_secret("shared", "key0", value(1000 + number))
        watchers.wait_for(1000 + number)
    how = (
        f"agent with {count} volumes of four files and {count + 1} secrets killed and started again; from the end of "
        f"its probe to ready, by its log's clock; median of {times}; afterwards every pod saw the next rotation"
    )
    outcome.figures.append(measured("adopt_1000_s", median(adopting), how))
    how = f"from the start of the process (interpreter, imports, hardening, probe) to ready; median of {times}"
    outcome.figures.append(measured("restart_1000_s", median(whole), how))
