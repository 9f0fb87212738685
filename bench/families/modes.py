"""What the other modes of a node reach: ordinary files, opened again or held open under the shim, and their memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from agent.delivery.shims import LIBRARY
from bench import meminfo
from bench.families.rotation import distribution, rotate, value
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.stats import median, percentile, slope
from bench.world import WAIVED, Pod, World
from kernelsecret.interceptor import Mode
from kernelsecret.names import ENV_PRELOAD, ENV_SHIM_PATHS

FIGURES = (
    "mode_tmpfs_p50_ms",
    "mode_tmpfs_p99_ms",
    "mode_preload_p50_ms",
    "mode_preload_p99_ms",
    "mode_tmpfs_kb_per_pod",
    "mode_preload_kb_per_process",
)
FILES, BYTES, STEP = 4, 1024, 20


def run(options: Options) -> Outcome:
    """One world, whose agent serves by ordinary files."""
    outcome = Outcome()
    pods = options.rounds(200, 60)
    with World({"ENGINE": "tmpfs"}) as world:
        for name in ("again", "held"):
            world.write_secret(name, {"key": value(1)})
            world.interceptor(name, {name: [("value", "key")]}, access=WAIVED)
        own = {f"key{n}": os.urandom(BYTES) for n in range(FILES)}
        world.write_secret("own", own)
        world.interceptor("own", {"own": [(f"{key}.txt", key) for key in own]}, access=WAIVED)
        others = [world.add_pod("own") for _ in range(pods)]
        world.start_agent()
        _rotations(outcome, world, options.rounds(400, 60))
        _memory(outcome, world, others)
    return outcome


def _rotations(outcome: Outcome, world: World, times: int) -> None:
    how = "{times} rotations: as rotation_1_p50_ms, by a C program that {does}; at most {most:.2f} ms"
    again = world.add_pod("again")
    world.publish(again)
    reader = world.start(world.command(again, "first", again.target / "value"))
    found = rotate(world, reader, "again", "key", times)
    reader.kill()
    said = how.format(times=times, does="opens the file anew for each read", most=max(found))
    outcome.figures += [
        measured("mode_tmpfs_p50_ms", median(found), said),
        measured("mode_tmpfs_p99_ms", percentile(found, 99), said),
    ]
    outcome.series["mode_tmpfs_ms"] = distribution(found)

    held = world.add_pod("held", mode=Mode.PRELOAD)
    world.publish(held)
    reader = _held(world, held)
    found = rotate(world, reader, "held", "key", times)
    said = how.format(times=times, does="holds one descriptor open under the shim and rewinds it", most=max(found))
    outcome.figures += [
        measured("mode_preload_p50_ms", median(found), said),
        measured("mode_preload_p99_ms", percentile(found, 99), said),
        _shim_in(reader.pid),
    ]
    outcome.series["mode_preload_ms"] = distribution(found)
    reader.kill()


def _held(world: World, pod: Pod) -> subprocess.Popen[bytes]:
    shimmed = (f"{ENV_PRELOAD}={LIBRARY}", f"{ENV_SHIM_PATHS}={pod.target}")
    command = world.inside(pod, Path("/usr/bin/env"), *shimmed, world.tools.path("held"), pod.target / "value")
    return world.start(command)


def _shim_in(pid: int) -> Figure:
    how = "private pages of the shim's mappings in the C program that held a descriptor, its tables included, by smaps"
    private, name = 0, ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            # What follows a library's last part without a name is its zeroed data.
            name = words[5] if len(words) > 5 else name
        elif name == str(LIBRARY) and words[0].startswith("Private_"):
            private += int(words[1])
    return measured("mode_preload_kb_per_process", private, how, 0)


def _memory(outcome: Outcome, world: World, pods: list[Pod]) -> None:
    """As families.node counts a pod of the engine `iter`."""
    say(f"publishing {len(pods)} volumes of {FILES} ordinary files")
    looks = [(0.0, float(meminfo.by_part(meminfo.settled())))]
    for number, pod in enumerate(pods, 1):
        world.publish(pod)
        if number % STEP == 0:
            looks.append((number, meminfo.by_part(meminfo.read())))
    how = (
        f"as kernel_kb_per_pod, over {len(pods)} pods with {FILES} files of {BYTES} B each; ordinary files of two pods"
        " share nothing"
    )
    outcome.figures.append(measured("mode_tmpfs_kb_per_pod", slope(looks), how, 1))
