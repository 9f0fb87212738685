"""Eight readers of one long value while it rotates a thousand times: is any read anything but one whole value?"""

from __future__ import annotations

import array
import signal
import subprocess
import time
from dataclasses import dataclass

from agent.kernel.layout import Grant, Limit, Set
from agent.kernel.tables import Table
from bench.figures import measured
from bench.options import Options, Outcome, say
from bench.world import World

FIGURES = ("torn_reads_of_100000",)
READERS = 8
BYTES = 48 * 1024
SLOTS = 4
"""Lowest free slot first: the only volume and its secret are among these, also after a probe."""


class TooLittle(RuntimeError):
    """The readers did not read often enough, or saw too few values: the figure would say nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader says of itself, or all together (values: the fewest)."""

    reads: int
    torn: int
    errors: int
    empty: int
    values: int

    @property
    def bad(self) -> int:
        """Reads that were not one whole value."""
        return self.torn + self.errors + self.empty


def value(number: int) -> bytes:
    """A value that proves itself; see bench/c/torn.c."""
    words = BYTES // 8
    return array.array("Q", [number << 32 | (index or words) for index in range(words)]).tobytes()


def run(options: Options) -> Outcome:
    """Eight containers of one pod."""
    rotations, reads = options.rounds(1000, 100), options.rounds(100_000, 5_000)
    with World() as world:
        world.write_secret("long", {"key": value(1)})
        world.interceptor("long", {"long": [("value", "key")]})
        world.start_agent()
        pod = world.add_pod("long", containers=READERS)
        world.publish(pod)
        path = pod.target / "value"
        readers = [world.start(world.command(pod, "torn", path, container=n)) for n in range(READERS)]
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        say(f"{rotations} rotations of {BYTES // 1024} KB under {READERS} readers")
        began = time.monotonic()
        with world.table("sets", Set, Limit.SETS) as sets, world.table("grants", Grant, Limit.GRANTS) as grants:
            number = 1
            # The readers share what time there is; go on until they have read enough.
            while number <= rotations or served(grants) < reads * 1.02:
                number += 1
                world.change_secret("long", "key", value(number))
                # Each rotation is one of its own: the source merges what comes faster than it is taken.
                wait_until_current(sets, number)
        took = time.monotonic() - began
        seen = total([ended(reader) for reader in readers])
    rotations = number - 1
    if seen.reads < reads or seen.values < rotations // 20:
        raise TooLittle(f"{seen.reads} reads, a reader saw only {seen.values} of {rotations} values")
    how = (
        f"{seen.reads} reads by {READERS} C programs of a {BYTES // 1024} KB value in which every word says whose it "
        f"is, during {rotations} rotations in {took:.1f} s; each reader saw at least {seen.values} values; "
        f"{seen.torn} torn, {seen.errors} errors, {seen.empty} empty"
    )
    return Outcome([measured("torn_reads_of_100000", seen.bad, how)])


def wait_until_current(sets: Table[Set], number: int) -> None:
    """Until the kernel serves this generation of the only secret."""
    limit = time.monotonic() + 10
    while max(sets[slot].current for slot in range(SLOTS)) < number:
        if time.monotonic() > limit:
            raise TooLittle(f"generation {number} did not come in 10 s")
        time.sleep(0.0002)


def served(grants: Table[Grant]) -> int:
    """Reads of the only volume."""
    return max(grants[slot].served for slot in range(SLOTS))


def ended(reader: subprocess.Popen[bytes]) -> Seen:
    """Stop a reader and take its word."""
    reader.send_signal(signal.SIGTERM)
    output, _ = reader.communicate(timeout=30)
    return Seen(*map(int, output.split()))


def total(seen: list[Seen]) -> Seen:
    """All readers together; of the values the fewest that one of them saw."""
    return Seen(
        sum(one.reads for one in seen),
        sum(one.torn for one in seen),
        sum(one.errors for one in seen),
        sum(one.empty for one in seen),
        min(one.values for one in seen),
    )
