"""A minute of real programs under the shim while the secret that they read rotates: does any of them meet an error?"""

from __future__ import annotations

import asyncio

from bench.figures import measured
from bench.options import Options, Outcome, say
from tests.agent.harness import Node
from tests.agent.opening import opened
from tests.agent.preload.matrix import RATE
from tests.agent.preload.node_place import meet
from tests.agent.preload.place import lack

FIGURES = ("shim_program_errors", "shim_program_reads", "shim_program_rotations")
SECONDS, QUICK_SECONDS = 60, 5


def run(options: Options) -> Outcome:
    """One pod in the mode `preload` with a container for each program."""
    if what := lack():
        raise RuntimeError(f"measured with real programs, and this machine has not {what}")
    seconds = options.rounds(SECONDS, QUICK_SECONDS)
    say(f"{seconds} s of up to {RATE:g} rotations a second")
    with opened(Node) as node:
        asyncio.run(node.started())
        outcome = meet(node, seconds)
    for name, seen in outcome.seen.items():
        for fault in seen.faults:
            say(f"{name}: {fault}")
    reads = {name: seen.total for name, seen in sorted(outcome.seen.items())}
    refused = sum(seen.refused for seen in outcome.seen.values())
    how = (
        f"{outcome.rotations} rotations in {outcome.seconds:.0f} s under {len(reads)} programs at once, each in a "
        f"container of one pod in the mode preload; reads: {', '.join(f'{name} {n}' for name, n in reads.items())}. "
        f"An error is a read that fails, is not one whole version or is older than the one before it, a handshake or a "
        f"login that fails, and a program that does not have the last version at the end"
    )
    again = f"; {refused} reloads of nginx met two versions in one file and were made again" if refused else ""
    return Outcome(
        [
            measured("shim_program_errors", outcome.errors, how + again, 0),
            measured("shim_program_reads", sum(reads.values()), "reads of all programs in that time", 0),
            measured("shim_program_rotations", outcome.rotations, "versions that the agent showed meanwhile", 0),
        ]
    )
