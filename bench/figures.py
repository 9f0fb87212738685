"""What each figure is: its unit, its goal, and what it says. A new figure is one more line here and a family that
measures it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

LESS = "<"
AT_MOST = "<="
MORE = ">"
RELATIONS: Mapping[str, Callable[[float, float], bool]] = {LESS: operator.lt, AT_MOST: operator.le, MORE: operator.gt}


@dataclass(frozen=True, slots=True)
class Spec:
    """A figure as it is promised. Without a `limit` it only informs."""

    name: str
    unit: str
    title: str
    limit: float | None = None
    relation: str = LESS

    @property
    def goal(self) -> str:
        """As it stands in the results, for example `< 5 us`; empty where nothing is promised."""
        return "" if self.limit is None else f"{self.relation} {self.limit:g} {self.unit}".strip()

    def share_of_goal(self, value: float) -> float | None:
        """How much of what the goal allows a value takes: more than 1 misses it. None where nothing is promised."""
        if not self.limit:
            return None
        if self.relation == MORE:
            return self.limit / value if value > 0 else math.inf
        return value / self.limit

    def is_met_by(self, value: float) -> bool:
        """Whether a value keeps the promise. What is not a number keeps none."""
        if self.limit is None:
            return True
        return RELATIONS[self.relation](value, self.limit)


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure as it was measured. `how` says by what, in a sentence or two; `goal` is empty where none is set."""

    name: str
    value: float
    unit: str
    goal: str
    how: str


SPECS = (
    Spec("read_32b_over_tmpfs_us", "us", "open+read+close of 32 B, over tmpfs", 5),
    Spec("read_4k_over_tmpfs_us", "us", "open+read+close of 4 KB, over tmpfs", 5),
    Spec("read_32b_to_eof_over_tmpfs_us", "us", "32 B read until nothing comes, over tmpfs"),
    Spec("read_4k_to_eof_over_tmpfs_us", "us", "4 KB read until nothing comes, over tmpfs"),
    Spec("rotation_1_p50_ms", "ms", "source's change to first new byte, 1 volume, median", 20),
    Spec("rotation_1_p99_ms", "ms", "source's change to first new byte, 1 volume, p99", 100),
    Spec("rotation_250_p50_ms", "ms", "source's change to first new byte, 250 volumes, median", 20),
    Spec("rotation_250_p99_ms", "ms", "source's change to first new byte, 250 volumes, p99", 100),
    Spec("flips_shared_by_1000", "", "flips for one change of a value that 1,000 volumes share", 1, AT_MOST),
    Spec("last_of_1000_visible_ms", "ms", "until the last of 1,000 volumes shows content, size, notification", 100),
    Spec("kernel_kb_per_pod", "KB", "kernel memory of a pod with four files of 1 KB", 64),
    Spec("kernel_fixed_mb", "MB", "kernel memory of a node that serves no volume yet"),
    Spec("agent_rss_mb_250_pods", "MB", "the agent's RSS with 250 pods of four files", 100),
    Spec("publish_p50_ms", "ms", "publish of a volume of four files, median", 10),
    Spec("publish_p99_ms", "ms", "publish of a volume of four files, p99"),
    Spec("adopt_1000_s", "s", "1,000 volumes taken over by a restarted agent", 2),
    Spec("restart_1000_s", "s", "the same from the start of the process"),
    Spec("torn_reads_of_100000", "", "torn, failed or empty reads in 100,000 during 1,000 rotations", 0, AT_MOST),
    Spec("unmanaged_fork_percent", "%", "fork of a process that is in no pod of ours: cost added", 1),
    Spec("unmanaged_read_percent", "%", "open+read+close of such a process: cost added", 1),
    Spec("unmanaged_exec_percent", "%", "exec of such a process: cost added"),
    Spec("unmanaged_thread_percent", "%", "thread of such a process: cost added"),
    Spec("webhook_5k_rps_core", "/s", "reviews of 5 KB that the webhook answers on one core"),
    Spec("webhook_20k_rps_core", "/s", "reviews of 20 KB that the webhook answers on one core", 4000, MORE),
    Spec("webhook_50k_rps_core", "/s", "reviews of 50 KB that the webhook answers on one core"),
    Spec("webhook_20k_cpu_us", "us", "the webhook's CPU time for a review of 20 KB", 250),
    Spec("webhook_20k_p50_half_load_ms", "ms", "reviews of 20 KB at half of that rate, median"),
    Spec("webhook_20k_p99_half_load_ms", "ms", "reviews of 20 KB at half of that rate, p99", 5),
    Spec("webhook_rss_mb", "MB", "the webhook's RSS with 1,000 nodes and 200 interceptors", 90),
    Spec("webhook_rss_growth_mb", "MB", "growth of it over 1,000,000 reviews", 5),
    Spec("webhook_create_share_ms", "ms", "the webhook's share of the creation of a pod"),
    Spec("vault_poll_p50_ms", "ms", "write to Vault to first new byte by a poll of 1 s, median", 600),
    Spec("vault_poll_p99_ms", "ms", "write to Vault to first new byte by a poll of 1 s, p99"),
    Spec("vault_push_p50_ms", "ms", "write to Vault to first new byte by a signed push, median", 50),
    Spec("vault_push_p99_ms", "ms", "write to Vault to first new byte by a signed push, p99"),
    Spec("vault_agent_fastest_p50_ms", "ms", "the same by Vault Agent's template every second, median"),
    Spec("vault_agent_default_s", "s", "the same by Vault Agent's template as it is by default"),
    Spec("vault_agent_rss_mb", "MB", "RSS of one Vault Agent, of which each pod has one"),
    Spec("kubernetes_p50_ms", "ms", "change of a Kubernetes Secret to first new byte, median", 30),
    Spec("kubernetes_p99_ms", "ms", "change of a Kubernetes Secret to first new byte, p99"),
    Spec("poll_500_cpu_percent", "%", "CPU of the agent that polls 500 secrets of Vault every second", 20),
    Spec("rapid_fire_lost", "", "last values lost in 10,000 pushes in 10 s", 0, AT_MOST),
    Spec("rapid_fire_flips_per_s", "/s", "flips of the secret a second meanwhile", 11, AT_MOST),
    Spec("rapid_fire_rss_growth_mb", "MB", "growth of the agent's RSS meanwhile", 5),
    Spec("failed_queries_50_rotations", "", "failed queries in 50 rotations of a database's credentials", 0, AT_MOST),
    Spec("undropped_roles_50_rotations", "", "roles of them that are left in the database", 0, AT_MOST),
    Spec("outage_recovery_s", "s", "Vault back after 5 minutes to first new byte", 5),
    Spec("outage_notice_s", "s", "Vault gone to the agent's condition that says so", 10),
    Spec("shim_open_us", "us", "open of a live file under the shim: time added", 2),
    Spec("shim_open_whole_us", "us", "the same open and its close, all of it"),
    Spec("shim_other_call_ns", "ns", "any other call under the shim: time added", 50),
    Spec("shim_rewind_us", "us", "lseek to the beginning of a held live file: time added"),
    Spec("mode_tmpfs_p50_ms", "ms", "source's change to first new byte, ordinary files, median"),
    Spec("mode_tmpfs_p99_ms", "ms", "source's change to first new byte, ordinary files, p99"),
    Spec("mode_preload_p50_ms", "ms", "the same by a descriptor held open under the shim, median"),
    Spec("mode_preload_p99_ms", "ms", "the same by a descriptor held open under the shim, p99"),
    Spec("mode_tmpfs_kb_per_pod", "KB", "kernel memory of a pod with four ordinary files of 1 KB"),
    Spec("mode_preload_kb_per_process", "KB", "memory that the shim takes in each process of its own"),
    Spec("shim_program_errors", "", "errors of real programs under the shim in a minute of rotations", 0, AT_MOST),
    Spec("shim_program_reads", "", "their reads meanwhile"),
    Spec("shim_program_rotations", "", "rotations meanwhile"),
)
BY_NAME = {spec.name: spec for spec in SPECS}


def measured(name: str, value: float, how: str, digits: int = 3) -> Figure:
    """A figure of a known name. Raises KeyError for a name that `SPECS` lacks."""
    spec = BY_NAME[name]
    return Figure(name, round(float(value), digits), spec.unit, spec.goal, how)


def missed(figures: Sequence[Figure]) -> list[Figure]:
    """Those that are not within their goal."""
    return [figure for figure in figures if not BY_NAME[figure.name].is_met_by(figure.value)]


def in_order(figures: Sequence[Figure]) -> list[Figure]:
    """As `SPECS` has them, whichever family measured first."""
    places = {spec.name: place for place, spec in enumerate(SPECS)}
    return sorted(figures, key=lambda figure: places[figure.name])
