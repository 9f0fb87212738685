"""What it costs the agent to poll 500 secrets of a real Vault every second, while nothing changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.families.rotation import value
from bench.figures import measured
from bench.options import Options, Outcome, say
from bench.stats import median
from bench.vault_world import VaultWorld

FIGURES = ("poll_500_cpu_percent",)
SECRETS = 500
A_VOLUME = 63
VOLUMES = -(-SECRETS // A_VOLUME)
SETTLE_S = 5.0
ROUNDS = 3
TICKS = os.sysconf("SC_CLK_TCK")


def run(options: Options) -> Outcome:
    """One agent, three rounds: how busy the machine's other tenants are changes from one to the next."""
    outcome = Outcome()
    seconds = options.rounds(20, 5)
    with VaultWorld.started() as made:
        made.world.start_agent()
        publish_many(made)
        # What publishing costs is none of polling.
        time.sleep(SETTLE_S)
        since, began = made.vault.audit.mark(), time.monotonic()
        found = []
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}: polling for {seconds:g} s")
            found.append(_percent(made.world.agent.pid, seconds))
        took = time.monotonic() - began
        polls = len(made.vault.audit.requests(f"{made.kv}/metadata/", since=since)) / took
    how = (
        f"user and system time of the agent by /proc/PID/stat, while nothing changes: {SECRETS} secrets of KV v2 in "
        f"{VOLUMES} volumes, each polled every second over TLS ({polls:.0f} a second, by Vault's audit log); median of "
        f"{', '.join(f'{percent:.1f}' for percent in found)} over {seconds:g} s each"
    )
    outcome.figures.append(measured("poll_500_cpu_percent", median(found), how, 1))
    return outcome


def publish_many(made: VaultWorld) -> None:
    """Show so many secrets."""
    say(f"writing and publishing {SECRETS} secrets")
    names = [f"s{number}" for number in range(SECRETS)]
    for name in names:
        made.put(name, value(1))
    for first in range(0, SECRETS, A_VOLUME):
        made.shown(f"many-{first}", *names[first : first + A_VOLUME])


def _percent(pid: int, seconds: float) -> float:
    began, used = time.monotonic(), _cpu_s(pid)
    time.sleep(seconds)
    return 100 * (_cpu_s(pid) - used) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
